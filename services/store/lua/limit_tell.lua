-- limit_tell.lua: tell that a limit is reached, once until something is left again.
--
-- The event and the mark that it was told: both or neither.
--
-- KEYS     1 log stream   2 meta hash   3 the limit, string (lib/limit.lua)
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 now, us   11-14 terms of the limit   15 cost   16 body
-- returns  {1 told | 0 told before, or it is not reached any more, 1 first of its hour | 0}

-- include event_log
-- include limit

local now = tonumber(ARGV[10])
local limit = read_limit(redis.call('GET', KEYS[3]), 11, now)
if limit.told or limit_wait(limit, tonumber(ARGV[15]), now) <= 0 then
  return {0, 0}
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[16])
if err then
  return err
end
limit.told = now
write_limit(KEYS[3], limit, now)
return {1, hourly}
