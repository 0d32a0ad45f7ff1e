-- semantic_store.lua: keep an answer; make room for it.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3-7 entries, index, ends, used, tags; 8 marks (lib/semantic.lua)   9 due
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-12 the body around the version and the ids that had to go
--          13 id   14 entry   15 index record   16 bytes   17 expires, ms
--          18 invalidations before the answer was made, '' if nobody knows
--          19 entries at most   20 bytes at most   21 member of due   22 ms that keys outlive
--          their entries   23- tags
-- returns  {1 kept, 1 first of its hour | 0, version, ids that had to go}
--          {0 made before an invalidation, 0, version, {}}

-- include event_log
-- include semantic

local id, now, expires = ARGV[13], tonumber(ARGV[5]), tonumber(ARGV[17])
local found = redis.call('HMGET', KEYS[3], '#v', '#q', '#f', '#n', '#b', '#d', '#x')
local version, queue = tonumber(found[1] or '0'), tonumber(found[2] or '0')

local tags = {}
for at = 23, #ARGV do
  tags[#tags + 1] = ARGV[at]
end
if ARGV[18] ~= '' and tonumber(ARGV[18]) ~= queue then
  local mark, late = tonumber(ARGV[18]), false
  if queue < mark or tonumber(found[3] or '0') > mark then
    late = true  -- what was invalidated is not known any more
  else
    for _, score in ipairs(redis.call('ZMSCORE', KEYS[8], '*', 'i' .. id, unpack(tags))) do
      late = late or (score and tonumber(score) > mark)
    end
  end
  if late then
    return {0, 0, version, {}}
  end
end

local before = redis.call('HGET', KEYS[4], id)
local old_bytes, old_tags = head_of(before)
local many = tonumber(found[4] or '0') + (before and 0 or 1)
local bytes = tonumber(found[5] or '0') - old_bytes + tonumber(ARGV[16])

local victims, start = {}, 0
local many_after, bytes_after = many, bytes
while many_after > tonumber(ARGV[19]) or bytes_after > tonumber(ARGV[20]) do
  local oldest = redis.call('ZRANGE', KEYS[6], start, start + 31)
  if #oldest == 0 or start >= 2048 then
    break
  end
  start = start + #oldest
  local records = redis.call('HMGET', KEYS[4], unpack(oldest))
  for at = 1, #oldest do
    if oldest[at] ~= id
      and (many_after > tonumber(ARGV[19]) or bytes_after > tonumber(ARGV[20])) then
      victims[#victims + 1] = oldest[at]
      if records[at] then
        many_after = many_after - 1
        bytes_after = bytes_after - head_of(records[at])
      end
    end
  end
end

version = version + 1
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  ARGV[10] .. text(version) .. ARGV[11] .. listed(victims) .. ARGV[12])
if err then
  return err
end
if #victims > 0 then
  local gone, freed = drop(victims)
  many, bytes = many - gone, bytes - freed
end
local due, lasts = tonumber(found[6] or ''), tonumber(found[7] or '0')
local moves = not due or due <= now or expires < due
local outlives = expires + tonumber(ARGV[22])
-- With the first entry come keys that were not there, and so have no end yet.
local renewed = many <= 1 or lasts < expires + tonumber(ARGV[22]) / 2
lasts = math.max(lasts, outlives)
redis.call('HSET', KEYS[3], id, ARGV[14], '#v', text(version), '#n', text(math.max(many, 1)),
  '#b', text(math.max(bytes, 0)), '#d', text(moves and expires or due),
  '#x', text(renewed and lasts or tonumber(found[7])))
redis.call('HSET', KEYS[4], id, ARGV[15])
redis.call('ZADD', KEYS[5], expires, id)
redis.call('ZADD', KEYS[6], now, id)
if #tags > 0 then
  local added, gone, kept = {}, {}, {}
  for _, tag in ipairs(tags) do
    added[#added + 1] = 0
    added[#added + 1] = tag .. ' ' .. id
    kept[tag] = true
  end
  redis.call('ZADD', KEYS[7], unpack(added))
  for _, tag in ipairs(old_tags) do
    if not kept[tag] then
      gone[#gone + 1] = tag .. ' ' .. id
    end
  end
  if #gone > 0 then
    redis.call('ZREM', KEYS[7], unpack(gone))
  end
end
if moves then
  redis.call('ZADD', KEYS[9], expires, ARGV[21])
end
if before then
  redis.call('HDEL', KEYS[3], '!' .. id)  -- another answer, nothing known against it
end
if renewed then
  for at = 3, 8 do
    redis.call('PEXPIRE', KEYS[at], lasts - now)
  end
end
return {1, hourly, version, victims}
