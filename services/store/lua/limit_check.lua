-- limit_check.lua: spend what several limits allow, for several checks one after the other.
--
-- A check takes its cost from each of its limits, or nothing from any. A cost of 0 only looks.
-- Whoever is denied costs one read and no write.
--
-- KEYS     the limits, a string each (lib/limit.lua); none twice
-- ARGV     1 now, us   2 how many different terms there are, then these, four each (lib/limit.lua)
--          then for each limit the number of its terms
--          then each check: its cost, how many limits it has, their numbers in KEYS
-- returns  flat, for each check: 1 allowed | 0 denied, and told before | -m denied, and what m
--          has a bit for, of its limits in their order, was not told; then of each limit
--          GCRA      us until all is back
--          sliding   units used, us until some come back (0: all are there), us until the cost
--                    fits (-1: never), us until all are back

-- include limit

local now, count = tonumber(ARGV[1]), #KEYS
local numbers = 2 + 4 * tonumber(ARGV[2])
local values = redis.call('MGET', unpack(KEYS))
local limits = {}
for i = 1, count do
  limits[i] = read_limit(values[i], 4 * tonumber(ARGV[numbers + i]) - 1, now)
end

local out, size = {}, 0
local at, last = numbers + count + 1, #ARGV
while at < last do
  local cost, first = tonumber(ARGV[at]), at + 2
  local final = at + 1 + tonumber(ARGV[at + 1])
  local allowed, untold, bit = true, 0, 1
  for j = first, final do
    local limit = limits[tonumber(ARGV[j])]
    limit.wait = limit_wait(limit, cost, now)
    if limit.wait ~= 0 then
      allowed = false
      if not limit.told then
        untold = untold + bit
      end
    end
    bit = bit * 2
  end
  size = size + 1
  out[size] = allowed and 1 or -untold
  for j = first, final do
    local limit = limits[tonumber(ARGV[j])]
    if allowed and cost > 0 then
      take_limit(limit, cost, now)
    elseif limit.clamped and cost > 0 then
      limit.dirty = true
    end
    if limit.n == 0 then
      size = size + 1
      out[size] = limit.debt
    else
      local buckets = limit.buckets
      local some, all = 0, 0
      if #buckets > 0 then
        some = freed_at(limit, buckets[1][1]) - now
        all = freed_at(limit, buckets[#buckets][1]) - now
      end
      out[size + 1], out[size + 2], out[size + 3], out[size + 4] = limit.used, some, limit.wait, all
      size = size + 4
    end
  end
  at = final + 1
end

for i = 1, count do
  if limits[i].dirty then
    write_limit(KEYS[i], limits[i], now)
  end
end
return out
