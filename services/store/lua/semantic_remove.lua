-- semantic_remove.lua: entries are out of date: some, those with a tag, or all of them.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3-7 entries, index, ends, used, tags; 8 marks (lib/semantic.lua)
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-12 the body around the version and the ids
--          13-14 the body around the version, saying that all or too many went
--          15 '*' for all of them, '' else   16 ids that a body may hold   17 ms that keys last
--          18 how many ids follow, then these, then tags
-- returns  {1, 1 first of its hour | 0, version, how many went}

-- include event_log
-- include semantic

local now = tonumber(ARGV[5])
local found = redis.call('HMGET', KEYS[3], '#v', '#q', '#f', '#n', '#b', '#d', '#x')
local version = tonumber(found[1] or '0') + 1
-- Never a number that it had before, even if all of this was lost in between.
local queue = math.max(tonumber(found[2] or '0') + 1, now)
local all = ARGV[15] == '*'

local ids, known, marked = {}, {}, {}
local function note(id)
  if not known[id] then
    known[id] = true
    ids[#ids + 1] = id
  end
end
if all then
  marked = {queue, '*'}
else
  local last = 18 + tonumber(ARGV[18])
  for at = 19, last do
    note(ARGV[at])
    marked[#marked + 1] = queue
    marked[#marked + 1] = 'i' .. ARGV[at]
  end
  for at = last + 1, #ARGV do
    local tag = ARGV[at]
    for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[7],
      '[' .. tag .. ' ', '(' .. tag .. '!')) do
      note(string.sub(member, #tag + 2))
    end
    marked[#marked + 1] = queue
    marked[#marked + 1] = tag
  end
end

local body
if all or #ids > tonumber(ARGV[16]) then
  body = ARGV[13] .. text(version) .. ARGV[14]
else
  body = ARGV[10] .. text(version) .. ARGV[11] .. listed(ids) .. ARGV[12]
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, body)
if err then
  return err
end
local floor, lasts = tonumber(found[3] or '0'), tonumber(found[7] or '0')
local many, gone, bytes = tonumber(found[4] or '0'), 0, tonumber(found[5] or '0')
if all then
  redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
  gone, bytes = many, 0
elseif #ids > 0 then
  local freed
  gone, freed = drop(ids)
  bytes = math.max(bytes - freed, 0)
end
redis.call('ZADD', KEYS[8], unpack(marked))
local marks = redis.call('ZCARD', KEYS[8])
if marks > MARKS then
  local lost = redis.call('ZPOPMIN', KEYS[8], marks - MARKS)
  floor = math.max(floor, tonumber(lost[#lost]))
end
-- Marks that were not there before have no end yet.
local renewed = all or marks <= #marked / 2 or lasts < now + tonumber(ARGV[17]) / 2
lasts = renewed and math.max(lasts, now + tonumber(ARGV[17])) or lasts
redis.call('HSET', KEYS[3], '#v', text(version), '#q', text(queue), '#f', text(floor),
  '#n', text(math.max(many - gone, 0)), '#b', text(bytes), '#d', found[6] or '0',
  '#x', text(lasts))
if renewed then
  for at = 3, 8 do
    redis.call('PEXPIRE', KEYS[at], lasts - now)
  end
end
return {1, hourly, version, gone}
