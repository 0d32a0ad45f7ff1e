-- append.lua: give a publication its offset, keep it in the event log, announce it.
--
-- KEYS     1 log stream   2 meta hash {e epoch, o offset, i id, t time ms}
--          3 op string (optional): what the same idempotency key published before
-- ARGV     1 id           2 body, the publication object after its offset
--          3 prefix, the wire text before the offset   4 pub/sub channel
--          5 epoch, if a new one begins                6 now, ms
--          7 history size (0: keep none)               8 history TTL, ms
--          9 meta TTL, ms                             10 op TTL, ms
-- returns  {1 appended | 0 published before, epoch, offset, 1 the log (re)began | 0}
--
-- The log is written before the message goes out: whoever hears of a publication can read
-- it. Types are checked by reads and by XADD before anything changes, as Lua has no rollback.

if KEYS[3] then
  local done = redis.call('GET', KEYS[3])
  if done then
    local epoch, offset = string.match(done, '^(%S+) (%d+)$')
    return {0, epoch, tonumber(offset), 0}
  end
end

local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 't')
local epoch, offset, time = meta[1], tonumber(meta[2] or '0'), tonumber(meta[3] or '0')
local size = tonumber(ARGV[7])

if not epoch then
  -- The meta is gone but a log may have outlived it (eviction): its offsets mean nothing now.
  redis.call('DEL', KEYS[1])
  epoch = ARGV[5]
end
offset = offset + 1

local function add()
  return redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', size, string.format('%.0f-0', offset),
    'i', ARGV[1], 'b', ARGV[2])
end

if size > 0 then
  local added = add()
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
    -- The log is ahead of its meta: the meta was restored from an older state. Nobody can
    -- tell what is true, so a new history begins and every reader is told.
    redis.call('DEL', KEYS[1])
    epoch, offset = ARGV[5], 1
    add()
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
end

local top = string.format('%.0f', offset)
redis.call('HSET', KEYS[2], 'e', epoch, 'o', top, 'i', ARGV[1], 't', ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[9])
if KEYS[3] then
  redis.call('SET', KEYS[3], epoch .. ' ' .. top, 'PX', ARGV[10])
end
redis.call('PUBLISH', ARGV[4],
  epoch .. ' ' .. top .. ' ' .. ARGV[1] .. ' ' .. ARGV[3] .. top .. ',' .. ARGV[2] .. '}}')

local began = (time == 0 or tonumber(ARGV[6]) - time > tonumber(ARGV[8])) and 1 or 0
return {1, epoch, offset, began}
