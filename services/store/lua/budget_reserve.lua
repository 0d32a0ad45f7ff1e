-- budget_reserve.lua: set an amount aside in up to three budgets, all or nothing.
--
-- KEYS     1 log stream, 2 meta hash of usage:{user}
--          3 hold (lib/budget.lua)   4 what is due under the user   5.. accounts, the user's first
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-13 body that tells of it, around the user's limit, spent and reserved
--          14 id of the hold   15, 16 the hold as it is written, before and after its books
--          17 its TTL, ms   18 its amount, micro-USD   19 tokens   20 day, DD   21 expires, ms
--          22.. rules of the accounts (lib/budget.lua)
-- returns  {1 reserved | 2 reserved before, 1 first of its hour | 0, hold, standing of each}
--          {3 there is another hold of this name, or it is over, 0, hold}
--          {0 denied, 0, account, line, limit, used, reserved}   {-2 sums too large, 0}
--          {-1 not seeded | -3 limits are changing, 0, numbers of the accounts}

-- include event_log
-- include budget

local accounts, strange, changing = read_accounts(5, #KEYS - 4, ARGV[20], 22)

local function standings()
  local all = {}
  for number, account in ipairs(accounts) do
    all[number] = standing(account)
  end
  return all
end

local text = redis.call('GET', KEYS[3])
if text then
  local found, hold = read_hold(text), read_hold(ARGV[15] .. ARGV[16])
  -- Extended since, it is still the one that was asked for.
  if found.state == 'o' and found.workspace == hold.workspace
      and found.organisation == hold.organisation
      and (found.ops ~= '' or found.amount == hold.amount and found.tokens == hold.tokens) then
    return {2, 0, text, standings()}
  end
  return {3, 0, text}
end
if #strange > 0 then
  return {-1, 0, strange}
end
if #changing > 0 then
  return {-3, 0, changing}
end
local amount, tokens = tonumber(ARGV[18]), tonumber(ARGV[19])
local denied = refusal(accounts, amount, tokens)
if denied then
  return denied
end

local books = {}
for number, account in ipairs(accounts) do
  books[number] = account.book
  set_aside(account, amount, tokens)
end
local user = accounts[1]
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10] .. limit_text(user.limit)
  .. ARGV[11] .. shown(user.spent) .. ARGV[12] .. whole(user.reserved) .. ARGV[13])
if err then
  return err
end
text = ARGV[15] .. table.concat(books, ',') .. ARGV[16]
redis.call('SET', KEYS[3], text, 'PX', ARGV[17])
redis.call('ZADD', KEYS[4], ARGV[21], 'hold:' .. ARGV[14])
for _, account in ipairs(accounts) do
  write_reserved(account)
end
return {1, hourly, text, standings()}
