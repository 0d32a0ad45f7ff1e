"""The picture is well-formed, shows every server, and to scale."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.plot import Bar, Panel, draw, read_panel

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_to_scale_and_ordered() -> None:
    """The longest bar comes first, and half the figure is half the length."""
    bars = {"small & <slow>": Bar(50, 40, 60), "ours": Bar(100, 90, 110)}
    picture = ET.fromstring(draw([Panel("Panel", "ours", bars, "a note")]))
    first, second = picture.iter(f"{SVG}rect")
    assert first.get("class") == "ours"
    assert float(first.get("width", 0)) == pytest.approx(2 * float(second.get("width", 0)), 0.01)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"Panel", "small & <slow>", "ours", "a note"} <= set(texts)


@pytest.mark.parametrize(
    ("value", "shown"), [(950, "950"), (18_412, "18.4 k"), (164_300, "164 k"), (1.306e6, "1.31 M")]
)
def test_figures_are_short(value: float, shown: str) -> None:
    """Three digits and a unit are what a reader compares."""
    picture = ET.fromstring(draw([Panel("p", "x", {"x": Bar(value, value, value)}, "")]))
    assert shown in [text.text for text in picture.iter(f"{SVG}text")]


def test_a_report_is_read(tmp_path: Path) -> None:
    """A panel is one case of a report; a case that is not there is told, with those that are."""
    path = tmp_path / "fanout.json"
    bar = {"median": 2, "min": 1, "max": 3, "errors": 0, "details": {}}
    head = {"ours": "fanwire", "unit": "deliveries/s", "payload_bytes": 200, "rounds": 5}
    head["server_alone_on_its_core"] = True
    results = {"machine": {"cpu": "CPU", "cores": 2}, "results": {"a case": {"fanwire": bar}}}
    path.write_text(json.dumps(head | results), encoding="utf-8")
    panel = read_panel(path, "a case", "title")
    assert panel.bars == {"fanwire": Bar(2, 1, 3)}
    assert "rounds (5); server alone on a core" in panel.note
    with pytest.raises(ValueError, match="expected a case 'other'; there are: a case"):
        read_panel(path, "other", "title")
