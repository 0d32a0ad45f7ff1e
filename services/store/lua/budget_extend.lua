-- budget_extend.lua: set more aside for a hold; one that expired asks for all of it anew.
--
-- KEYS     1 log stream, 2 meta hash of usage:{user}
--          3 hold (lib/budget.lua)   4 what is due under the user   5.. accounts, the user's first
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-15 body, around the user's limit, spent and reserved, and amount and tokens
--          16 id of the hold   17 id of the extension   18 more, micro-USD   19 more tokens
--          20 expires, ms, at least   21 its TTL, ms
--          22 day, DD, of the hold   23.. rules of the accounts (lib/budget.lua)
-- returns  {1 extended | 2 extended before, 1 first of its hour | 0, hold, standing of each}
--          {3 it is over, 0, hold}   {4 there is none, 0}
--          {0 denied, 0, account, line, limit, used, reserved}   {-2 sums too large, 0}
--          {-1 not seeded | -3 limits are changing, 0, numbers of the accounts}
--
-- Denied, the hold is as it was.

-- include event_log
-- include budget

local KEPT_OPS = 8

local text = redis.call('GET', KEYS[3])
if not text then
  return {4, 0}
end
local hold = read_hold(text)
if hold.state == 'c' or hold.state == 'r' then
  return {3, 0, text}
end
local accounts, strange, changing = read_accounts(5, #KEYS - 4, ARGV[22], 23)

local function standings()
  local all = {}
  for number, account in ipairs(accounts) do
    all[number] = standing(account)
  end
  return all
end

local ops = names_in(hold.ops)
for _, op in ipairs(ops) do
  if op == ARGV[17] and hold.state == 'o' then
    return {2, 0, text, standings()}
  end
end
if #strange > 0 then
  return {-1, 0, strange}
end
if #changing > 0 then
  return {-3, 0, changing}
end
local amount, tokens = tonumber(ARGV[18]), tonumber(ARGV[19])
local total, total_tokens = tonumber(hold.amount) + amount, tonumber(hold.tokens) + tokens
-- What an account does not have of this hold, because it expired or the account was lost, it
-- is asked for now.
local books = {}
for number, account in ipairs(accounts) do
  local needs, needs_tokens = total, total_tokens
  if hold.state == 'o' and holds_in(account, hold, number) then
    needs, needs_tokens = amount, tokens
  end
  local denied = refusal({account}, needs, needs_tokens)
  if denied then
    denied[3] = denied[3] and number
    return denied
  end
  books[number] = account.book
  set_aside(account, needs, needs_tokens)
end

hold.state = 'o'
hold.amount, hold.tokens = whole(total), whole(total_tokens)
hold.books = table.concat(books, ',')
if tonumber(ARGV[20]) > tonumber(hold.expires) then
  hold.expires = ARGV[20]
end
ops[#ops + 1] = ARGV[17]
while #ops > KEPT_OPS do
  table.remove(ops, 1)
end
hold.ops = table.concat(ops, ',')
local user = accounts[1]
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10] .. limit_text(user.limit)
  .. ARGV[11] .. shown(user.spent) .. ARGV[12] .. whole(user.reserved)
  .. ARGV[13] .. hold.amount .. ARGV[14] .. hold.tokens .. ARGV[15])
if err then
  return err
end
text = write_hold(hold)
redis.call('SET', KEYS[3], text, 'PX', ARGV[21])
redis.call('ZADD', KEYS[4], hold.expires, 'hold:' .. ARGV[16])
for _, account in ipairs(accounts) do
  write_reserved(account)
end
return {1, hourly, text, standings()}
