-- budget_renew.lua: a hold is still in use and ends later; that it does, is told to nobody.
--
-- KEYS     1 hold (lib/budget.lua)
-- ARGV     1 expires, ms, at least   2 its TTL, ms
-- returns  {1 renewed, 0, hold} | {3 it is over, 0, hold} | {4 there is none, 0}
--
-- The set of what is due is not told: who ends it there finds that it ends later.

-- include budget

local text = redis.call('GET', KEYS[1])
if not text then
  return {4, 0}
end
local hold = read_hold(text)
if hold.state ~= 'o' then
  return {3, 0, text}
end
if tonumber(ARGV[1]) > tonumber(hold.expires) then
  hold.expires = ARGV[1]
  text = write_hold(hold)
  redis.call('SET', KEYS[1], text, 'PX', ARGV[2])
end
return {1, 0, text}
