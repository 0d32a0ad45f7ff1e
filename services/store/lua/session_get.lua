-- session_get.lua: read a session.
--
-- KEYS     1 session hash   2 messages list
-- ARGV     1 now, ms   2 who must own it, or empty
-- returns  {DONE, the hash (flat), messages} | {MISSING} | {NOT_OWNER}

-- include session

local flat = redis.call('HGETALL', KEYS[1])
local fields = session_fields(flat)
local refusal = session_refusal(fields.u, fields.x, tonumber(ARGV[1]), ARGV[2])
if refusal then
  return {refusal}
end
return {DONE, flat, redis.call('LRANGE', KEYS[2], 0, -1)}
