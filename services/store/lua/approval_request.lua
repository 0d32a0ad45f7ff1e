-- approval_request.lua: open an approval gate, unless there is one with this id.
--
-- KEYS     1 log stream   2 meta hash   3 gate, hash {v version, g JSON}
--          4 gates of the workspace, sorted set by when they were requested
--          5 the open ones, alike   6 the open ones, hash (approvals_snapshot.lua)
--          7 approved and not used, sorted set by when
--          8 due, sorted set   9 audit stream
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 body   11 gate id   12 gate JSON   13 how many may be open
--          14 TTL of the gate, ms ('' for none)   15 deadline, ms ('' for none)
--          16 member of due   17 oldest of the lists to keep, ms   18 oldest of 7, ms
--          19 oldest entry of the audit to keep, ms   20 in brief (approvals_snapshot.lua)
-- returns  {1 opened, 1 first of its hour | 0}
--          {0 there is one, 0, its JSON}
--          {2 too many are open, 0}

-- include event_log
-- include approval

local found = redis.call('HGET', KEYS[3], 'g')
if found then
  return {0, 0, found}
end
if redis.call('ZCARD', KEYS[5]) >= tonumber(ARGV[13]) then
  return {2, 0}
end

local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end
redis.call('HSET', KEYS[3], 'v', '1', 'g', ARGV[12])
if ARGV[14] ~= '' then
  redis.call('PEXPIRE', KEYS[3], ARGV[14])
end
redis.call('ZADD', KEYS[4], ARGV[5], ARGV[11])
redis.call('ZADD', KEYS[5], ARGV[5], ARGV[11])
redis.call('HSET', KEYS[6], ARGV[11], ARGV[12], ARGV[11] .. ':', ARGV[20])
if ARGV[15] ~= '' then
  redis.call('ZADD', KEYS[8], ARGV[15], ARGV[16])
end
redis.call('XADD', KEYS[9], 'MINID', '~', ARGV[19], '*', 'g', ARGV[11], 's', 'pending',
  'b', ARGV[10])
if hourly == 1 then
  tidy_approvals(KEYS[4], KEYS[7], KEYS[9], ARGV[5], ARGV[17], ARGV[18], ARGV[19])
end
return {1, hourly}
