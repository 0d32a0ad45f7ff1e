-- usage: counting what was used in the accounts of a user, their workspace and organisation.
-- (What stands in an account: services/usage/account.py.)
--
-- KEYS from `first`   op, pending, due; then the accounts, the user's before the others
-- ARGV from `at`      17 terms; services/usage/terms.py makes them:
--    0 accounts, how many   1 day of the month, DD   2 kind, '' for usage
--    3 cost, micro-USD   4 tokens in   5 tokens out   6 requests
--    7 agent   8 model   9 workspace ('' for none): names in the user's breakdown
--   10 names at most, of each sort and day   11 thresholds, percent, falling: '100 80 50'
--   12 TTL of an account, ms   13 TTL of op, ms
--   14 entry for the database ('' for none)   15 its member in due   16 when that is due, ms
--
-- usage_read(first, at, more)   reads, and decides; nothing is written
--   more      names of further fields of the accounts to read, or nil
--   returns   'repeated', what it was then   the event was counted; usage_terms says what it is
--             'missing', {places}            these accounts (1 for the first) must be seeded
--             'full', {places}               these sums would be beyond 2^53
--             nil, {account, ...}            account.more: values of `more`; add to account.set
--                                            (field, value, ...) what is to be written with it
--
-- usage_add(first, at, accounts)  writes all of it; call it after append_event
--   returns   {places} of those accounts that reached a share of a limit that was not told
local function usage_text(number)
  return string.format('%.0f', number)
end

-- What an event is, for those that come twice.
local function usage_terms(at)
  return table.concat(ARGV, ' ', at + 2, at + 9)
end

-- The sums of a name in the breakdown, 'cost in out requests'.
local function usage_sums(packed)
  local cost, i, o, n = string.match(packed or '', '^(%S+) (%S+) (%S+) (%S+)$')
  return tonumber(cost) or 0, tonumber(i) or 0, tonumber(o) or 0, tonumber(n) or 0
end

-- The highest threshold that is reached and was not told.
local function usage_reached(sum, limit, told, thresholds)
  limit = tonumber(limit or '')
  if not limit then
    return false
  end
  told = tonumber(told or '') or 0
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

local USAGE_NAMES = {'a', 'm', 'w'}

local function usage_read(first, at, more)
  local done = redis.call('GET', KEYS[first])
  if done then
    return 'repeated', done
  end
  local day, many, most = ARGV[at + 1], tonumber(ARGV[at]), 9007199254740991
  local plus = {tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]),
    tonumber(ARGV[at + 6])}
  local accounts, missing, full = {}, {}, {}
  for place = 1, many do
    local key = KEYS[first + 2 + place]
    local fields = {'seeded', 'L', 'D', 'T', day .. ':T', 'c', 'i', 'o', 'n',
      day .. ':c', day .. ':i', day .. ':o', day .. ':n', day .. ':p'}
    local names = 14
    if place == 1 then
      for sort = 1, 3 do
        local name = ARGV[at + 6 + sort]
        if name ~= '' then
          local prefix = day .. ':' .. USAGE_NAMES[sort]
          fields[#fields + 1] = prefix .. ':' .. name
          fields[#fields + 1] = prefix
        end
      end
    end
    local others = #fields
    for _, field in ipairs(more or {}) do
      fields[#fields + 1] = field
    end
    local found = redis.call('HMGET', key, unpack(fields))
    if not found[1] then
      missing[#missing + 1] = place
    else
      local set, sums = {}, {}
      for at_field = 6, 13 do
        local sum = tonumber(found[at_field] or '') or 0
        local by = plus[(at_field - 6) % 4 + 1]
        sum = sum + by
        if sum > most or sum < -most then
          full[#full + 1] = place
        end
        sums[at_field] = sum
        if by ~= 0 then
          set[#set + 1] = fields[at_field]
          set[#set + 1] = usage_text(sum)
        end
      end
      if ARGV[at + 14] ~= '' then
        set[#set + 1] = fields[14]
        set[#set + 1] = usage_text((tonumber(found[14] or '') or 0) + 1)
      end
      for name = names + 1, others, 2 do
        local field, packed, count = fields[name], found[name], found[name + 1]
        count = tonumber(count or '') or 0
        if not packed and count >= tonumber(ARGV[at + 10]) then
          -- One of many: so that an account stays small whatever callers think of.
          field = fields[name + 1] .. ':other'
          packed = redis.call('HGET', key, field)
        elseif not packed then
          set[#set + 1] = fields[name + 1]
          set[#set + 1] = usage_text(count + 1)
        end
        local cost, i, o, n = usage_sums(packed)
        set[#set + 1] = field
        set[#set + 1] = string.format('%.0f %.0f %.0f %.0f',
          cost + plus[1], i + plus[2], o + plus[3], n + plus[4])
      end
      local values = {}
      for one = others + 1, #fields do
        values[one - others] = found[one]
      end
      accounts[place] = {
        key = key, set = set, more = values, generation = string.match(found[1], '^%S+'),
        begins = not found[13] and not found[10],
        tell = usage_reached(sums[6], found[2], found[4], ARGV[at + 11])
          or usage_reached(sums[11] + sums[12], found[3], found[5], ARGV[at + 11]),
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
    generations[place] = account.generation
  end
  redis.call('SET', KEYS[first], usage_terms(at), 'PX', ARGV[at + 13])
  if ARGV[at + 14] ~= '' then
    -- Which account it was counted in: one that was lost meanwhile gets it from the database.
    redis.call('XADD', KEYS[first + 1], '*', 'e', ARGV[at + 14],
      'g', table.concat(generations, ' '))
    redis.call('ZADD', KEYS[first + 2], 'NX', ARGV[at + 16], ARGV[at + 15])
  end
  return tell
end
