"""Draw the fan-out figures: docs/images/fanout.svg from benchmarks/results/{fanout,burst}.json.

    python -m benchmarks.plot

One panel a scenario, a bar a server, the longest first: the median of the rounds, with a line
over the range. The picture has both a light and a dark dress and puts on the reader's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

from .hub_process import RESULTS, ROOT

__all__ = ["Bar", "Panel", "draw", "read_panel"]

TARGET = ROOT / "docs" / "images" / "fanout.svg"
#: Result file, its case, and what the panel is called.
PANELS = (
    ("fanout", "1,000 connections", "One message at a time"),
    ("burst", "1,000 connections", "Ten messages on their way"),
)

_WIDTH, _NAMES, _FIGURES = 760, 190, 90
_BAR, _STEP, _TOP, _GAP = 18, 28, 64, 46
_LEFT, _SPAN = _NAMES + 12, _WIDTH - _NAMES - 12 - _FIGURES
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .head { font-size: 16px; font-weight: 600 }
  .panel { font-weight: 600 }
  .note, .figure { fill: #59636e }
  .note { font-size: 11px }
  .name { text-anchor: end }
  .ours { fill: #0969da }
  .other { fill: #9aa4af }
  .limit { fill: none; stroke: #59636e; stroke-dasharray: 4 3 }
  .range { stroke: #1f2328; stroke-width: 1.5 }
  text.ours { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note, .figure { fill: #9198a1 }
    .ours { fill: #58a6ff }
    .other { fill: #59636e }
    .limit { stroke: #9198a1 }
    .range { stroke: #e6edf3 }
  }
"""


class Bar(msgspec.Struct, frozen=True):
    """A server's figures; the fields are those of the report."""

    median: float
    min: float
    max: float


class _Machine(msgspec.Struct, frozen=True):
    cpu: str
    cores: int


class _Results(msgspec.Struct, frozen=True):
    ours: str
    unit: str
    payload_bytes: int
    rounds: int
    server_alone_on_its_core: bool
    machine: _Machine
    results: dict[str, dict[str, Bar]]


class Panel(msgspec.Struct, frozen=True):
    """Bars that share a scale; ``note`` says how they were measured."""

    title: str
    ours: str
    bars: dict[str, Bar]
    note: str


def read_panel(path: Path, case: str, title: str) -> Panel:
    """Return the panel of one case of a report.

    Raises:
        FileNotFoundError: there is no such report.
        ValueError: it has no such case, or is no report.
    """
    found = msgspec.json.decode(path.read_bytes(), type=_Results)
    if case not in found.results:
        cases = ", ".join(found.results) or "none"
        raise ValueError(f"{path.name}: expected a case {case!r}; there are: {cases}")
    server = "server alone on a core" if found.server_alone_on_its_core else "cores are shared"
    note = (
        f"{found.unit}, {case}, {found.payload_bytes} B; median and range of rounds "
        f"({found.rounds}); {server}, {found.machine.cores} cores ({found.machine.cpu})"
    )
    return Panel(title, found.ours, found.results[case], note)


def draw(panels: Sequence[Panel]) -> str:
    """Return the picture, SVG; each panel has a scale of its own."""
    lines: list[str] = []
    y = _TOP
    for panel in panels:
        lines.append(f'<text class="panel" x="{_LEFT}" y="{y - 10}">{escape(panel.title)}</text>')
        longest = max(bar.max for bar in panel.bars.values())
        ordered = sorted(panel.bars.items(), key=lambda item: item[1].median, reverse=True)
        for name, bar in ordered:
            lines += _bar(y, name, bar, _SPAN / longest, ours=name == panel.ours)
            y += _STEP
        y += _GAP
    height = y - _GAP + 30
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    notes = dict.fromkeys(panel.note for panel in panels)
    summary = "; ".join(_sentence(panel) for panel in panels)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            "<title>WebSocket fan-out, deliveries a second</title>",
            f"<desc>{escape(summary)}</desc>",
            f"<style>{_STYLE}</style>",
            f'<text class="head" x="{_LEFT}" y="24">WebSocket fan-out, deliveries a second</text>',
            *lines,
            *(
                f'<text class="note" x="12" y="{height - 12 - 15 * index}">{escape(note)}</text>'
                for index, note in enumerate(reversed(notes))
            ),
            "</svg>\n",
        ]
    )


def _sentence(panel: Panel) -> str:
    figures = ", ".join(f"{name} {bar.median:,.0f}" for name, bar in panel.bars.items())
    return f"{panel.title}: {figures}"


def _bar(y: int, name: str, bar: Bar, scale: float, *, ours: bool) -> Iterator[str]:
    limit = name.startswith("limit")
    kind = "ours" if ours else "limit" if limit else "other"
    middle, inset = y + _BAR / 2, 0.5 if limit else 0
    yield (
        f'<text class="name{" ours" if ours else ""}" x="{_NAMES}" y="{middle + 4.5}">'
        f"{escape(name)}</text>"
    )
    yield (
        f'<rect class="{kind}" x="{_LEFT + inset}" y="{y + inset}" rx="2" '
        f'width="{bar.median * scale:.1f}" height="{_BAR}"/>'
    )
    yield (
        f'<line class="range" x1="{_LEFT + bar.min * scale:.1f}" '
        f'x2="{_LEFT + bar.max * scale:.1f}" y1="{middle}" y2="{middle}"/>'
    )
    yield (
        f'<text class="figure" x="{_LEFT + bar.max * scale + 8:.1f}" y="{middle + 4.5}">'
        f"{_figure(bar.median)}</text>"
    )


def _figure(value: float) -> str:
    """Return a figure as people say it: 950, 18.4 k, 164 k, 1.31 M."""
    for size, unit in ((1_000_000, " M"), (1_000, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def main() -> None:
    """Read the reports and write the picture."""
    try:
        panels = [read_panel(RESULTS / f"{name}.json", case, title) for name, case, title in PANELS]
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        sys.exit(f"expected benchmarks/results/{name}: run make bench ARGS={Path(name).stem} first")
    except ValueError as error:
        sys.exit(str(error))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw(panels), encoding="utf-8")
    print(TARGET.relative_to(ROOT))


if __name__ == "__main__":
    main()
