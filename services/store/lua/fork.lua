-- fork.lua: begin a new epoch, because somebody saw a publication that the log lost.
--
-- KEYS     1 meta hash {e epoch, o offset, i id, t time ms}
-- ARGV     1 the epoch that lost it   2 the new epoch
-- returns  the epoch that holds now (another's, if somebody was faster)
--
-- Official clients come back with an epoch and an offset only. After a failover the offset
-- can be reached again with other publications, so the epoch must tell them apart. Entries
-- and offsets go on: what is left of the log is true in the new epoch.

local epoch = redis.call('HGET', KEYS[1], 'e')
if epoch == ARGV[1] then
  redis.call('HSET', KEYS[1], 'e', ARGV[2])
  return ARGV[2]
end
return epoch
