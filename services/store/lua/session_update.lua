-- session_update.lua: replace and clear values of a session.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 messages list   5 ids sorted set
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 who must own it, or empty   11 `o:<op>`   12 version it must be at, or empty
--          13 schema it must be in   14 schema it is in then   15 changes an op is remembered
--          16-17 the body around the version   18 how many names are cleared
--          19... those names, then name and JSON of each new value
-- returns  {DONE, 1 first of its hour | 0, the hash before (flat), messages, version, expiry}
--          {REPEATED, 0, the hash (flat), messages}: this op was done before
--          {MISSING, 0} | {NOT_OWNER, 0}
--          {OTHER_VERSION, 0, where it is} | {OTHER_SCHEMA, 0, which}

-- include event_log
-- include session

local now = tonumber(ARGV[5])
local flat = redis.call('HGETALL', KEYS[3])
local fields = session_fields(flat)
local refusal = session_refusal(fields.u, fields.x, now, ARGV[10])
if refusal then
  return {refusal, 0}
end
if redis.call('ZSCORE', KEYS[5], ARGV[11]) then
  return {REPEATED, 0, flat, redis.call('LRANGE', KEYS[4], 0, -1)}
end
if ARGV[12] ~= '' and ARGV[12] ~= fields.v then
  return {OTHER_VERSION, 0, tonumber(fields.v)}
end
if ARGV[13] ~= fields.s then
  return {OTHER_SCHEMA, 0, tonumber(fields.s)}
end

local version = tonumber(fields.v) + 1
local err, _, _, hourly =
  append_event(KEYS[1], KEYS[2], 1, ARGV[16] .. text(version) .. ARGV[17])
if err then
  return err
end
local expires = session_expiry(fields.x, fields.e, fields.i, now)
local set = {'v', text(version), 'x', text(expires)}
if ARGV[14] ~= ARGV[13] then
  set[5], set[6] = 's', ARGV[14]
end
local cleared = {}
for at = 19, 18 + ARGV[18] do
  cleared[#cleared + 1] = 'f:' .. ARGV[at]
end
for at = 19 + ARGV[18], #ARGV, 2 do
  set[#set + 1] = 'f:' .. ARGV[at]
  set[#set + 1] = ARGV[at + 1]
end
redis.call('HSET', KEYS[3], unpack(set))
if #cleared > 0 then
  redis.call('HDEL', KEYS[3], unpack(cleared))
end
redis.call('ZADD', KEYS[5], text(-version), ARGV[11])
session_forget(KEYS[5], version, tonumber(fields.q), tonumber(ARGV[15]))
return {DONE, hourly, flat, redis.call('LRANGE', KEYS[4], 0, -1), version, text(expires)}
