-- auth_expire.lua: end a login session whose time is up.
--
-- KEYS     1 log stream, 2 meta hash of auth:{user}
--          3 sessions of the user, hash (lib/auth.lua)   4 what is due under the user
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 body that tells that nobody used it   11 body that tells of its last end
--          12 public id   13 now, ms
-- returns  {1 ended | 0 not yet, or not there, 1 first of its hour | 0}
--
-- Uses move the end on without a word to the set of what is due; here it is moved after them.

-- include event_log
-- include auth

local text = redis.call('HGET', KEYS[3], ARGV[12])
if not text then
  redis.call('ZREM', KEYS[4], 'auth:' .. ARGV[12])
  return {0, 0}
end
local session = read_session(text)
if tonumber(ARGV[13]) < tonumber(session.expires) then
  redis.call('ZADD', KEYS[4], session.expires, 'auth:' .. ARGV[12])
  return {0, 0}
end

local body = ARGV[10]
if tonumber(session.expires) >= tonumber(session.ends) then
  body = ARGV[11]
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, body)
if err then
  return err
end
redis.call('HDEL', KEYS[3], ARGV[12])
redis.call('ZREM', KEYS[4], 'auth:' .. ARGV[12])
return {1, hourly}
