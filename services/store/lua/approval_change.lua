-- approval_change.lua: give an approval gate its next version, if it is at the last one known.
--
-- The rules are in services/gate.py. They saw a version; whoever changed it since goes first,
-- and the caller applies the rules to what is there now.
--
-- KEYS     1 log stream   2 meta hash   3 gate, hash {v version, g JSON}
--          4 the open ones, sorted set   5 the open ones, hash (approvals_snapshot.lua)
--          6 approved and not used, sorted set by when   7 due, sorted set   8 audit stream
--          9 gates of the workspace, sorted set by when they were requested
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 body   11 gate id   12 gate JSON   13 the version known   14 the next one
--          15 what it is then: open, ended, ready (ended and may be used) or used
--          16 status   17 TTL of the gate, ms ('' for what it has)
--          18 deadline, ms ('' for none, or for what it has)
--          19 member of due ('' if it is not there)   20 oldest entry of the audit to keep, ms
--          21 in brief (approvals_snapshot.lua)   22 oldest of 9, 23 oldest of 6 to keep, ms
-- returns  {1 changed, 1 first of its hour | 0}
--          {0 it is at another version, 0, its JSON ('' if there is none)}

-- include event_log
-- include approval

local found = redis.call('HMGET', KEYS[3], 'v', 'g')
if found[1] ~= ARGV[13] then
  return {0, 0, found[2] or ''}
end

local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end
redis.call('HSET', KEYS[3], 'v', ARGV[14], 'g', ARGV[12])
if ARGV[17] ~= '' then
  redis.call('PEXPIRE', KEYS[3], ARGV[17])
end
if ARGV[15] == 'open' then
  redis.call('HSET', KEYS[5], ARGV[11], ARGV[12], ARGV[11] .. ':', ARGV[21])
  if ARGV[18] ~= '' then
    redis.call('ZADD', KEYS[7], ARGV[18], ARGV[19])
  end
elseif ARGV[15] == 'used' then
  redis.call('ZREM', KEYS[6], ARGV[11])
else
  redis.call('ZREM', KEYS[4], ARGV[11])
  redis.call('HDEL', KEYS[5], ARGV[11], ARGV[11] .. ':')
  if ARGV[19] ~= '' then
    redis.call('ZREM', KEYS[7], ARGV[19])
  end
  if ARGV[15] == 'ready' then
    redis.call('ZADD', KEYS[6], ARGV[5], ARGV[11])
    redis.call('PEXPIRE', KEYS[6], string.format('%.0f', ARGV[5] - ARGV[23]))
  end
end
redis.call('XADD', KEYS[8], 'MINID', '~', ARGV[20], '*', 'g', ARGV[11], 's', ARGV[16],
  'b', ARGV[10])
if hourly == 1 then
  tidy_approvals(KEYS[9], KEYS[6], KEYS[8], ARGV[5], ARGV[22], ARGV[23], ARGV[20])
end
return {1, hourly}
