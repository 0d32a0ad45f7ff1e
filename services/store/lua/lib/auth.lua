-- auth: a login session as text, in the hash of its user, by its public id.
--
--   <digest> <version> <created> <seen> <expires> <ends> <idle> <order> <claims>
--
--   digest   of the secret it has now        version  counts its secrets, from 1
--   created, seen (used last), expires (unless it is used again), ends (in any case): ms
--   idle     ms from one use to the end      order    offset of the event that told of it
--   claims   JSON
local function read_session(text)
  local digest, version, created, seen, expires, ends, idle, order, claims = string.match(text,
    '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return {digest = digest, version = version, created = created, seen = seen, expires = expires,
    ends = ends, idle = idle, order = order, claims = claims}
end

local function write_session(s)
  return table.concat({s.digest, s.version, s.created, s.seen, s.expires, s.ends, s.idle,
    s.order, s.claims}, ' ')
end

-- see_session(s, now)  it is used: its end moves on, but not beyond its last one, nor back
--                      where the clock of this node is behind another's
local function see_session(s, now)
  s.seen = now
  s.expires = string.format('%.0f', math.max(tonumber(s.expires),
    math.min(tonumber(now) + tonumber(s.idle), tonumber(s.ends))))
end
