-- budget_commit.lua: charge what was used and settle the hold that was made for it.
--
-- KEYS     1 log stream, 2 meta hash of usage:{user}
--          3 hold (lib/budget.lua)   4 that the event was counted, 5 pending, 6 what is due under
--          the user; then the accounts of when it was used (lib/usage.lua), and those of the
--          hold where they are other ones
-- ARGV     1-9 terms of the channel (lib/event_log.lua)   10 body of usage.recorded
--          11-19 terms again, for budget.released   20-27 body of that (released_body)
--          28 id of the hold   29 day, DD, of the hold   30 its TTL, ms
--          31 the hold as it was, for one that is not known any more; empty for none
--          32 rules of the accounts, where in ARGV   33... terms of lib/usage.lua
-- returns  {1 charged | 2 committed before, 1 first of its hour | 0, hold, accounts to tell of,
--           1 the event was counted before | 0}
--          {4 there is no hold, 0}   {-1 not seeded, 0, numbers of the accounts}
--          {-2 sums too large, 0}   {-4 the event was counted with other amounts, 0}
--
-- A hold that is over is charged all the same, late.

-- include event_log
-- include budget
-- include usage

local text = redis.call('GET', KEYS[3])
local hold
if text then
  hold = read_hold(text)
elseif ARGV[31] ~= '' then
  hold = read_hold(ARGV[31])
  hold.state = 'x'
else
  return {4, 0}
end
if hold.state == 'c' then
  return {2, 0, text, {}, 1}
end

local many, day = tonumber(ARGV[33]), ARGV[29]
local apart = #KEYS > 6 + many
local why, found = usage_read(4, 33, {'r', day .. ':r', 'L', 'c', 'seeded'})
local repeated = why == 'repeated'
if why == 'missing' then
  return {-1, 0, found}
elseif why == 'full' then
  return {-2, 0}
elseif repeated and string.match(found, '^%S* %S+ %S+ %S+') ~= table.concat(ARGV, ' ', 35, 38) then
  -- Another use under the same id: settled by it, this one would be charged to nobody.
  return {-4, 0}
end

local cost, tokens = tonumber(ARGV[36]), tonumber(ARGV[37]) + tonumber(ARGV[38])
local amount, amount_tokens = tonumber(hold.amount), tonumber(hold.tokens)
local open, changed = hold.state == 'o', {}
local rules = tonumber(ARGV[32])
local user
for number = 1, many do
  local account
  if apart or repeated then
    account = read_account(KEYS[6 + number + (apart and many or 0)], account_fields(day))
  else
    local more = found[number].more
    account = {limit = tonumber(more[3] or ''), spent = tonumber(more[4] or '0') + cost,
      reserved = tonumber(more[1] or '0'), day_reserved = tonumber(more[2] or '0'),
      book = string.match(more[5] or '', '^%S+')}
  end
  if open and holds_in(account, hold, number) then
    set_aside(account, -amount, -amount_tokens)
    if account.key then
      changed[#changed + 1] = account
    else
      local set = found[number].set
      for _, value in ipairs({'r', whole(account.reserved), day .. ':r',
          whole(account.day_reserved)}) do
        set[#set + 1] = value
      end
    end
  end
  if number == 1 then
    account.limit = account.limit or tonumber(ARGV[rules])
    user = account
  end
end

local late = not open
local overage = math.max(0, cost - (late and 0 or amount))
local err, hourly, hourly_too, _
if not repeated then
  err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
  if err then
    return err
  end
end
local free = late and {amount = '0', tokens = '0'} or hold
err, _, _, hourly_too = append_event(KEYS[1], KEYS[2], 11,
  released_body(20, user, free, whole(overage), late and 'true' or 'false'))
if err then
  return err
end
hold.state, hold.charged, hold.charged_tokens = 'c', whole(cost), whole(tokens)
hold.overage, hold.late = whole(overage), late and '1' or '0'
text = write_hold(hold)
redis.call('SET', KEYS[3], text, 'PX', ARGV[30])
if not late then
  redis.call('ZREM', KEYS[6], 'hold:' .. ARGV[28])
end
for _, account in ipairs(changed) do
  write_reserved(account)
end
local tell = {}
if not repeated then
  tell = usage_add(4, 33, found)
end
return {1, math.max(hourly or 0, hourly_too), text, tell, repeated and 1 or 0}
