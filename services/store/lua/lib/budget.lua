-- budget: accounts as budgets see them, and holds.
--
-- An account is the hash that services/usage/account.py describes. The first word of its
-- `seeded` is its generation: an account that was lost and begun again has another one, and a
-- hold that was set aside in the lost one is not taken from what the new one has reserved. Its
-- second word is -1 where the database was away: its sums are too low and its limits unknown, so
-- nothing is granted by them. `x` is a mark that its limits are being changed in the database.
--
-- A hold is one string, its values separated by |, which no id contains:
--   state        o open, r released, x expired, c committed
--   month, day   YYYY-MM and DD of when it was made: whose budgets it is in
--   amount       micro-USD        tokens
--   expires      ms               created   ms
--   workspace, organisation      empty for none; the user is the root
--   books        generations of its accounts, in their order, by commas
--   ops          ids of its latest extensions, by commas
--   charged, charged_tokens, overage, late   what became of it, once it is committed

local HOLD = {'state', 'month', 'day', 'amount', 'tokens', 'expires', 'created', 'workspace',
  'organisation', 'books', 'ops', 'charged', 'charged_tokens', 'overage', 'late'}

local function whole(number)
  return string.format('%.0f', number)
end

-- A sum as events tell it: what was refunded beyond what was used shows as nothing used.
local function shown(number)
  return whole(math.max(0, number))
end

-- A number as an argument. What has more digits a server might write as 1e+14.
local function argument(number)
  if number < 1e14 then
    return number
  end
  return whole(number)
end

local function read_hold(text)
  local hold, at = {}, 1
  for value in string.gmatch(text .. '|', '([^|]*)|') do
    if HOLD[at] then
      hold[HOLD[at]] = value
    end
    at = at + 1
  end
  return hold
end

local function write_hold(hold)
  local values = {}
  for at, name in ipairs(HOLD) do
    values[at] = hold[name] or ''
  end
  return table.concat(values, '|')
end

local function names_in(text)
  local names = {}
  for name in string.gmatch(text, '[^,]+') do
    names[#names + 1] = name
  end
  return names
end

-- account_fields(day)  what is read of an account; day is DD
local function account_fields(day)
  return {'seeded', 'L', 'D', 'c', 'r', day .. ':i', day .. ':o', day .. ':r', 'T', day .. ':T',
    'x'}
end

-- read_account(key, fields)  one HMGET
local function read_account(key, fields)
  local found = redis.call('HMGET', key, unpack(fields))
  local seeded = found[1]
  return {key = key, known = seeded and not string.find(seeded, ' -1', 1, true),
    book = seeded and string.match(seeded, '^%S+'), day_field = fields[8],
    limit = found[2] and tonumber(found[2]), day_limit = found[3] and tonumber(found[3]),
    spent = (found[4] or 0) + 0, reserved = (found[5] or 0) + 0,
    tokens = (found[6] or 0) + (found[7] or 0), day_reserved = (found[8] or 0) + 0,
    told = (found[9] or 0) + 0, day_told = (found[10] or 0) + 0, mark = found[11] or ''}
end

-- read_accounts(first, many, day, at)  the accounts in KEYS from first on
--   at       where in ARGV their rules begin, seven each: limit where the account has none
--            (empty for none), what may be overdrawn, its share of the limit in 1/10,000 (-1 for
--            any); the same three of the day's tokens; and the mark that the caller knows of
--   returns  them; numbers of those that nobody seeded yet; of those whose limits are being
--            changed (x is a mark that the caller does not know of): read them first
local function read_accounts(first, many, day, at)
  local accounts, strange, changing, fields = {}, {}, {}, account_fields(day)
  for number = 1, many do
    local account = read_account(KEYS[first + number - 1], fields)
    local rules = at + (number - 1) * 7
    account.limit = account.limit or tonumber(ARGV[rules])
    account.extra, account.share = tonumber(ARGV[rules + 1]), tonumber(ARGV[rules + 2])
    account.day_limit = account.day_limit or tonumber(ARGV[rules + 3])
    account.day_extra, account.day_share = tonumber(ARGV[rules + 4]), tonumber(ARGV[rules + 5])
    accounts[number] = account
    if not account.known then
      strange[#strange + 1] = number
    elseif account.mark ~= ARGV[rules + 6] then
      changing[#changing + 1] = number
    end
  end
  return accounts, strange, changing
end

-- lacks_room(limit, extra, share, used, need)  whether a budget denies
local function lacks_room(limit, extra, share, used, need)
  if not limit or share < 0 then
    return false
  end
  local most = limit + extra + math.floor(limit * share / 10000)
  return most == 0 or used + need > most
end

-- refusal(accounts, amount, tokens)  nil, or what says no first:
--   {0, 0, account, line 1 month | 2 day, limit, used, reserved}; {-2, 0} sums beyond 2^53
local function refusal(accounts, amount, tokens)
  for number, one in ipairs(accounts) do
    if lacks_room(one.limit, one.extra, one.share, one.spent + one.reserved, amount) then
      return {0, 0, number, 1, whole(one.limit), whole(one.spent), whole(one.reserved)}
    end
    if lacks_room(one.day_limit, one.day_extra, one.day_share, one.tokens + one.day_reserved,
        tokens) then
      return {0, 0, number, 2, whole(one.day_limit), whole(one.tokens), whole(one.day_reserved)}
    end
    if one.spent + one.reserved + amount > 9007199254740991
        or one.tokens + one.day_reserved + tokens > 9007199254740991 then
      return {-2, 0}
    end
  end
  return nil
end

-- holds_in(account, hold, number)  whether the hold is part of what the account has reserved
local function holds_in(account, hold, number)
  return account.book and account.book == names_in(hold.books)[number]
end

-- set_aside(account, amount, tokens)  in the table only: what it will have reserved
local function set_aside(account, amount, tokens)
  account.reserved = math.max(0, account.reserved + amount)
  account.day_reserved = math.max(0, account.day_reserved + tokens)
end

-- write_reserved(account)  one HSET; never for an account that is not there
local function write_reserved(account)
  redis.call('HSET', account.key, 'r', argument(account.reserved), account.day_field,
    argument(account.day_reserved))
end

-- limit_text(limit)  a limit as JSON
local function limit_text(limit)
  return limit and whole(limit) or 'null'
end

-- released_body(at, account, hold, overage, late)  the pieces in ARGV around seven values
local function released_body(at, account, hold, overage, late)
  return ARGV[at] .. limit_text(account.limit) .. ARGV[at + 1] .. shown(account.spent)
    .. ARGV[at + 2] .. whole(account.reserved) .. ARGV[at + 3] .. hold.amount
    .. ARGV[at + 4] .. hold.tokens .. ARGV[at + 5] .. overage .. ARGV[at + 6] .. late
    .. ARGV[at + 7]
end

-- standing(account)  as scripts reply it: month's limit (-1 for none), spent, reserved, told; day's
local function standing(account)
  return {account.limit or -1, account.spent, account.reserved, account.told,
    account.day_limit or -1, account.tokens, account.day_reserved, account.day_told}
end
