-- cache_invalidate.lua: have cached values never be seen again, and tell so.
--
-- KEYS     1 log stream, 2 meta hash of the channel that is told
--          3 version   4.. tags, then values, then as many leases, then tags of a value to keep
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10, 11 the body before and after the version
--          12 now, ms   13 how many tags   14 new stamp of the tags   15 TTL of stamp and version, ms
--          16 token of the writer who changes the source, '' for none
--          17 until when (ms) he fences the keys, '' when he is done   18 TTL of that, ms
--          19 pub/sub channel for those who wait, '' for none
--          20, 21 header before the stamps and payload of a value to keep instead (one key), or
--          none of them   22 its TTL, ms   23.. names of its tags
-- returns  {1 done | 2 done, but the value was not kept, 1 first of its hour | 0, version}

-- include event_log

-- Returns those who fence a key, but for one of them, and until when.
local function writers_of(lease, but)
  local names, ends = string.match(lease or '', '^# (%S+) (%d+)$')
  local writers = {}
  if names and tonumber(ends) > tonumber(ARGV[12]) then
    for name in string.gmatch(names, '[^,]+') do
      if name ~= but then
        writers[#writers + 1] = name
      end
    end
  end
  return writers, ends
end

local tags, own = tonumber(ARGV[13]), math.max(#ARGV - 22, 0)
local keys = (#KEYS - 3 - tags - own) / 2
local found = {}  -- leases, then stamps of the value's tags
if keys > 0 then
  found = redis.call('MGET', unpack(KEYS, 4 + tags + keys))
end
local before = tonumber(redis.call('GET', KEYS[3]) or '0') or 0
-- Never one that was there, though the key may have been lost.
local version = string.format('%.0f', math.max(before + 1, tonumber(ARGV[12])))
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10] .. version .. ARGV[11])
if err then
  return err
end

redis.call('SET', KEYS[3], version, 'PX', ARGV[15])
for i = 4, 3 + tags do
  redis.call('SET', KEYS[i], ARGV[14], 'PX', ARGV[15])
end
local code, gone = 1, {}
for i = 1, keys do
  local value_key, lease_key = KEYS[3 + tags + i], KEYS[3 + tags + keys + i]
  gone[#gone + 1] = value_key
  local writers, ends = writers_of(found[i], ARGV[16])
  if ARGV[17] ~= '' then
    writers[#writers + 1] = ARGV[16]
    redis.call('SET', lease_key, '# ' .. table.concat(writers, ',') .. ' ' .. ARGV[17],
      'PX', ARGV[18])
  elseif #writers > 0 then
    -- Others are still at it: their fence stays.
    code = 2
    redis.call('SET', lease_key, '# ' .. table.concat(writers, ',') .. ' ' .. ends,
      'PX', math.max(ends - tonumber(ARGV[12]), 1))
  elseif found[i] then
    gone[#gone + 1] = lease_key
  end
end
if #gone > 0 then
  redis.call('DEL', unpack(gone))
end
if ARGV[20] and code == 1 then
  local header = ARGV[20]
  for i = 1, own do
    local stamp = found[keys + i]
    if not stamp then
      stamp = ARGV[14]
      redis.call('SET', KEYS[3 + tags + 2 * keys + i], stamp, 'PX', ARGV[15])
    end
    header = header .. ' ' .. ARGV[22 + i] .. ' ' .. stamp
  end
  redis.call('SET', KEYS[4 + tags], header .. '\n' .. ARGV[21], 'PX', ARGV[22])
end
if ARGV[19] ~= '' then
  redis.pcall('PUBLISH', ARGV[19], '')
end
return {code, hourly, version}
