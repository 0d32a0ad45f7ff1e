-- auth_rotate.lua: give a login session a new secret, and other claims if there are any.
--
-- KEYS     1 log stream, 2 meta hash of auth:{user}
--          3 sessions of the user, hash (lib/auth.lua)
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 body that tells of it
--          11 public id   12 digest of the secret it has   13 digest of the one it gets
--          14 now, ms     15 claims, JSON, '' for those it has
-- returns  {1 done | 2 done before | 0 it is over or has another secret,
--           1 first of its hour | 0, its text}

-- include event_log
-- include auth

local text = redis.call('HGET', KEYS[3], ARGV[11])
local session = text and read_session(text)
if not session or tonumber(ARGV[14]) >= tonumber(session.expires) then
  return {0, 0, ''}
end
if session.digest == ARGV[13] then
  return {2, 0, text}
end
if session.digest ~= ARGV[12] then
  return {0, 0, ''}
end

local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end
session.digest = ARGV[13]
session.version = string.format('%.0f', tonumber(session.version) + 1)
if ARGV[15] ~= '' then
  session.claims = ARGV[15]
end
see_session(session, ARGV[14])
text = write_session(session)
redis.call('HSET', KEYS[3], ARGV[11], text)
return {1, hourly, text}
