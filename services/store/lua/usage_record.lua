-- usage_record.lua: count what was used, tell of it, and keep it for the database.
--
-- KEYS     1 log stream, 2 meta hash of the user's channel
--          3 op string, 4 pending stream, 5 due set of the user   6... accounts (lib/usage.lua)
-- ARGV     1-9 terms of the channel   10 body of the event   11... terms of usage
-- returns  {1 counted, hourly, {places of accounts with something to tell}}
--          {2 counted before, 0, what it was then}
--          {3 not counted, 0, {places of accounts that must be seeded}}
--          {4 not counted, 0, {places of accounts whose sums would be too large}}

-- include event_log
-- include usage

local refused, found = usage_read(3, 11)
if refused then
  return {refused == 'repeated' and 2 or refused == 'missing' and 3 or 4, 0, found}
end
local err, _, _, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[10])
if err then
  return err
end
return {1, hourly, usage_add(3, 11, found)}
