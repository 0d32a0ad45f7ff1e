-- onboarding_end.lua: end the onboarding of a workspace, because somebody says so or its time
-- is up; it can begin anew.
--
-- KEYS     1 log stream, 2 meta hash of workspace:{workspace}
--          3 onboarding, hash (onboarding_start.lua)   4 what is due under the workspace
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10, 11 the body before and after the version
--          12 now, ms   13 '1' only if its time is up   14 member of what is due
--          15 owner expected, '' for any   16 version expected, '' for any
-- returns  {1 ended | 0 not yet, or there is none | 3 another version | 6 it is another's,
--           1 first of its hour | 0, its version}

-- include event_log

local found = redis.call('HMGET', KEYS[3], 'v', 'z', 'u', 'x')
if not found[2] then
  redis.call('ZREM', KEYS[4], ARGV[14])
  return {0, 0, found[1] or '0'}
end
if ARGV[13] == '1' then
  if found[4] == '0' then
    redis.call('ZREM', KEYS[4], ARGV[14])
    return {0, 0, found[1]}
  elseif tonumber(ARGV[12]) < tonumber(found[4]) then
    redis.call('ZADD', KEYS[4], found[4], ARGV[14])
    return {0, 0, found[1]}
  end
elseif ARGV[15] ~= '' and ARGV[15] ~= found[3] then
  return {6, 0, found[1]}
elseif ARGV[16] ~= '' and tonumber(ARGV[16]) ~= tonumber(found[1]) then
  return {3, 0, found[1]}
end

local version = string.format('%.0f', tonumber(found[1]) + 1)
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10] .. version .. ARGV[11])
if err then
  return err
end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], 'v', version)
-- 400 days, far beyond all that is kept of its events: then nobody compares versions any more.
redis.call('PEXPIRE', KEYS[3], '34560000000')
redis.call('ZREM', KEYS[4], ARGV[14])
return {1, hourly, version}
