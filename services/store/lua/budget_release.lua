-- budget_release.lua: what a hold set aside is free again, because somebody says so or its time
-- is up.
--
-- KEYS     1 log stream, 2 meta hash of usage:{user}
--          3 hold (lib/budget.lua)   4 what is due under the user   5.. accounts, the user's first
-- ARGV     1-9 terms of the channel (lib/event_log.lua)
--          10-17 body that tells of it (released_body)
--          18 id of the hold   19 day, DD, of the hold   20 state it gets, r or x
--          21 now, ms; empty: whether its time is up or not   22 TTL of the hold, ms
--          23.. rules of the accounts (lib/budget.lua)
-- returns  {1 free, 1 first of its hour | 0, hold} | {0 its time is not up, 0, hold}
--          {3 it was over before, 0, hold} | {4 there is none, 0}

-- include event_log
-- include budget

local text = redis.call('GET', KEYS[3])
local hold = text and read_hold(text)
if not hold or hold.state ~= 'o' then
  redis.call('ZREM', KEYS[4], 'hold:' .. ARGV[18])
  return hold and {3, 0, text} or {4, 0}
end
if ARGV[21] ~= '' and tonumber(ARGV[21]) < tonumber(hold.expires) then
  redis.call('ZADD', KEYS[4], hold.expires, 'hold:' .. ARGV[18])
  return {0, 0, text}
end

local accounts = read_accounts(5, #KEYS - 4, ARGV[19], 23)
local amount, tokens = tonumber(hold.amount), tonumber(hold.tokens)
local changed = {}
for number, account in ipairs(accounts) do
  if holds_in(account, hold, number) then
    set_aside(account, -amount, -tokens)
    changed[#changed + 1] = account
  end
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1,
  released_body(10, accounts[1], hold, '0', 'false'))
if err then
  return err
end
hold.state = ARGV[20]
text = write_hold(hold)
redis.call('SET', KEYS[3], text, 'PX', ARGV[22])
redis.call('ZREM', KEYS[4], 'hold:' .. ARGV[18])
for _, account in ipairs(changed) do
  write_reserved(account)
end
return {1, hourly, text}
