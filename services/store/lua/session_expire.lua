-- session_expire.lua: end a session whose time is up.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 messages list   5 ids sorted set
--          6 the workspace's sessions   7 the user's sessions   8 due
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 the user of KEYS 7   11 session   12 member of due
--          13-14 the body around the version, if it was idle   15-16 if its longest life is over
-- returns  {DONE, 1 first of its hour | 0} | {MISSING, 0}: nothing to end
--          {LATER, 0}: it was used since, due says when to look again
--          {NOT_OWNER, 0}: it is another user's by now

-- include event_log
-- include session

local found = redis.call('HMGET', KEYS[3], 'u', 'x', 'v', 'e')
if not found[1] then
  redis.call('ZREM', KEYS[6], ARGV[11])
  redis.call('ZREM', KEYS[7], ARGV[11])
  redis.call('ZREM', KEYS[8], ARGV[12])
  return {MISSING, 0}
end
if tonumber(found[2]) > tonumber(ARGV[5]) then
  redis.call('ZADD', KEYS[8], found[2], ARGV[12])
  return {LATER, 0}
end
if found[1] ~= ARGV[10] then
  return {NOT_OWNER, 0}
end
local at = tonumber(found[2]) >= tonumber(found[4]) and 15 or 13
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  ARGV[at] .. text(found[3] + 1) .. ARGV[at + 1])
if err then
  return err
end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[11])
redis.call('ZREM', KEYS[7], ARGV[11])
redis.call('ZREM', KEYS[8], ARGV[12])
return {DONE, hourly}
