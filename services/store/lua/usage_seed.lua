-- usage_seed.lua: begin an account with the sums that the database has.
--
-- KEYS     1 account (services/usage/account.py)
-- ARGV     1 what must stand in it: the word of usage_claim.lua, or what is in `seeded` of one
--            that was begun without the database; '' for nothing (without a database)
--          2 what `seeded` becomes   3 the batch that the sums end with, -1 for no sums yet
--          4 TTL, ms
--          5... fields and values: sums as numbers, names in the breakdown packed, limits
-- returns  1 done | 0 it is another one by now | 2 a later batch was settled: read again

local found = redis.call('HMGET', KEYS[1], 'seeded', 'k', 'f')
local seeded = found[1]
if seeded and seeded ~= ARGV[1] or not seeded and ARGV[1] ~= (found[2] or '') then
  return 0
end
if not seeded and tonumber(ARGV[3]) >= 0 and tonumber(found[3] or '0') > tonumber(ARGV[3]) then
  return 2
end

local set = {'seeded', ARGV[2]}
for at = 5, #ARGV, 2 do
  local field, value = ARGV[at], ARGV[at + 1]
  if seeded and field ~= 'L' and field ~= 'D' then
    -- Counted without the database until now: its sums are added.
    local now = redis.call('HGET', KEYS[1], field)
    if now and string.find(value, ' ', 1, true) then
      local a, b, c, d = string.match(now, '^(%S+) (%S+) (%S+) (%S+)$')
      local e, f, g, h = string.match(value, '^(%S+) (%S+) (%S+) (%S+)$')
      value = string.format('%.0f %.0f %.0f %.0f', a + e, b + f, c + g, d + h)
    elseif now then
      value = string.format('%.0f', now + value)
    end
  end
  set[#set + 1] = field
  set[#set + 1] = value
end
for at = 1, #set, 1000 do
  redis.call('HSET', KEYS[1], unpack(set, at, math.min(at + 999, #set)))
end
if not seeded then
  redis.call('HDEL', KEYS[1], 'k', 'f')
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
