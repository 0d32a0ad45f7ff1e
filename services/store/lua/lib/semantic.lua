-- semantic: what the scripts of the semantic cache share.
--
-- Five keys of a workspace, in this order from KEYS[3] on:
--
--   entries  hash: <id> an entry as JSON; !<id> "<max distance> <false hits> <op>" once it was
--            wrong; #v version, #q invalidations, #f those no longer known by tag (see marks),
--            #n entries, #b their bytes, #d the time for which due holds, #x when the keys end
--   index    hash: <id> "<bytes> <expires, ms> <tag> ...\n<vector>"
--   ends     sorted set: ids by when they end, ms
--   used     sorted set: ids by when they were used last, ms
--   tags     sorted set, all scores 0: "<tag> <id>"
--
-- and KEYS[8] marks, sorted set: tags by #q when they were last invalidated.
--
-- Tags hold no blank. An entry whose answer was made before one of its tags was invalidated is
-- not kept: the store script is told #q as it was before the answer was made.

local CHUNK = 500
local MARKS = 1000

local function text(number)
  return string.format('%.0f', number)
end

-- The heads of records: bytes, list of tags. What is not there has 0 bytes and no tags.
local function head_of(record)
  local line = record and string.match(record, '^([^\n]*)\n') or ''
  local bytes, _, rest = string.match(line, '^(%d+) (%d+) ?(.*)$')
  local tags = {}
  for tag in string.gmatch(rest or '', '%S+') do
    tags[#tags + 1] = tag
  end
  return tonumber(bytes or '0'), tags
end

-- Remove entries, CHUNK at a time. Returns how many there were and their bytes.
local function drop(ids)
  local many, freed = 0, 0
  for first = 1, #ids, CHUNK do
    local some, fields, tagged = {}, {}, {}
    for at = first, math.min(first + CHUNK - 1, #ids) do
      some[#some + 1] = ids[at]
      fields[#fields + 1] = ids[at]
      fields[#fields + 1] = '!' .. ids[at]
    end
    local records = redis.call('HMGET', KEYS[4], unpack(some))
    for at = 1, #some do
      if records[at] then
        many = many + 1
        local bytes, tags = head_of(records[at])
        freed = freed + bytes
        for _, tag in ipairs(tags) do
          tagged[#tagged + 1] = tag .. ' ' .. some[at]
        end
      end
    end
    redis.call('HDEL', KEYS[3], unpack(fields))
    redis.call('HDEL', KEYS[4], unpack(some))
    redis.call('ZREM', KEYS[5], unpack(some))
    redis.call('ZREM', KEYS[6], unpack(some))
    for at = 1, #tagged, 4 * CHUNK do
      redis.call('ZREM', KEYS[7], unpack(tagged, at, math.min(at + 4 * CHUNK - 1, #tagged)))
    end
  end
  return many, freed
end

-- Ids as the inside of a JSON list; they hold nothing that JSON escapes.
local function listed(ids)
  if #ids == 0 then
    return ''
  end
  return '"' .. table.concat(ids, '","') .. '"'
end
