-- session_create.lua: begin a session, unless there is one.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 messages list   5 ids sorted set
--          6 the workspace's sessions   7 the user's sessions   8 due
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 session   11 user   12 ends unless used, ms   13 ends at the latest, ms
--          14 idle time, ms   15 messages kept   16 schema   17 TTL of the keys, ms
--          18 member of due   19 body   20... name and JSON of each value
-- returns  {DONE, 1 first of its hour | 0}
--          {REPEATED, 0, the hash (flat), messages}: there is one, and it is this user's
--          {NOT_OWNER, 0}: there is one, and it is not
--          {LATER, 0}: there is one that is over, and nobody has told yet

-- include event_log
-- include session

local flat = redis.call('HGETALL', KEYS[3])
if #flat > 0 then
  local fields = session_fields(flat)
  if tonumber(fields.x) <= tonumber(ARGV[5]) then
    return {LATER, 0}
  end
  if fields.u ~= ARGV[11] then
    return {NOT_OWNER, 0}
  end
  return {REPEATED, 0, flat, redis.call('LRANGE', KEYS[4], 0, -1)}
end

local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[19])
if err then
  return err
end
local fields = {'u', ARGV[11], 'v', '1', 's', ARGV[16], 'c', ARGV[5], 'x', ARGV[12],
  'e', ARGV[13], 'i', ARGV[14], 'w', ARGV[15], 'q', '0'}
for at = 20, #ARGV, 2 do
  fields[#fields + 1] = 'f:' .. ARGV[at]
  fields[#fields + 1] = ARGV[at + 1]
end
-- Left over only where the hash alone was lost.
redis.call('DEL', KEYS[4], KEYS[5])
redis.call('HSET', KEYS[3], unpack(fields))
redis.call('PEXPIRE', KEYS[3], ARGV[17])
-- The set is never empty from here on, so its TTL is set once.
redis.call('ZADD', KEYS[5], '0', 'o:')
redis.call('PEXPIRE', KEYS[5], ARGV[17])
redis.call('ZADD', KEYS[6], ARGV[5], ARGV[10])
redis.call('ZADD', KEYS[7], ARGV[5], ARGV[10])
-- Where the hash is lost before its end is told, nobody knows any more whose it was: 367 days,
-- which is beyond the longest life there is.
redis.call('PEXPIRE', KEYS[7], '31708800000')
redis.call('ZADD', KEYS[8], ARGV[12], ARGV[18])
return {DONE, hourly}
