-- approvals_snapshot.lua: read the open gates of a workspace and the position they are at.
--
-- KEYS     1 log stream   2 meta hash   3 the open gates, hash id -> JSON
-- ARGV     1 epoch, if none exists yet   2 meta TTL, ms
-- returns  {epoch, offset of the top, id of the top, {JSON, ...}}

-- include event_log

local epoch, offset, id = log_top(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return {epoch, offset, id, redis.call('HVALS', KEYS[3])}
