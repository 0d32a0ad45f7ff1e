-- document: a JSON object as a hash, one field for each of its fields.
--
--   '.' name   text of the value      v   version, rises with every change, from 1
--
-- A patch stands in ARGV (services/documents.py makes it): how many fields there may be, how
-- many the patch has, and for each of these four: its name in the hash, what is done with it
-- ('=' set, '-' remove, '?' set if it still holds the third, '' being nothing), what it held,
-- what it gets.
--
-- read_document(key)               all of the hash: its fields by name
-- refuse_patch(found, at)          'moved' if a field holds another text by now, 'full' if
--                                  there would be too many, else nil
-- patch_document(key, found, at, extra)
--                                  write the patch, and the names and values in extra; found
--                                  is brought up to date
-- flatten(found)                   all of it as HGETALL returns it
local function read_document(key)
  local flat, found = redis.call('HGETALL', key), {}
  for at = 1, #flat, 2 do
    found[flat[at]] = flat[at + 1]
  end
  return found
end

local function refuse_patch(found, at)
  local many = 0
  for name in pairs(found) do
    if string.sub(name, 1, 1) == '.' then
      many = many + 1
    end
  end
  local before = many
  for step = at + 2, at + 1 + 4 * tonumber(ARGV[at + 1]), 4 do
    local held = found[ARGV[step]]
    if ARGV[step + 1] == '?' and (held or '') ~= ARGV[step + 2] then
      return 'moved'
    end
    if ARGV[step + 1] == '-' then
      many = held and many - 1 or many
    elseif not held then
      many = many + 1
    end
  end
  if many > tonumber(ARGV[at]) and many > before then
    return 'full'
  end
end

local function patch_document(key, found, at, extra)
  local set, gone = extra, {}
  for step = at + 2, at + 1 + 4 * tonumber(ARGV[at + 1]), 4 do
    if ARGV[step + 1] ~= '-' then
      set[#set + 1] = ARGV[step]
      set[#set + 1] = ARGV[step + 3]
    elseif found[ARGV[step]] then
      gone[#gone + 1] = ARGV[step]
      found[ARGV[step]] = nil
    end
  end
  for step = 1, #set, 2 do
    found[set[step]] = set[step + 1]
  end
  redis.call('HSET', key, unpack(set))
  if #gone > 0 then
    redis.call('HDEL', key, unpack(gone))
  end
end

local function flatten(found)
  local flat = {}
  for name, value in pairs(found) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  return flat
end
