-- budget_tell.lua: tell, once a period, that a share of a budget is used.
--
-- KEYS     1 log stream, 2 meta hash of the channel of the account's owner
--          3 account (services/usage/account.py)
--          4 log stream, 5 meta hash of notifications:{user}; without them nobody is notified
-- ARGV     1-9 terms of the channel (lib/event_log.lua), for the month; 10-18 for the day
--          19-27, 28-36 terms of notifications:{user}, for the month and the day
--          37 day, DD   38 thresholds, percent, falling: '100 80 50'
--          39, 40 limits of month and day where the account has none, empty for none
--          41-45 body of the month's threshold, around limit, spent, reserved and percent
--          46-49 body that the month is spent, around limit, spent and reserved
--          50-54, 55-58 the same of the day
--          59, 60 notification of the month's threshold, around percent; 61 that it is spent
--          62, 63, 64 the same of the day
-- returns  {1 told | 0 nothing to tell, 1 first of its hour | 0, percent told of the month | 0,
--           of the day | 0, 1 first of its hour on notifications:{user} | 0}
--
-- Where several shares were reached at once, the highest is told.

-- include event_log

local function whole(number)
  return string.format('%.0f', number)
end

local day = ARGV[37]
local found = redis.call('HMGET', KEYS[3], 'seeded', 'L', 'c', 'r', 'T',
  'D', day .. ':i', day .. ':o', day .. ':r', day .. ':T')
if not found[1] then
  return {0, 0, 0, 0, 0}
end
local function number(at)
  return tonumber(found[at] or '') or 0
end
local lines = {
  {limit = tonumber(found[2] or ARGV[39]), spent = number(3), reserved = number(4),
    told = number(5), field = 'T', terms = 1, notice_terms = 19, threshold = 41, exceeded = 46,
    notice = 59},
  {limit = tonumber(found[6] or ARGV[40]), spent = number(7) + number(8), reserved = number(9),
    told = number(10), field = day .. ':T', terms = 10, notice_terms = 28, threshold = 50,
    exceeded = 55, notice = 62},
}

local marks, told, hourly, hourly_notice = {}, {0, 0}, 0, 0
for at, line in ipairs(lines) do
  local reached = 0
  if line.limit then
    for percent in string.gmatch(ARGV[38], '%d+') do
      percent = tonumber(percent)
      if line.spent * 100 >= percent * line.limit then
        reached = percent
        break
      end
    end
  end
  -- A limit of 0 is used up from the start, and nobody has to hear that nothing was spent.
  if reached > line.told and line.spent > 0 then
    local limit, spent, reserved = whole(line.limit), whole(line.spent), whole(line.reserved)
    local body, notice
    if reached >= 100 then
      local first = line.exceeded
      body = ARGV[first] .. limit .. ARGV[first + 1] .. spent .. ARGV[first + 2] .. reserved
        .. ARGV[first + 3]
      notice = ARGV[line.notice + 2]
    else
      local first = line.threshold
      body = ARGV[first] .. limit .. ARGV[first + 1] .. spent .. ARGV[first + 2] .. reserved
        .. ARGV[first + 3] .. whole(reached) .. ARGV[first + 4]
      notice = ARGV[line.notice] .. whole(reached) .. ARGV[line.notice + 1]
    end
    local err, _, _, first_of_hour = append_event(KEYS[1], KEYS[2], line.terms, body)
    if err then
      return err
    end
    hourly = math.max(hourly, first_of_hour)
    if KEYS[4] then
      err, _, _, first_of_hour = append_event(KEYS[4], KEYS[5], line.notice_terms, notice)
      if err then
        return err
      end
      hourly_notice = math.max(hourly_notice, first_of_hour)
    end
    marks[#marks + 1] = line.field
    marks[#marks + 1] = whole(reached)
    told[at] = reached
  end
end
if #marks == 0 then
  return {0, 0, 0, 0, 0}
end
redis.call('HSET', KEYS[3], unpack(marks))
return {1, hourly, told[1], told[2], hourly_notice}
