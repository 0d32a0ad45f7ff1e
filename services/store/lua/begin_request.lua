-- begin_request.lua: note that a request is under way, unless it was before.
--
-- KEYS     1 string: the request
-- ARGV     1 what to note   2 how long it holds, ms
-- returns  what was noted before, or nil: this one goes ahead

local noted = redis.call('GET', KEYS[1])
if not noted then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return noted
