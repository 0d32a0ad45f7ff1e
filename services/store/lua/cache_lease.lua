-- cache_lease.lua: go on with a lease, or end it without a value.
--
-- KEYS     1 lease
-- ARGV     1 token   2 what the lease is from now on, '' for nothing   3 TTL of that, ms
--          4 pub/sub channel for those who wait, '' for none   5 what they are told
-- returns  1 done | 0 the lease is not the caller's any more

-- include lease

if not holds(redis.call('GET', KEYS[1]), ARGV[1]) then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
return 1
