-- auth_touch.lua: a login session is used; that it is, is told to nobody.
--
-- KEYS     1 sessions of the user, hash (lib/auth.lua)
-- ARGV     1 public id   2 digest of the secret it is used with   3 now, ms
--          4 not written again within this, ms
-- returns  its text; '' when it is over or has another secret

-- include auth

local text = redis.call('HGET', KEYS[1], ARGV[1])
local session = text and read_session(text)
if not session or session.digest ~= ARGV[2] or tonumber(ARGV[3]) >= tonumber(session.expires) then
  return ''
end
if tonumber(ARGV[3]) - tonumber(session.seen) < tonumber(ARGV[4]) then
  return text
end
see_session(session, ARGV[3])
text = write_session(session)
redis.call('HSET', KEYS[1], ARGV[1], text)
return text
