-- session: what the scripts of working memory share.
--
-- A session is a hash, a list of its newest messages (JSON each, oldest first) and a sorted set
-- of what was done to it lately, for what comes twice. The hash has
--
--   u owner             v version, one more with every change    s schema of the values
--   c began, ms         x ends unless used again, ms             e ends at the latest, ms
--   i idle time, ms     w messages that are kept                 q sequence of the last message
--   f:<name>            one top-level value, JSON
--
-- Fields that a script does not know it leaves alone. The sorted set holds ids of messages by
-- their sequence, and `o:<op>` by minus the version that the operation made.
--
-- Codes: what came of a call.
local DONE, REPEATED, MISSING, NOT_OWNER, OTHER_VERSION, OTHER_SCHEMA, UNCHANGED, LATER =
  0, 1, 2, 3, 4, 5, 6, 7

local function text(number)
  return string.format('%.0f', number)
end

-- Why a session with these fields is not the caller's to use; nil if it is. `user` may be empty.
local function session_refusal(owner, expires, now, user)
  if not owner or tonumber(expires) <= now then
    return MISSING
  end
  if user ~= '' and user ~= owner then
    return NOT_OWNER
  end
end

-- When a session that is used now ends: never earlier than before, never later than its last end.
local function session_expiry(expires, ends, idle, now)
  return math.max(tonumber(expires), math.min(now + tonumber(idle), tonumber(ends)))
end

-- A hash as HGETALL gives it, as a table.
local function session_fields(flat)
  local fields = {}
  for at = 1, #flat, 2 do
    fields[flat[at]] = flat[at + 1]
  end
  return fields
end

-- A time in ms as RFC 3339 in a JSON string. (Days from the civil calendar of March years.)
local function session_time(ms)
  local days = math.floor(ms / 86400000)
  local rest = ms - days * 86400000
  days = days + 719468
  local era = math.floor(days / 146097)
  local doe = days - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local march = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * march + 2) / 5) + 1
  local month = march < 10 and march + 3 or march - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ"', year, month, day,
    math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60,
    rest % 1000)
end

-- Now and then forget what was done more than `horizon` versions, or messages, ago.
local function session_forget(ids, version, seq, horizon)
  if version % 256 == 0 and version > horizon then
    redis.call('ZREMRANGEBYSCORE', ids, text(horizon - version), '-1')
    redis.call('ZREMRANGEBYSCORE', ids, '1', text(seq - horizon))
  end
end
