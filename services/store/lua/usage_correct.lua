-- usage_correct.lua: put the sums of one day right by a difference, and tell it.
--
-- KEYS     1 log stream, 2 meta hash of the channel   3 account
-- ARGV     1-9 terms of the channel   10 body of the event
--          11 generation of the account   12 DD
--          13-16 cost, tokens in, tokens out, requests of the day as they were read
--          17-20 the same as they are to be   21 the batch they were read from
--          22 how many fields go, then these; then fields and values of the breakdown
-- returns  {1 done, hourly} | {0 something was counted or is pending: look again, 0}

-- include event_log

local day = ARGV[12]
local found = redis.call('HMGET', KEYS[3], 'seeded', day .. ':p', day .. ':c', day .. ':i',
  day .. ':o', day .. ':n', 'c')
if not found[1] or string.match(found[1], '^%S+') ~= ARGV[11] or tonumber(found[2] or '0') > 0 then
  return {0, 0}
end
for sum = 1, 4 do
  if tonumber(found[2 + sum] or '0') ~= tonumber(ARGV[12 + sum]) then
    return {0, 0}
  end
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end
local set = {day .. ':s', ARGV[21], 'c',
  string.format('%.0f', tonumber(found[7] or '0') + ARGV[17] - ARGV[13])}
for sum, name in ipairs({'c', 'i', 'o', 'n'}) do
  set[#set + 1] = day .. ':' .. name
  set[#set + 1] = ARGV[16 + sum]
end
local gone = tonumber(ARGV[22])
if gone > 0 then
  redis.call('HDEL', KEYS[3], unpack(ARGV, 23, 22 + gone))
end
for at = 23 + gone, #ARGV do
  set[#set + 1] = ARGV[at]
end
redis.call('HSET', KEYS[3], unpack(set))
return {1, hourly}
