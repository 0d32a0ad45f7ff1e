"""The line that rewrites itself."""

from __future__ import annotations

import io

from hub.cli.progress import Progress


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_a_terminal_sees_the_count_grow_but_not_too_often() -> None:
    """Ten times a second is enough for anybody."""
    now = [0.0]
    terminal = Terminal()
    progress = Progress(terminal, clock=lambda: now[0])
    for _ in range(10):
        now[0] += 0.04
        progress.add(100)
    progress.finish("log:x")
    text = terminal.getvalue()
    assert text.count("\r") == 5
    assert text.endswith("published 1,000 events in 0.4 s (2,500/s) to log:x\n")


def test_a_file_gets_the_summary_only() -> None:
    """No control characters where nobody watches."""
    out = io.StringIO()
    progress = Progress(out, clock=lambda: 0.0)
    progress.add(1)
    progress.replaced = 2
    progress.finish("log:x")
    assert out.getvalue() == (
        "published 1 event in 0.0 s (1,000/s) to log:x; "
        "in 2 lines bytes that are not UTF-8 were replaced\n"
    )


def test_quiet_is_quiet() -> None:
    """Not even the summary."""
    terminal = Terminal()
    progress = Progress(terminal, quiet=True)
    progress.add(1)
    progress.finish("log:x")
    assert terminal.getvalue() == ""
