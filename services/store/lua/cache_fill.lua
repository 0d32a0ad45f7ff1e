-- cache_fill.lua: keep a value that was loaded under a lease, unless it may be out of date.
--
-- Every invalidation of the key takes the lease away, and one of a tag changes its stamp. So a
-- lease that is still held, and stamps that are the same, mean that nothing was invalidated
-- since the load began.
--
-- KEYS     1 value   2 lease   3.. tags
-- ARGV     1 token   2 value with its header   3 TTL, ms
--          4 pub/sub channel for those who wait, '' for none   5 what they are told
--          6.. stamp of each tag when the load began
-- returns  1 kept | 0 not

-- include lease

local found = redis.call('MGET', unpack(KEYS, 2))
if not holds(found[1], ARGV[1]) then
  return 0
end
local kept = 1
for i = 2, #found do
  if found[i] ~= ARGV[i + 4] then
    kept = 0
  end
end
if kept == 1 then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
redis.call('DEL', KEYS[2])
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
return kept
