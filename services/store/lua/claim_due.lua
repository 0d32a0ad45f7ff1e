-- claim_due.lua: take roots that have something due, for this node alone.
--
-- KEYS     1 due roots, sorted set by when to look   2 claimed roots, by when they come back
-- ARGV     1 now, ms   2 how long a claim holds, ms   3 how many at most
-- returns  {roots, when the next one is due (ms, '' for never)}
--
-- What a node that died had claimed comes back first. Roots are taken out before they are put in:
-- a server without memory lets a script go on that began by removing something, and what is due
-- may be what makes room.

local back = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, root in ipairs(back) do
  redis.call('ZREM', KEYS[2], root)
  redis.call('ZADD', KEYS[1], 'LT', ARGV[1], root)
end

local roots = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, root in ipairs(roots) do
  redis.call('ZREM', KEYS[1], root)
  redis.call('ZADD', KEYS[2], ARGV[1] + ARGV[2], root)
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {roots, next[2] or ''}
