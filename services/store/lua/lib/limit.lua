-- limit: one limit as Redis keeps it, and what a cost does to it. Reads ARGV, writes through
-- write_limit only.
--
-- The terms of a limit are four arguments, times in microseconds:
--   GCRA      time one unit comes back in, time all of them take, 0, quiet time
--   sliding   width of a bucket, units, buckets, quiet time
-- Its value is one string:
--   GCRA      when all will be back, us
--   sliding   ``<bucket>:<units>`` of each bucket that counts, oldest first
-- followed by ``!<us>``, when it was told that the limit is reached, if it was.
--
-- A clock may be behind the one that wrote the value. By up to a second it is not corrected, for
-- then each of two clocks would forgive what the other took: what is owed is waited for, and what
-- stands in a bucket to come stays there. By more, no limit owes more than all of it, and such a
-- bucket's units stand in the present one. (``clamped``: who is denied for that writes it, or
-- would be denied until the other clock's time.)
local LATE = 1000000

-- read_limit(value, at, now)  the limit with its terms at ARGV[at]; value false where none is
local function read_limit(value, at, now)
  local limit = {
    a = tonumber(ARGV[at]), b = tonumber(ARGV[at + 1]), n = tonumber(ARGV[at + 2]), at = at,
  }
  local tat = tonumber(value)
  if value and not tat then
    local told
    value, told = string.match(value, '^([^!]*)!?(%d*)$')
    limit.told = tonumber(told)
    tat = tonumber(value)
  end
  if limit.n == 0 then
    local debt = (tat or now) - now
    limit.clamped = debt > limit.b + LATE
    limit.debt = debt < 0 and 0 or limit.clamped and limit.b or debt
    return limit
  end
  local bucket = math.floor(now / limit.a)
  local buckets, used = {}, 0
  for number, count in string.gmatch(value or '', '(%d+):(%d+)') do
    number, count = tonumber(number), tonumber(count)
    if number >= bucket - limit.n then
      local last = buckets[#buckets]
      if number * limit.a > now + LATE then
        number, limit.clamped = bucket, true
      end
      if last and last[1] == number then
        last[2] = last[2] + count
      else
        buckets[#buckets + 1] = {number, count}
      end
      used = used + count
    end
  end
  limit.buckets, limit.used, limit.bucket = buckets, used, bucket
  return limit
end

-- freed_at(limit, bucket)  when the units of a bucket come back: all of it is out of the window
local function freed_at(limit, bucket)
  return (bucket + limit.n + 1) * limit.a
end

-- limit_wait(limit, cost, now)  us until the cost fits, 0 for now, -1 for never
local function limit_wait(limit, cost, now)
  if limit.n == 0 then
    local wait = limit.debt + cost * limit.a - limit.b
    if wait <= 0 then
      return 0
    end
    return cost * limit.a > limit.b and -1 or wait
  end
  local left = limit.b - limit.used
  if left >= cost then
    return 0
  end
  if cost > limit.b then
    return -1
  end
  for _, one in ipairs(limit.buckets) do
    left = left + one[2]
    if left >= cost then
      return freed_at(limit, one[1]) - now
    end
  end
  return -1
end

-- take_limit(limit, cost, now)  spend it. What was told is forgotten when something is left
-- again and its quiet time is over, so that a caller at the very edge is not told of each time.
local function take_limit(limit, cost, now)
  limit.dirty = true
  local left
  if limit.n == 0 then
    limit.debt = limit.debt + cost * limit.a
    left = limit.b - limit.debt >= limit.a
  else
    local last = limit.buckets[#limit.buckets]
    if last and last[1] >= limit.bucket then
      last[2] = last[2] + cost
    else
      limit.buckets[#limit.buckets + 1] = {limit.bucket, cost}
    end
    limit.used = limit.used + cost
    left = limit.used < limit.b
  end
  if limit.told and left and now - limit.told >= tonumber(ARGV[limit.at + 3]) then
    limit.told = nil
  end
end

-- write_limit(key, limit, now)  keep it for as long as it says anything
local function write_limit(key, limit, now)
  local value, ends
  if limit.n == 0 then
    ends = now + limit.debt
    value = string.format('%.0f', ends)
  else
    local parts = {}
    for i, one in ipairs(limit.buckets) do
      parts[i] = string.format('%.0f:%.0f', one[1], one[2])
    end
    value = table.concat(parts, ' ')
    ends = #parts > 0 and freed_at(limit, limit.buckets[#parts][1]) or now
  end
  if limit.told then
    value = value .. string.format('!%.0f', limit.told)
    ends = math.max(ends, limit.told + tonumber(ARGV[limit.at + 3]))
  end
  local left = math.ceil((ends - now) / 1000)
  redis.call('SET', key, value, 'PX', string.format('%.0f', left > 1 and left or 1))
end
