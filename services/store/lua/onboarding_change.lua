-- onboarding_change.lua: go on with the onboarding of a workspace, or complete it.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3 onboarding, hash (onboarding_start.lua)   4 what is due under the workspace
--          5 op string (optional): that this operation was done
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10, 11, 12 the body before the version, between it and the step, after the step
--          13 now, ms   14 version expected, '' for any   15 op TTL, ms
--          16 owner expected, '' for any   17 step it gets, '' for the one it has
--          18 status it gets   19 member of what is due
--          20 steps it may have by now, each between two commas, '' for any
--          21- the patch (lib/document.lua)
-- returns  {1 done | 2 done before | 0 a field moved | 3 another version | 4 too many fields |
--           5 there is none | 6 it is another's | 7 it is completed | 8 not from this step,
--           1 first of its hour | 0, all of the hash as it is now}

-- include event_log
-- include document

local found = read_document(KEYS[3])
-- Another user may have the same op id, and is not told of this one's data by it.
if KEYS[5] and (ARGV[16] == '' or ARGV[16] == found.u)
  and redis.call('EXISTS', KEYS[5]) == 1 then
  return {2, 0, flatten(found)}
end
local code
if not found.z or (found.x ~= '0' and tonumber(ARGV[13]) >= tonumber(found.x)) then
  code = 5
elseif ARGV[16] ~= '' and ARGV[16] ~= found.u then
  code = 6
elseif ARGV[14] ~= '' and tonumber(ARGV[14]) ~= tonumber(found.v) then
  code = 3
elseif found.z == 'completed' then
  code = 7
elseif ARGV[20] ~= '' and not string.find(ARGV[20], ',' .. found.s .. ',', 1, true) then
  code = 8
else
  local refused = refuse_patch(found, 21)
  code = refused and (refused == 'moved' and 0 or 4)
end
if code then
  return {code, 0, flatten(found)}
end

local version = string.format('%.0f', tonumber(found.v) + 1)
local step = ARGV[17] ~= '' and ARGV[17] or found.s
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  ARGV[10] .. version .. ARGV[11] .. step .. ARGV[12])
if err then
  return err
end
local extra = {'v', version, 's', step, 'z', ARGV[18], 't', ARGV[13]}
local completed = ARGV[18] == 'completed'
if completed then
  extra[#extra + 1] = 'd'
  extra[#extra + 1] = ARGV[13]
end
local ended = found.x ~= '0' and completed
if found.x ~= '0' then
  -- It only ends later than before: what is due is moved when its time has come.
  extra[#extra + 1] = 'x'
  extra[#extra + 1] = completed and '0' or string.format('%.0f', ARGV[13] + found.i)
end
patch_document(KEYS[3], found, 21, extra)
if ended then
  redis.call('ZREM', KEYS[4], ARGV[19])
end
if KEYS[5] then
  redis.call('SET', KEYS[5], version, 'PX', ARGV[15])
end
return {1, hourly, flatten(found)}
