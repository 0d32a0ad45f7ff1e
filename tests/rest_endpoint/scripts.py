"""What Upstash does with Lua, done with a Lua prologue: keys are declared, calls are billed.

A script with ``flags=allow-key-locking`` may touch the keys in KEYS only. Every
``redis.call`` in it is billed as a command. The prologue shadows ``redis`` to check the one and
count the other; the script's result comes back with the count. (Of a script that ends in an error
the calls before it are not known, and not billed.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

__all__ = ["NOT_FLAG", "Wrapped", "split_shebang", "wrap"]

#: What Upstash answers to a flag it does not know; also what Redis says.
NOT_FLAG = "ERR Unexpected flag in script shebang: {}"
_KNOWN_FLAGS = {"allow-key-locking", "no-writes", "allow-oom", "allow-stale"}
_WORD = re.compile(r"""['"]([A-Za-z]{2,20})['"]""")

#: First key, last key, step; by command in capitals.
Positions = Mapping[str, tuple[int, int, int]]

_PROLOGUE = """
local fanwire_calls = 0
local fanwire_redis = redis
local fanwire_declared = {}
for _, key in ipairs(KEYS) do fanwire_declared[key] = true end
local fanwire_positions = {%(positions)s}
local function fanwire_check(...)
  fanwire_calls = fanwire_calls + 1
  if not %(locking)s then return nil end
  local args = {...}
  local found = fanwire_positions[string.upper(args[1])]
  if not found then
    return 'ERR strict mode does not know where the keys of ' .. args[1] .. ' are'
  end
  local first, last, step = found[1], found[2], found[3]
  if first == 0 then return nil end
  if last < 0 then last = #args - 1 + last + 1 end
  for at = first, last, step do
    local key = tostring(args[at + 1])
    if not fanwire_declared[key] then
      return "ERR Dynamic keys are not allowed in Lua scripts when 'allow-key-locking' flag is "
        .. 'set. Key was: ' .. key
    end
  end
end
local fanwire_shadow = setmetatable({
  call = function(...)
    local wrong = fanwire_check(...)
    if wrong then error({err = wrong}) end
    return fanwire_redis.call(...)
  end,
  pcall = function(...)
    local wrong = fanwire_check(...)
    if wrong then return {err = wrong} end
    return fanwire_redis.pcall(...)
  end,
}, {__index = fanwire_redis})
local function fanwire_script(redis)
"""
_EPILOGUE = """
end
local fanwire_result = fanwire_script(fanwire_shadow)
return {fanwire_calls, fanwire_result}
"""


class Wrapped:
    """A script as the server behind the endpoint gets it."""

    __slots__ = ("locking", "sha", "text")

    def __init__(self, text: str, *, locking: bool) -> None:
        self.text = text
        self.locking = locking
        self.sha = hashlib.sha1(text.encode()).hexdigest()


def split_shebang(text: str) -> tuple[list[str], str]:
    """Return the flags of the first line, and the script without it.

    Raises:
        ValueError: a flag is unknown; the message is the error reply.
    """
    if not text.startswith("#!"):
        return [], text
    line, _, body = text.partition("\n")
    engine, *options = line[2:].split()
    if engine != "lua":
        raise ValueError(f"ERR Unexpected engine in script shebang: {engine}")
    flags: list[str] = []
    for option in options:
        name, _, value = option.partition("=")
        if name != "flags":
            raise ValueError(f"ERR Unknown lua shebang option: {option}")
        flags += value.split(",")
    for flag in flags:
        if flag not in _KNOWN_FLAGS:
            raise ValueError(NOT_FLAG.format(flag))
    # An empty line in its place, so that errors name the right one.
    return flags, "\n" + body


def wrap(text: str, positions: Positions) -> Wrapped:
    """Return ``text`` with its prologue; raises ``ValueError`` like :func:`split_shebang`."""
    flags, body = split_shebang(text)
    locking = "allow-key-locking" in flags
    words = sorted({word.upper() for word in _WORD.findall(body)} & positions.keys())
    table = ", ".join(f"['{word}'] = {{{', '.join(map(str, positions[word]))}}}" for word in words)
    prologue = _PROLOGUE % {"positions": table, "locking": "true" if locking else "false"}
    return Wrapped(prologue + body + _EPILOGUE, locking=locking)
