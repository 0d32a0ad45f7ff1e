-- cache_begin.lua: take the lease to load a value, unless there is one, or somebody loads it.
--
-- KEYS     1 value   2 lease   3.. tags
-- ARGV     1 token   2 now, ms   3 lease, ms
--          4 id of the value that the caller has seen and does not want, '' for none
--          5 stamp for tags that have none   6 TTL of tags, ms
-- returns  {0 somebody loads | 3 it cannot be kept | 4 it could not be loaded, until (ms)}
--          {1 the lease is the caller's, now, stamp of each tag...}
--          {2 there is another value, now, the value, stamp of each tag...}

-- include lease

local now = tonumber(ARGV[2])
local found = redis.call('MGET', unpack(KEYS))
local value, lease = found[1], found[2]
local id = value and string.match(value, '^1 (%S+) ')
if id and id ~= ARGV[4] then
  local reply = {2, now, value}
  for i = 3, #KEYS do
    reply[#reply + 1] = found[i] or ''
  end
  return reply
end
if lease then
  local ends = tonumber(string.match(lease, '(%d+)$'))
  -- A holder that is over its time may still live; the fill of whoever comes next counts.
  if ends and ends > now and not holds(lease, ARGV[1]) then
    local mark = string.sub(lease, 1, 1)
    return {mark == '=' and 0 or (mark == '!' and 4 or 3), ends}
  end
end
local stamps = {1, now}
redis.call('SET', KEYS[2],
  '= ' .. ARGV[1] .. ' ' .. string.format('%.0f', now + tonumber(ARGV[3])), 'PX', ARGV[3])
for i = 3, #KEYS do
  local stamp = found[i]
  if not stamp then
    stamp = ARGV[5]
    redis.call('SET', KEYS[i], stamp, 'PX', ARGV[6])
  end
  stamps[#stamps + 1] = stamp
end
return stamps
