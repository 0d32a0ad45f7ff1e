"""Commands as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import hiredis

from .port import Argument

__all__ = ["pack"]

#: Pack one command. What is not text, bytes or an integer raises ``TypeError``, text with a
#: lone surrogate ``UnicodeEncodeError``. (The cast: hiredis declares a tuple of length one.)
pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)
