-- usage_claim.lua: say that an account is about to be seeded, before the database is read.
--
-- KEYS     1 account (services/usage/account.py)
-- ARGV     1 a random word   2 TTL, ms
-- returns  {1, the word that holds: that of whoever was first} | {0, what is in `seeded`}
--
-- Until it is seeded, settling notes in it which batches it settled, so that nobody seeds it
-- with sums that lack them. An account that was lost again in between has another word.

local found = redis.call('HMGET', KEYS[1], 'seeded', 'k')
if found[1] then
  return {0, found[1]}
end
if found[2] then
  return {1, found[2]}
end
redis.call('HSET', KEYS[1], 'k', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {1, ARGV[1]}
