-- read.lua: read a page of an event log together with its top, as of one moment.
--
-- KEYS     1 log stream   2 meta hash {e epoch, o offset, i id, t time ms, bo, bi}
-- ARGV     1 epoch, if none exists yet    2 meta TTL, ms
--          3 first offset, 4 last offset ('-' and '+' are the ends)
--          5 how many entries at most (0: only the top)   6 '1' for newest first
-- returns  {epoch, offset of the top, id of the top, {{entry id, {field, value, ...}}, ...},
--           offset and id of the last publication before the log last expired}
--
-- A channel that nobody published to gets its epoch here, so that a reader who saw nothing
-- still has a position to come back with.

local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 'i', 'bo', 'bi')
local epoch, offset = meta[1], tonumber(meta[2] or '')
if not (epoch and offset) then
  -- Fails before anything changes where the key is no log; see append.lua for the order.
  redis.call('XLEN', KEYS[1])
  redis.call('HSET', KEYS[2], 'e', ARGV[1], 'o', '0', 'i', '')
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  redis.call('DEL', KEYS[1])
  return {ARGV[1], 0, '', {}, 0, ''}
end

local entries = {}
if tonumber(ARGV[5]) > 0 then
  if ARGV[6] == '1' then
    entries = redis.call('XREVRANGE', KEYS[1], ARGV[4], ARGV[3], 'COUNT', ARGV[5])
  else
    entries = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
  end
end
return {epoch, offset, meta[3] or '', entries, tonumber(meta[4] or '') or 0, meta[5] or ''}
