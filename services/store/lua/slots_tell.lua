-- slots_tell.lua: tell that all slots are taken, once until one is free again.
--
-- The event and the mark that it was told: both or neither.
--
-- KEYS     1 log stream   2 meta hash   3 slots, sorted set (lib/slots.lua)
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 now, ms   11 slots   12 body
-- returns  {1 told | 0 told before, or one is free, 1 first of its hour | 0}

-- include event_log
-- include slots

local taken, _, _, told = read_slots(KEYS[3], tonumber(ARGV[10]))
if told or taken < tonumber(ARGV[11]) then
  return {0, 0}
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[12])
if err then
  return err
end
redis.call('ZADD', KEYS[3], string.format('%.0f', tonumber(ARGV[10]) + 1e15), '!')
return {1, hourly}
