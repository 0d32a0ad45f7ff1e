-- slots: who holds one of a number of slots, and until when.
--
-- A sorted set: holders by when their lease ends, ms. The member ``!`` says that it was told that
-- all are taken: its score is when, ms, and 1e15, beyond every lease.

-- read_slots(key, now)  -> number taken, lease by holder, first end, when it was told or nil,
-- number of leases that are over
local function read_slots(key, now)
  local flat = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  local taken, over, leases, first, told = 0, 0, {}, nil, nil
  for i = 1, #flat, 2 do
    local score = tonumber(flat[i + 1])
    if flat[i] == '!' then
      told = score - 1e15
    elseif score <= now then
      over = over + 1
    else
      taken, leases[flat[i]], first = taken + 1, score, first or score
    end
  end
  return taken, leases, first, told, over
end
