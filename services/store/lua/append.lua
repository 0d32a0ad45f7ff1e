-- append.lua: give a publication its offset, keep it in the event log, announce it.
--
-- KEYS     1 log stream   2 meta hash {e epoch, o offset, i id, t time ms, bo and bi below}
--          3 op string (optional): what the same idempotency key published before
-- ARGV     1 id           2 body, the publication object after its offset
--          3 prefix, the wire text before the offset   4 pub/sub channel
--          5 epoch, if a new one begins                6 now, ms
--          7 history size (0: keep none)               8 history TTL, ms
--          9 meta TTL, ms (over an hour longer than 8) 10 op TTL, ms
--          11 conflation key, empty for none
-- returns  {1 appended | 0 published before, epoch, offset, 1 first of its hour | 0}
--
-- The log is written before the message goes out: whoever hears of a publication can read
-- it. The first write is one that a full, read-only or lonely server refuses and that finds
-- a key of another type, so that an error means that nothing changed: Lua has no rollback,
-- and what follows a DEL is let through even without memory.

if KEYS[3] then
  local done = redis.call('GET', KEYS[3])
  if done then
    local epoch, offset = string.match(done, '^(%S+) (%d+)$')
    return {0, epoch, tonumber(offset), 0}
  end
end

local meta = redis.call('HMGET', KEYS[2], 'e', 'o', 'i', 't')
local epoch, offset, time = meta[1], tonumber(meta[2] or ''), tonumber(meta[4] or '')
local now, size = tonumber(ARGV[6]), tonumber(ARGV[7])

-- An offset beyond 2^53 is no number to a browser any more.
local known = epoch and offset and offset < 9007199254740991
if not known then
  epoch, offset, time = ARGV[5], 0, nil
end
offset = offset + 1
local top = string.format('%.0f', offset)
local previous = known and meta[3] or ''

if size > 0 then
  -- A log that does not exist is begun here only, so none is ever without its TTL.
  local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', 'MAXLEN', '~', size, top .. '-0',
    'i', ARGV[1], 'b', ARGV[2])
  local begins = not added
  if begins then
    added = redis.pcall('XADD', KEYS[1], top .. '-0', 'i', ARGV[1], 'b', ARGV[2])
  end
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
    -- The log is ahead of its meta, which was lost or restored from an older state. Nobody
    -- can tell what is true, so a new history begins and every reader is told.
    redis.call('DEL', KEYS[1])
    epoch, offset, top, previous = ARGV[5], 1, '1', ''
    redis.call('XADD', KEYS[1], '1-0', 'i', ARGV[1], 'b', ARGV[2])
    begins = true
  end
  -- Later the TTL is renewed with the first publication of each second, and is a second
  -- longer, so that the log outlives its last publication by no less than was declared.
  if begins or not time or math.floor(now / 1000) ~= math.floor(time / 1000) then
    redis.call('PEXPIRE', KEYS[1], ARGV[8] + 1000)
  end
end

if time and now - time > tonumber(ARGV[8]) then
  -- The log expired since. Who read all of it can still go on: bo and bi say what came last.
  redis.call('HSET', KEYS[2], 'e', epoch, 'o', top, 'i', ARGV[1], 't', ARGV[6],
    'bo', meta[2], 'bi', meta[3] or '')
else
  redis.call('HSET', KEYS[2], 'e', epoch, 'o', top, 'i', ARGV[1], 't', ARGV[6])
end
if not known and size == 0 then
  redis.call('DEL', KEYS[1])  -- kept from when history was; its offsets mean nothing now
end
-- Once an hour is enough for a TTL of many days.
local hourly = 0
if not time or math.floor(now / 3600000) ~= math.floor(time / 3600000) then
  redis.call('PEXPIRE', KEYS[2], ARGV[9])
  hourly = 1
end
if KEYS[3] then
  redis.call('SET', KEYS[3], epoch .. ' ' .. top, 'PX', ARGV[10])
end
-- The publication stands, so an ACL that forbids the announcement must not turn it into an
-- error: followers find it by comparison.
redis.pcall('PUBLISH', ARGV[4],
  epoch .. ' ' .. top .. ' ' .. ARGV[1] .. ' ' .. previous .. ' ' .. ARGV[11] .. ' '
  .. ARGV[3] .. top .. ',' .. ARGV[2] .. '}}')
return {1, epoch, offset, hourly}
