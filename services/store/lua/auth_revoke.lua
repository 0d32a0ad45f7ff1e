-- auth_revoke.lua: end one login session of a user, or all but one.
--
-- KEYS     1 log stream, 2 meta hash of auth:{user}
--          3 sessions of the user, hash (lib/auth.lua)   4 what is due under the user
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10, 11 the body that tells of it, before and after the ids
--          12 public id of the one, '' for all   13 public id of one to keep, or ''
-- returns  {1 done | 0 there was none, 1 first of its hour | 0, public ids}

-- include event_log

local ids = {}
if ARGV[12] == '' then
  for _, id in ipairs(redis.call('HKEYS', KEYS[3])) do
    if id ~= ARGV[13] then
      ids[#ids + 1] = id
    end
  end
elseif redis.call('HEXISTS', KEYS[3], ARGV[12]) == 1 then
  ids[1] = ARGV[12]
end
if #ids == 0 then
  return {0, 0, {}}
end

local body = ARGV[10] .. table.concat(ids, '","') .. ARGV[11]
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, body)
if err then
  return err
end
local members = {}
for at, id in ipairs(ids) do
  members[at] = 'auth:' .. id
end
redis.call('HDEL', KEYS[3], unpack(ids))
redis.call('ZREM', KEYS[4], unpack(members))
return {1, hourly, ids}
