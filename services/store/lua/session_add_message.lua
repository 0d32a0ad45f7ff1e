-- session_add_message.lua: add a message to a session.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 messages list   5 ids sorted set
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 who must own it, or empty   11 id of the message   12 messages remembered by id
--          13-15 the body around version and sequence
--          16 where in 14 the message begins   17 where in 15 it ends
--          18 1 tell what falls out of the window | 0
-- returns  {DONE, 1 first of its hour | 0, sequence, messages that fell out}
--          {REPEATED, 0, sequence of the first, it | '' where it fell out of the window}
--          {MISSING, 0} | {NOT_OWNER, 0}

-- include event_log
-- include session

local now = tonumber(ARGV[5])
local found = redis.call('HMGET', KEYS[3], 'u', 'x', 'v', 'q', 'e', 'i', 'w')
local refusal = session_refusal(found[1], found[2], now, ARGV[10])
if refusal then
  return {refusal, 0}
end
local last = tonumber(found[4])
local known = tonumber(redis.call('ZSCORE', KEYS[5], ARGV[11]) or '')
if known then
  local first = redis.call('LINDEX', KEYS[4], text(known - last - 1))
  return {REPEATED, 0, known, first or ''}
end

local version, seq = text(found[3] + 1), text(last + 1)
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  ARGV[13] .. version .. ARGV[14] .. seq .. ARGV[15])
if err then
  return err
end
-- The message stands in the event as it is kept.
local length = redis.call('RPUSH', KEYS[4],
  string.sub(ARGV[14], ARGV[16]) .. seq .. string.sub(ARGV[15], 1, ARGV[17]))
if last == 0 then
  -- As the other keys: a day after the last moment that the session may see.
  redis.call('PEXPIRE', KEYS[4], text(found[5] - now + 86400000))
end
local fell = {}
if length > tonumber(found[7]) then
  fell = redis.call('LPOP', KEYS[4], length - found[7])
end
redis.call('ZADD', KEYS[5], seq, ARGV[11])
redis.call('HSET', KEYS[3], 'v', version, 'q', seq, 'x',
  text(session_expiry(found[2], found[5], found[6], now)))
session_forget(KEYS[5], found[3] + 1, last + 1, tonumber(ARGV[12]))
return {DONE, hourly, last + 1, ARGV[18] == '1' and fell or {}}
