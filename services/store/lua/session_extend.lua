-- session_extend.lua: let a session live longer, within its longest life.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 ids sorted set
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 who must own it, or empty   11 `o:<op>`, or empty: may be done twice
--          12 how much longer, ms; or empty: as if it was used now
--          13 changes an op is remembered   14-16 the body around version and expiry
-- returns  {DONE, 1 first of its hour | 0, expiry, version}
--          {REPEATED, 0, expiry, version} | {UNCHANGED, 0, expiry, version}: no gain
--          {MISSING, 0} | {NOT_OWNER, 0}
--
-- Use that is no change would tell of itself with every read, so it counts once in a sixtieth
-- of the idle time, and once a second at most.

-- include event_log
-- include session

local now = tonumber(ARGV[5])
local found = redis.call('HMGET', KEYS[3], 'u', 'x', 'v', 'e', 'i', 'q')
local refusal = session_refusal(found[1], found[2], now, ARGV[10])
if refusal then
  return {refusal, 0}
end
if ARGV[11] ~= '' and redis.call('ZSCORE', KEYS[4], ARGV[11]) then
  return {REPEATED, 0, found[2], tonumber(found[3])}
end
local expires = session_expiry(found[2], found[4], found[5], now)
local least = math.max(found[5] / 60, 1000)
if ARGV[12] ~= '' then
  expires, least = math.min(found[2] + ARGV[12], tonumber(found[4])), 1
end
if expires - found[2] < least then
  return {UNCHANGED, 0, found[2], tonumber(found[3])}
end

local version = found[3] + 1
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  ARGV[14] .. text(version) .. ARGV[15] .. session_time(expires) .. ARGV[16])
if err then
  return err
end
redis.call('HSET', KEYS[3], 'v', text(version), 'x', text(expires))
if ARGV[11] ~= '' then
  redis.call('ZADD', KEYS[4], text(-version), ARGV[11])
end
session_forget(KEYS[4], version, tonumber(found[6]), tonumber(ARGV[13]))
return {DONE, hourly, text(expires), version}
