-- lease: who may load a value that is cached.
--
-- A lease is text, a mark and what follows it:
--   = token until    its holder loads; until (ms) somebody else may
--   # token,... until  writers change the source: nobody may keep what he loads meanwhile
--   ~ until          the value cannot be kept: load it without a lease
--   ! until          it could not be loaded: leave the source alone for a moment
--
-- holds(lease, token)  whether a loader with this token holds it
local function holds(lease, token)
  return lease and string.sub(lease, 1, 1) == '='
    and string.match(lease, '^= (%S+) ') == token
end
