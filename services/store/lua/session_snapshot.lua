-- session_snapshot.lua: a session as it is at one position of its channel.
--
-- KEYS     1 log stream   2 meta hash   3 session hash   4 messages list
-- ARGV     1 epoch if the channel has none   2 TTL of the meta hash, ms
-- returns  {epoch, offset, id of the top, the hash (flat, empty for no session), messages}
--
-- Whether its time is up is not asked: it is there until the event that ends it.

-- include event_log

local epoch, offset, id = log_top(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return {epoch, offset, id, redis.call('HGETALL', KEYS[3]), redis.call('LRANGE', KEYS[4], 0, -1)}
