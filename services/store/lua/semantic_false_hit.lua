-- semantic_false_hit.lua: an entry answered what it is no answer to: be stricter, or remove it.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3-7 entries, index, ends, used, tags (lib/semantic.lua)
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-12 the body around the version and the false hits, if it stays
--          13-14 the body around the version, if it goes
--          15 id   16 distance from which on it is no hit any more   17 false hits that are too
--          many   18 op id
-- returns  {1 stricter | 2 removed | 3 done before, 1 first of its hour | 0, version, false hits}
--          {0 there is none, 0, version, 0}

-- include event_log
-- include semantic

local id = ARGV[15]
local found = redis.call('HMGET', KEYS[3], id, '!' .. id, '#v', '#n', '#b')
local version = tonumber(found[3] or '0')
if not found[1] then
  return {0, 0, version, 0}
end
local limit, times, op = string.match(found[2] or '', '^(%S+) (%d+) (%S+)$')
if op == ARGV[18] then
  return {3, 0, version, tonumber(times)}
end
times = tonumber(times or '0') + 1
if not limit or tonumber(limit) > tonumber(ARGV[16]) then
  limit = ARGV[16]
end
local goes = times >= tonumber(ARGV[17])
version = version + 1
local body = ARGV[13] .. text(version) .. ARGV[14]
if not goes then
  body = ARGV[10] .. text(version) .. ARGV[11] .. text(times) .. ARGV[12]
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, body)
if err then
  return err
end
if goes then
  local gone, freed = drop({id})
  redis.call('HSET', KEYS[3], '#v', text(version),
    '#n', text(math.max(tonumber(found[4] or '0') - gone, 0)),
    '#b', text(math.max(tonumber(found[5] or '0') - freed, 0)))
  return {2, hourly, version, times}
end
redis.call('HSET', KEYS[3], '!' .. id, limit .. ' ' .. text(times) .. ' ' .. ARGV[18],
  '#v', text(version))
return {1, hourly, version, times}
