-- session_delete.lua: end a session because somebody wants it.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 messages list   5 ids sorted set
--          6 the workspace's sessions   7 the user's sessions   8 due
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 the user of KEYS 7, who must own it   11 session   12 member of due
--          13-14 the body around the version
-- returns  {DONE, 1 first of its hour | 0} | {MISSING, 0} | {NOT_OWNER, 0}

-- include event_log
-- include session

local found = redis.call('HMGET', KEYS[3], 'u', 'x', 'v')
local refusal = session_refusal(found[1], found[2], tonumber(ARGV[5]), ARGV[10])
if refusal then
  return {refusal, 0}
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  ARGV[13] .. text(found[3] + 1) .. ARGV[14])
if err then
  return err
end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[11])
redis.call('ZREM', KEYS[7], ARGV[11])
redis.call('ZREM', KEYS[8], ARGV[12])
return {DONE, hourly}
