-- approval_restore.lua: bring back an open gate whose own key is gone, so that its end is told;
-- where nothing is left of it, have nothing left of it.
--
-- KEYS     1 gate, hash {v version, g JSON}
--          2 the open ones, sorted set   3 the open ones, hash (approvals_snapshot.lua)
--          4 due, sorted set
-- ARGV     1 gate id   2 gate JSON as in 3, '' for none   3 its version   4 TTL of the gate, ms
--          5 member of due
-- returns  1 there is a gate | 0 there is none, and nothing of it

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
local held = redis.call('HGET', KEYS[3], ARGV[1])
if not held then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[5])
  return 0
end
if held == ARGV[2] then
  redis.call('HSET', KEYS[1], 'v', ARGV[3], 'g', held)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
