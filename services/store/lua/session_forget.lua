-- session_forget.lua: take a session that is gone out of a list of sessions.
--
-- KEYS     1 session hash   2 sorted set of sessions
-- ARGV     1 session
-- returns  1 taken out | 0

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
return redis.call('ZREM', KEYS[2], ARGV[1])
