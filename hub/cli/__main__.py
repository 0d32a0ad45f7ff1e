"""``python -m hub.cli``: the command without an installed script."""

from __future__ import annotations

from . import main

main(prog_name="fanwire")
