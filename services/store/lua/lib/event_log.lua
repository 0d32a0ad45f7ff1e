-- event_log: what every script needs that tells of a change, or reads state with its position.
--
-- append_event(log, meta, at, body)  gives a publication its offset, keeps it, announces it
--   log      key of the log stream     meta  key of its hash {e epoch, o offset, i id,
--                                            t time ms, bo and bi below}
--   at       where in ARGV the terms of the channel begin (EventLog.terms makes them):
--            id, prefix (the wire text before the offset), pub/sub channel, epoch if a new one
--            begins, now (ms), history size (0: keep none), history TTL (ms), meta TTL (ms, over
--            an hour longer), conflation key (empty for none)
--   body     the publication object after its offset
--   returns  nil, epoch, offset, 1 first of its hour | 0; or the error of Redis, and then
--            nothing has changed
--
-- Call it before any other write, and return its error: Lua has no rollback. Its first write is
-- one that a full, read-only or lonely server refuses and that finds a key of another type.
-- (What follows a DEL is let through even without memory.) The log is written before the
-- message goes out: whoever hears of a publication can read it.
local function append_event(log, meta_key, at, body)
  local id, now, size = ARGV[at], tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local meta = redis.call('HMGET', meta_key, 'e', 'o', 'i', 't')
  local epoch, offset, time = meta[1], tonumber(meta[2] or ''), tonumber(meta[4] or '')

  -- An offset beyond 2^53 is no number to a browser any more.
  local known = epoch and offset and offset < 9007199254740991
  if not known then
    epoch, offset, time = ARGV[at + 3], 0, nil
  end
  offset = offset + 1
  local top = string.format('%.0f', offset)
  local previous = known and meta[3] or ''

  if size > 0 then
    -- A log that does not exist is begun here only, so none is ever without its TTL.
    local added = redis.pcall('XADD', log, 'NOMKSTREAM', 'MAXLEN', '~', size, top .. '-0',
      'i', id, 'b', body)
    local begins = not added
    if begins then
      added = redis.pcall('XADD', log, top .. '-0', 'i', id, 'b', body)
    end
    if type(added) == 'table' and added.err then
      if not string.find(added.err, 'equal or smaller', 1, true) then
        return added
      end
      -- The log is ahead of its meta, which was lost or restored from an older state. Nobody
      -- can tell what is true, so a new history begins and every reader is told.
      redis.call('DEL', log)
      epoch, offset, top, previous = ARGV[at + 3], 1, '1', ''
      redis.call('XADD', log, '1-0', 'i', id, 'b', body)
      begins = true
    end
    -- Later the TTL is renewed with the first publication of each second, and is a second
    -- longer, so that the log outlives its last publication by no less than was declared.
    if begins or not time or math.floor(now / 1000) ~= math.floor(time / 1000) then
      redis.call('PEXPIRE', log, ARGV[at + 6] + 1000)
    end
  end

  if time and now - time > tonumber(ARGV[at + 6]) then
    -- The log expired since. Who read all of it can still go on: bo and bi say what came last.
    redis.call('HSET', meta_key, 'e', epoch, 'o', top, 'i', id, 't', ARGV[at + 4],
      'bo', meta[2], 'bi', meta[3] or '')
  else
    redis.call('HSET', meta_key, 'e', epoch, 'o', top, 'i', id, 't', ARGV[at + 4])
  end
  if not known and size == 0 then
    redis.call('DEL', log)  -- kept from when history was; its offsets mean nothing now
  end
  -- Once an hour is enough for a TTL of many days.
  local hourly = 0
  if not time or math.floor(now / 3600000) ~= math.floor(time / 3600000) then
    redis.call('PEXPIRE', meta_key, ARGV[at + 7])
    hourly = 1
  end
  -- The publication stands, so an ACL that forbids the announcement must not turn it into an
  -- error: followers find it by comparison.
  redis.pcall('PUBLISH', ARGV[at + 2],
    epoch .. ' ' .. top .. ' ' .. id .. ' ' .. previous .. ' ' .. ARGV[at + 8] .. ' '
    .. ARGV[at + 1] .. top .. ',' .. body .. '}}')
  return nil, epoch, offset, hourly
end

-- log_top(log, meta, epoch, ttl)  where the log stands
--   epoch    for a channel that nobody published to: it gets one here, so that a reader who
--            saw nothing still has a position to come back with
--   ttl      of the meta hash, ms
--   returns  epoch, offset, id of the top; offset and id of the last publication before the
--            log last expired
local function log_top(log, meta_key, epoch, ttl)
  local meta = redis.call('HMGET', meta_key, 'e', 'o', 'i', 'bo', 'bi')
  local offset = tonumber(meta[2] or '')
  if meta[1] and offset then
    return meta[1], offset, meta[3] or '', tonumber(meta[4] or '') or 0, meta[5] or ''
  end
  -- Fails before anything changes where the key is no log.
  redis.call('XLEN', log)
  redis.call('HSET', meta_key, 'e', epoch, 'o', '0', 'i', '')
  redis.call('PEXPIRE', meta_key, ttl)
  redis.call('DEL', log)
  return epoch, 0, '', 0, ''
end
