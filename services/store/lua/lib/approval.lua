-- approval: what is done once an hour about what a workspace keeps of its gates.
--
-- tidy_approvals(gates, ready, audit, now, oldest_gate, oldest_ready, oldest_entry)
--   gates, ready, audit   the keys: sorted sets of gates by when they were requested, and of those
--                         approved and not used by when; the stream of the audit
--   now, oldest_...       ms: what is older than that is taken out of them. What nobody adds to
--                         for as long is gone with all that is in it.
local function tidy_approvals(gates, ready, audit, now, oldest_gate, oldest_ready, oldest_entry)
  -- Gates that are older are gone by their TTL; one without deadline is among the open ones.
  redis.call('ZREMRANGEBYSCORE', gates, '-inf', '(' .. oldest_gate)
  redis.call('ZREMRANGEBYSCORE', ready, '-inf', '(' .. oldest_ready)
  redis.call('PEXPIRE', gates, string.format('%.0f', now - oldest_gate))
  redis.call('PEXPIRE', audit, string.format('%.0f', now - oldest_entry))
end
