-- usage_settle.lua: take out of a user's pending stream what is in the database by now.
--
-- KEYS     1 pending stream, 2 due set, 3 dead stream of the user   4... accounts
-- ARGV     1 member of due   2 when it is due again if more is pending, ms
--          3 entries to set aside, how many   4 entries to settle, how many
--          then ids of those to set aside; then for each to settle
--            id, batch it is in, DD, cost, tokens in, tokens out, requests, agent, model,
--            workspace, 1 if another entry had brought the event before | 0,
--            and three times: which of the accounts (1 for KEYS[4]; 0 for none), the generation
--            it was counted in ('' for none)
-- returns  {1, settled, entries that are left, accounts that got what they lacked}
--          {2, {places of accounts that must be completed first}}   nothing was done
--
-- An account has an event by having been counted, and by its seed if that read a batch as late
-- as the event's. It is to have it once, whatever was lost and seeded meanwhile. It is only
-- here that an entry leaves, so that each is looked at once.

local dead, many = tonumber(ARGV[3]), tonumber(ARGV[4])
local first, width = 5 + dead, 17

-- The ids that are still there: another node may have been faster.
local here, ids = {}, {}
for at = 1, dead + many do
  ids[at] = at <= dead and ARGV[4 + at] or ARGV[first + (at - dead - 1) * width]
end
if #ids > 0 then
  local low, high = ids[1], ids[#ids]
  if dead > 0 and many > 0 then
    low, high = '-', '+'
  end
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], low, high, 'COUNT', 2 * #ids)) do
    here[entry[1]] = entry[2]
  end
end

local accounts, held = {}, {}
for at = first, first + (many - 1) * width, width do
  for slot = at + 11, at + 15, 2 do
    local place = tonumber(ARGV[slot])
    if place > 0 then
      accounts[place] = accounts[place] or {days = {}, fields = {'seeded', 'k', 'f'}}
      local account, day = accounts[place], ARGV[at + 2]
      if not account.days[day] then
        account.days[day] = {settled = 0, names = {}, sums = {0, 0, 0, 0}}
        account.fields[#account.fields + 1] = day .. ':p'
        account.fields[#account.fields + 1] = day .. ':s'
      end
    end
  end
end
for place, account in pairs(accounts) do
  local found = redis.call('HMGET', KEYS[3 + place], unpack(account.fields))
  account.seeding = not found[1] and found[2]
  account.last = tonumber(found[3] or '0')
  if found[1] then
    local generation, batch = string.match(found[1], '^(%S+) (%S+)$')
    account.generation, account.batch = generation, tonumber(batch)
    if account.batch < 0 then
      held[#held + 1] = place
    end
    for at = 4, #account.fields, 2 do
      local day = account.days[string.sub(account.fields[at], 1, 2)]
      day.pending = tonumber(found[at] or '0')
      day.batch = math.max(account.batch, tonumber(found[at + 1] or '0'))
    end
  end
end
if #held > 0 then
  return {2, held}
end

local settled = 0
for at = first, first + (many - 1) * width, width do
  if here[ARGV[at]] then
    settled = settled + 1
    for slot = at + 11, at + 15, 2 do
      local account, batch = accounts[tonumber(ARGV[slot])], tonumber(ARGV[at + 1])
      if account and account.generation then
        local day = account.days[ARGV[at + 2]]
        local counted = ARGV[slot + 1] == account.generation and 1 or 0
        day.settled = day.settled + counted
        local lacks = -counted
        if ARGV[at + 10] == '0' then
          lacks = 1 - counted - (batch <= day.batch and 1 or 0)
        end
        if lacks ~= 0 then
          account.changed, day.changed = true, true
          for sum = 1, 4 do
            day.sums[sum] = day.sums[sum] + lacks * tonumber(ARGV[at + 2 + sum])
          end
          if slot == at + 11 then  -- the user's
            day.names[#day.names + 1] = {at, lacks}
          end
        end
      elseif account and account.seeding then
        account.last = math.max(account.last, batch)
      end
    end
  end
end

-- First: a server without memory lets a script go on that began by removing something, and it may
-- be full of what waited for the database.
if #ids > 0 then
  redis.call('XDEL', KEYS[1], unpack(ids))
end
local SUMS, SORTS, late = {'c', 'i', 'o', 'n'}, {'a', 'm', 'w'}, 0
for place, account in pairs(accounts) do
  local key, set = KEYS[3 + place], {}
  if account.seeding then
    set = {'f', string.format('%.0f', account.last)}
  elseif account.generation then
    for name, day in pairs(account.days) do
      if day.settled > 0 and day.pending > 0 then
        set[#set + 1] = name .. ':p'
        set[#set + 1] = string.format('%.0f', math.max(0, day.pending - day.settled))
      end
      if day.changed then
        for sum = 1, 4 do
          local by = string.format('%.0f', day.sums[sum])
          if sum == 1 then
            redis.call('HINCRBY', key, 'c', by)
          end
          redis.call('HINCRBY', key, name .. ':' .. SUMS[sum], by)
        end
        for _, one in ipairs(day.names) do
          for sort = 1, 3 do
            local at, called = one[1], ARGV[one[1] + 6 + sort]
            if called ~= '' then
              local prefix = name .. ':' .. SORTS[sort]
              local field = prefix .. ':' .. called
              local packed = redis.call('HGET', key, field)
              if not packed then
                redis.call('HINCRBY', key, prefix, 1)
              end
              local c, i, o, n = string.match(packed or '0 0 0 0', '^(%S+) (%S+) (%S+) (%S+)$')
              redis.call('HSET', key, field, string.format('%.0f %.0f %.0f %.0f',
                c + one[2] * ARGV[at + 3], i + one[2] * ARGV[at + 4],
                o + one[2] * ARGV[at + 5], n + one[2] * ARGV[at + 6]))
            end
          end
        end
      end
    end
    late = late + (account.changed and 1 or 0)
  end
  if #set > 0 then
    redis.call('HSET', key, unpack(set))
  end
end
for at = 1, dead do
  if here[ids[at]] then
    redis.call('XADD', KEYS[3], '*', 'from', ids[at], unpack(here[ids[at]]))
  end
end
local left = redis.call('XLEN', KEYS[1])
if left == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
end
return {1, settled, left, late}
