-- semantic_expire.lua: end the entries whose time is up, some hundred of them.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3-7 entries, index, ends, used, tags; 8 marks (lib/semantic.lua)   9 due
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-12 the body around the version and the ids
--          13 member of due   14 entries at most
-- returns  {1 some ended | 0 none did, 1 first of its hour | 0, version, ids, 1 more are due | 0}

-- include event_log
-- include semantic

local now = tonumber(ARGV[5])
local ids = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, ARGV[14])
local found = redis.call('HMGET', KEYS[3], '#v', '#n', '#b')
local version, hourly = tonumber(found[1] or '0'), 0
if #ids > 0 then
  version = version + 1
  local err, _
  err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
    ARGV[10] .. text(version) .. ARGV[11] .. listed(ids) .. ARGV[12])
  if err then
    return err
  end
  local gone, freed = drop(ids)
  redis.call('HSET', KEYS[3], '#v', text(version),
    '#n', text(math.max(tonumber(found[2] or '0') - gone, 0)),
    '#b', text(math.max(tonumber(found[3] or '0') - freed, 0)))
end
local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
if #first == 0 then
  redis.call('ZREM', KEYS[9], ARGV[13])
  redis.call('HDEL', KEYS[3], '#d')
  return {#ids > 0 and 1 or 0, hourly, version, ids, 0}
end
local more = tonumber(first[2]) <= now
-- A moment off, so that nobody takes what is still to do for what cannot be done.
local next_ms = more and now + 1000 or tonumber(first[2])
redis.call('ZADD', KEYS[9], text(next_ms), ARGV[13])
redis.call('HSET', KEYS[3], '#d', text(next_ms))
return {#ids > 0 and 1 or 0, hourly, version, ids, more and 1 or 0}
