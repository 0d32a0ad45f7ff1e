-- approvals_snapshot.lua: read the open gates of a workspace and the position they are at.
--
-- KEYS     1 log stream   2 meta hash   3 the open gates, sorted set by when they were requested
--          4 the open gates, hash: their JSON by id, and by id and ':' the bytes of that JSON, a
--            space, and the gate in brief, JSON
-- ARGV     1 epoch, if none exists yet   2 meta TTL, ms   3 bytes that it may have
-- returns  {epoch, offset of the top, id of the top, {JSON, ...}, {JSON of those in brief, ...},
--           how many there are beside}
--
-- Each gate is told in brief before any is told as a whole, the newest first.

-- include event_log

local epoch, offset, id = log_top(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
local gates = redis.call('ZREVRANGE', KEYS[3], 0, -1)
if #gates == 0 then
  return {epoch, offset, id, {}, {}, 0}
end
local names = {}
for at, gate in ipairs(gates) do
  names[at] = gate .. ':'
end
local left = tonumber(ARGV[3])
local texts, costs = {}, {}
for at, held in ipairs(redis.call('HMGET', KEYS[4], unpack(names))) do
  local size, text = string.match(held or '', '^(%d+) (.*)$')
  left = left - #(text or '') - 1
  if not text or left < 0 then
    break
  end
  texts[at], costs[at] = text, size - #text
end
local brief, whole = {}, {}
for at, text in ipairs(texts) do
  if costs[at] <= left then
    left = left - costs[at]
    whole[#whole + 1] = gates[at]
  else
    brief[#brief + 1] = text
  end
end
if #whole > 0 then
  whole = redis.call('HMGET', KEYS[4], unpack(whole))
end
return {epoch, offset, id, whole, brief, #gates - #whole - #brief}
