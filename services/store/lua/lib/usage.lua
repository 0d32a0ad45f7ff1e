-- usage: counting what was used in the accounts of a user, their workspace and organisation.
-- (What stands in an account: services/usage/account.py.)
--
-- KEYS from `first`   op, pending, due; then the accounts, the user's before the others
-- ARGV from `at`      34 terms and two an account; services/usage/counting.py makes them:
--    0 accounts, how many   1 day of the month, DD   2 kind, '' for usage
--    3 cost, micro-USD   4 tokens in   5 tokens out   6 requests
--    7 agent   8 model   9 workspace ('' for none): names in the user's breakdown
--   10 names at most, of each sort and day   11 thresholds, percent, falling: '100 80 50'
--   12 TTL of an account, ms   13 TTL of op, ms
--   14 entry for the database ('' for none)   15 its member in due   16 when that is due, ms
--   17-27 fields that are read of an account: seeded L D T DD:T c DD:c DD:i DD:o DD:n DD:p
--   28-33 fields of the user's breakdown, of agent, model and workspace: the name's and the
--         number of names
--   34... of each account: limit of the month and of the day where L and D are absent, '' for none
--
-- usage_read(first, at, more)   reads, and decides; nothing is written
--   more      names of further fields of the accounts to read, or nil
--   returns   'repeated', what it was then   the event was counted; usage_event says what it is
--             'missing', {places}            these accounts (1 for the first) must be seeded
--             'full', {places}               these sums would be beyond 2^53
--             nil, {account, ...}            account.more: values of `more`; add to account.set
--                                            (field, value, ...) what is to be written with it
--
-- usage_add(first, at, accounts)  writes all of it; call it after append_event
--   returns   {places} of those accounts that reached a share of a limit that was not told
--
-- Every commit of a charge runs this: no text is built here that Python can build.

-- What an event is, for those that come twice.
local function usage_event(at)
  return table.concat(ARGV, ' ', at + 2, at + 9)
end

-- The highest threshold that is reached and was not told.
local function usage_reached(sum, limit, told, thresholds)
  limit, told = tonumber(limit), tonumber(told or '') or 0
  -- Mostly not even the lowest is reached, and there is no need to look at each.
  if sum * 100 < (tonumber(string.match(thresholds, '%d+$') or '') or 0) * limit then
    return false
  end
  for percent in string.gmatch(thresholds, '%d+') do
    percent = tonumber(percent)
    if percent <= told then
      return false
    end
    if sum * 100 >= percent * limit then
      return true
    end
  end
  return false
end

-- Adds to the sums of the agent, the model and the workspace: 'cost in out requests' each.
-- set has n values.
local function usage_names(key, at, found, set, n)
  local cost, tokens_in, tokens_out, requests = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5],
    ARGV[at + 6]
  for sort = 0, 2 do
    if ARGV[at + 7 + sort] ~= '' then
      local field, counted = ARGV[at + 28 + 2 * sort], ARGV[at + 29 + 2 * sort]
      local packed = found[12 + 2 * sort]
      if not packed then
        local many = tonumber(found[13 + 2 * sort] or '') or 0
        if many >= tonumber(ARGV[at + 10]) then
          -- One of many: so that an account stays small whatever callers think of.
          field = counted .. ':other'
          packed = redis.call('HGET', key, field)
        else
          set[n + 1], set[n + 2] = counted, many + 1
          n = n + 2
        end
      end
      if packed then
        local c, i, o, many = string.match(packed, '^(%S+) (%S+) (%S+) (%S+)$')
        packed = string.format('%.0f %.0f %.0f %.0f', c + cost, i + tokens_in, o + tokens_out,
          many + requests)
      else
        packed = cost .. ' ' .. tokens_in .. ' ' .. tokens_out .. ' ' .. requests
      end
      set[n + 1], set[n + 2] = field, packed
      n = n + 2
    end
  end
end

local function usage_read(first, at, more)
  local done = redis.call('GET', KEYS[first])
  if done then
    return 'repeated', done
  end
  local most, cost, waits = 9007199254740991, tonumber(ARGV[at + 3]), ARGV[at + 14] ~= ''
  local plus = {cost, cost, tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]),
    tonumber(ARGV[at + 6])}
  local accounts, missing, full = {}, {}, {}
  for place = 1, tonumber(ARGV[at]) do
    local key, last = KEYS[first + 2 + place], place == 1 and at + 33 or at + 27
    local found
    if more then
      local fields = {unpack(ARGV, at + 17, last)}
      for _, field in ipairs(more) do
        fields[#fields + 1] = field
      end
      found = redis.call('HMGET', key, unpack(fields))
    else
      found = redis.call('HMGET', key, unpack(ARGV, at + 17, last))
    end
    if not found[1] then
      missing[#missing + 1] = place
    else
      local set, sums, n = {}, {}, 0
      for sum = 1, 5 do
        local now = (found[5 + sum] or 0) + plus[sum]
        sums[sum] = now
        if plus[sum] ~= 0 then
          -- What has more digits a server might write as 1e+14.
          if now > 1e14 or now < -1e14 then
            if now > most or now < -most then
              full[#full + 1] = place
              break
            end
            now = string.format('%.0f', now)
          end
          set[n + 1], set[n + 2] = ARGV[at + 21 + sum], now
          n = n + 2
        end
      end
      if waits then
        set[n + 1], set[n + 2] = ARGV[at + 27], (found[11] or 0) + 1
        n = n + 2
      end
      if place == 1 then
        usage_names(key, at, found, set, n)
      end
      local values
      if more then
        values = {}
        for one = 1, #more do
          values[one] = found[last - at - 16 + one]
        end
      end
      local limit, day_limit = found[2] or ARGV[at + 32 + 2 * place],
        found[3] or ARGV[at + 33 + 2 * place]
      accounts[place] = {
        key = key, set = set, more = values, seeded = found[1], begins = not found[10],
        tell = sums[5] and (
          limit ~= '' and usage_reached(sums[1], limit, found[4], ARGV[at + 11])
          or day_limit ~= '' and usage_reached(sums[3] + sums[4], day_limit, found[5],
            ARGV[at + 11])),
      }
    end
  end
  if #missing > 0 then
    return 'missing', missing
  end
  if #full > 0 then
    return 'full', full
  end
  return nil, accounts
end

local function usage_add(first, at, accounts)
  local tell, generations = {}, {}
  for place, account in ipairs(accounts) do
    if #account.set > 0 then
      redis.call('HSET', account.key, unpack(account.set))
    end
    if account.begins then
      -- Once a day is enough for a TTL of a hundred.
      redis.call('PEXPIRE', account.key, ARGV[at + 12])
    end
    if account.tell then
      tell[#tell + 1] = place
    end
    generations[place] = account.seeded
  end
  redis.call('SET', KEYS[first], usage_event(at), 'PX', ARGV[at + 13])
  if ARGV[at + 14] ~= '' then
    -- Which account it was counted in: one that was lost meanwhile gets it from the database.
    redis.call('XADD', KEYS[first + 1], '*', 'e', ARGV[at + 14],
      'g', table.concat(generations, ','))
    redis.call('ZADD', KEYS[first + 2], 'NX', ARGV[at + 16], ARGV[at + 15])
  end
  return tell
end
