-- append.lua: give a publication its offset, keep it in the event log, announce it.
--
-- KEYS     1 log stream   2 meta hash
--          3 op string (optional): what the same idempotency key published before
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10 body        11 op TTL, ms
-- returns  {1 appended | 0 published before, epoch, offset, 1 first of its hour | 0}

-- include event_log

if KEYS[3] then
  local done = redis.call('GET', KEYS[3])
  if done then
    local epoch, offset = string.match(done, '^(%S+) (%d+)$')
    return {0, epoch, tonumber(offset), 0}
  end
end

local err, epoch, offset, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end
if KEYS[3] then
  redis.call('SET', KEYS[3], epoch .. ' ' .. string.format('%.0f', offset), 'PX', ARGV[11])
end
return {1, epoch, offset, hourly}
