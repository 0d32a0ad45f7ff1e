-- onboarding_start.lua: begin the onboarding of a workspace, unless there is one.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3 onboarding, hash (lib/document.lua): v version, s step, z status, u owner,
--            c begun, t changed, d completed, x ends unless it is changed (0: never), i from a
--            change to the end (0: never), all in ms
--          4 what is due under the workspace
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10, 11 the body before and after the version
--          12 now, ms   13 step   14 owner   15 from a change to the end, ms, 0 for never
--          16 member of what is due
--          17- its first data, a patch (lib/document.lua)
-- returns  {1 begun | 0 there is one | 2 there is one whose time is up | 4 too many fields,
--           1 first of its hour | 0, all of the hash as it is now}
--
-- What ended leaves its version behind for 400 days, so that versions rise.

-- include event_log
-- include document

local found = read_document(KEYS[3])
if found.z then
  if found.x ~= '0' and tonumber(ARGV[12]) >= tonumber(found.x) then
    return {2, 0, {}}
  end
  return {0, 0, flatten(found)}
end
if refuse_patch(found, 17) then
  return {4, 0, flatten(found)}
end

local version = string.format('%.0f', tonumber(found.v or '0') + 1)
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10] .. version .. ARGV[11])
if err then
  return err
end
local ends = '0'
if ARGV[15] ~= '0' then
  ends = string.format('%.0f', ARGV[12] + ARGV[15])
end
patch_document(KEYS[3], found, 17, {'v', version, 's', ARGV[13], 'z', 'started', 'u', ARGV[14],
  'c', ARGV[12], 't', ARGV[12], 'x', ends, 'i', ARGV[15]})
if version ~= '1' then
  redis.call('PERSIST', KEYS[3])
end
if ends ~= '0' then
  redis.call('ZADD', KEYS[4], ends, ARGV[16])
end
return {1, hourly, flatten(found)}
