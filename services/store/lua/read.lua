-- read.lua: read a page of an event log together with its top, as of one moment.
--
-- KEYS     1 log stream   2 meta hash {e epoch, o offset, i id, t time ms, bo, bi}
-- ARGV     1 epoch, if none exists yet    2 meta TTL, ms
--          3 first offset, 4 last offset ('-' and '+' are the ends)
--          5 how many entries at most (0: only the top)   6 '1' for newest first
-- returns  {epoch, offset of the top, id of the top, {{entry id, {field, value, ...}}, ...},
--           offset and id of the last publication before the log last expired}

-- include event_log

local epoch, offset, id, base, base_id = log_top(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
local entries = {}
if tonumber(ARGV[5]) > 0 then
  if ARGV[6] == '1' then
    entries = redis.call('XREVRANGE', KEYS[1], ARGV[4], ARGV[3], 'COUNT', ARGV[5])
  else
    entries = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
  end
end
return {epoch, offset, id, entries, base, base_id}
