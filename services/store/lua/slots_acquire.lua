-- slots_acquire.lua: take a slot for as long as a lease lasts.
--
-- A holder that has one has its lease renewed. Leases that are over are removed here.
--
-- KEYS     1 slots, sorted set (lib/slots.lua)
-- ARGV     1 now, ms   2 holder   3 lease, ms   4 slots   5 quiet time, ms   6 TTL, ms
-- returns  {1 taken | 0 none is free | -1 none is free and that was not told, slots taken, when
--          the first lease ends, ms (0: there is none)}

-- include slots

local now, ends = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[3])
local slots = tonumber(ARGV[4])
local taken, leases, first, told, over = read_slots(KEYS[1], now)
local held = leases[ARGV[2]]
if not held and taken >= slots then
  return {told and 0 or -1, taken, first or 0}
end
if not held then
  taken = taken + 1
end
redis.call('ZADD', KEYS[1], string.format('%.0f', ends), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if over > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
end
if told and taken < slots and now - told >= tonumber(ARGV[5]) then
  redis.call('ZREM', KEYS[1], '!')
end
return {1, taken, first or ends}
