-- auth_create.lua: begin a login session; one too many ends the one that was used longest ago.
--
-- KEYS     1 log stream, 2 meta hash of auth:{user}
--          3 sessions of the user, hash (lib/auth.lua)   4 what is due under the user
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 body that tells of it
--          11-19 terms again, for the event that tells of those that had to go
--          20, 21 the body of that before and after their ids
--          22 public id   23 digest   24 now, ms   25 its first end, ms   26 its last end, ms
--          27 idle time, ms   28 claims, JSON
--          29 how many a user may have   30 TTL of the hash, ms, at least
-- returns  {1 begun | 0 begun before, 1 first of its hour | 0, its text}
--
-- Nobody else knows the id, so who finds it there began it and did not hear of it.

-- include event_log
-- include auth

local found = redis.call('HGETALL', KEYS[3])
local others = {}
for at = 1, #found, 2 do
  if found[at] == ARGV[22] then
    return {0, 0, found[at + 1]}
  end
  local other = read_session(found[at + 1])
  other.id = found[at]
  others[#others + 1] = other
end

local err, _, offset, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end

local text = write_session({digest = ARGV[23], version = '1', created = ARGV[24],
  seen = ARGV[24], expires = ARGV[25], ends = ARGV[26], idle = ARGV[27],
  order = string.format('%.0f', offset), claims = ARGV[28]})
redis.call('HSET', KEYS[3], ARGV[22], text)
redis.call('ZADD', KEYS[4], ARGV[25], 'auth:' .. ARGV[22])
-- The TTL is a safety net for a hash that outlived all its sessions.
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[30]) then
  redis.call('PEXPIRE', KEYS[3], ARGV[30])
end

local many = #others + 1 - tonumber(ARGV[29])
if many > 0 then
  table.sort(others, function(a, b)
    for _, what in ipairs({'seen', 'created', 'order'}) do
      if a[what] ~= b[what] then
        return tonumber(a[what]) < tonumber(b[what])
      end
    end
    return a.id < b.id
  end)
  local ids, members = {}, {}
  for at = 1, many do
    ids[at] = others[at].id
    members[at] = 'auth:' .. others[at].id
  end
  local body = ARGV[20] .. table.concat(ids, '","') .. ARGV[21]
  err = append_event(KEYS[1], KEYS[2], 11, body)
  if err then
    return err
  end
  redis.call('HDEL', KEYS[3], unpack(ids))
  redis.call('ZREM', KEYS[4], unpack(members))
end
return {1, hourly, text}
