-- budget_limit.lua: the limits of a budget are being changed in the database, or were read there.
--
-- KEYS     1 account (services/usage/account.py)
-- ARGV     1 mark that they are being changed: written if 2 is empty, expected otherwise
--          2 '' mark only | 'keep' write the limits, keep the mark | 'clear' and remove it
--          3, 4 limits of month and day; empty for none
--          5 day, DD   6 thresholds, percent, falling   7, 8 limits where there are none
-- returns  1 done | 0 the account is not seeded | -1 somebody else is changing them
--
-- A limit that was raised lowers what counts as told, so that what is reached again is told.
-- Who is about to seed the account may have read the old limits: the mark has it read again.
-- An account that was begun without the database keeps its mark, for the same reason.

local day = ARGV[5]
local found = redis.call('HMGET', KEYS[1], 'seeded', 'x', 'c', 'T', day .. ':i', day .. ':o',
  day .. ':T')
if not found[1] then
  redis.call('HDEL', KEYS[1], 'k')
  return 0
end
if ARGV[2] == '' then
  redis.call('HSET', KEYS[1], 'x', ARGV[1])
  return 1
end
if (found[2] or '') ~= ARGV[1] then
  return -1
end

local function number(at)
  return tonumber(found[at] or '') or 0
end
local function reached(sum, limit)
  if limit then
    for percent in string.gmatch(ARGV[6], '%d+') do
      if sum * 100 >= tonumber(percent) * limit then
        return tonumber(percent)
      end
    end
  end
  return 0
end

local set, gone = {}, {}
local function write(field, value)
  if value == '' then
    gone[#gone + 1] = field
  else
    set[#set + 1] = field
    set[#set + 1] = value
  end
end
write('L', ARGV[3])
write('D', ARGV[4])
local month_reached = reached(number(3), tonumber(ARGV[3]) or tonumber(ARGV[7]))
local day_reached = reached(number(5) + number(6), tonumber(ARGV[4]) or tonumber(ARGV[8]))
if month_reached < number(4) then
  write('T', string.format('%.0f', month_reached))
end
if day_reached < number(7) then
  write(day .. ':T', string.format('%.0f', day_reached))
end
if ARGV[2] == 'clear' and not string.find(found[1], ' -1', 1, true) then
  gone[#gone + 1] = 'x'
end
if #set > 0 then
  redis.call('HSET', KEYS[1], unpack(set))
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
end
return 1
