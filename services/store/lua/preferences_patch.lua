-- preferences_patch.lua: change preferences by a merge patch.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3 preferences, hash (lib/document.lua): v version, t time of the change, ms
--          4 op string (optional): that this operation was done
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10, 11 the body before and after the version
--          12 now, ms   13 version expected, '' for any   14 op TTL, ms
--          15- the patch (lib/document.lua)
-- returns  {1 done | 2 done before | 0 a field moved | 3 another version | 4 too many fields,
--           1 first of its hour | 0, all of the hash as it is now}

-- include event_log
-- include document

if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 then
  return {2, 0, redis.call('HGETALL', KEYS[3])}
end
local found = read_document(KEYS[3])
local version = tonumber(found.v or '0')
if ARGV[13] ~= '' and tonumber(ARGV[13]) ~= version then
  return {3, 0, flatten(found)}
end
local refused = refuse_patch(found, 15)
if refused then
  return {refused == 'moved' and 0 or 4, 0, flatten(found)}
end

version = string.format('%.0f', version + 1)
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10] .. version .. ARGV[11])
if err then
  return err
end
patch_document(KEYS[3], found, 15, {'v', version, 't', ARGV[12]})
if KEYS[4] then
  redis.call('SET', KEYS[4], version, 'PX', ARGV[14])
end
return {1, hourly, flatten(found)}
