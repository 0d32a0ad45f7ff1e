-- slots_renew.lua: hold a slot for longer.
--
-- KEYS     1 slots, sorted set (lib/slots.lua)
-- ARGV     1 now, ms   2 holder   3 lease, ms   4 TTL, ms
-- returns  1 renewed | 0 the lease is over: somebody else may have the slot

local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or '')
if not held or held <= tonumber(ARGV[1]) then
  return 0
end
local ends = math.max(held, tonumber(ARGV[1]) + tonumber(ARGV[3]))
redis.call('ZADD', KEYS[1], string.format('%.0f', ends), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
