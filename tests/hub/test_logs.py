"""Logs: one line a record, whoever wrote it and whatever it says."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from hub.logs import set_up_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the logging of the test run as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    uvicorn = logging.getLogger("uvicorn")
    theirs, propagate = uvicorn.handlers[:], uvicorn.propagate
    names = ("uvicorn.error", "uvicorn.access", "sse_starlette", "httpx", "httpcore")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
    uvicorn.handlers[:], uvicorn.propagate = theirs, propagate
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_json_is_one_line_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Our records, the libraries' and exceptions are all a JSON object on one line."""
    logging.getLogger("uvicorn").propagate = False  # as uvicorn's own configuration has it
    set_up_logs(json=True)
    structlog.get_logger("hub.x").info("forged\n{}", user="a\r\nb\u2028c")
    logging.getLogger("services.y").warning("lost %s", "it\nall")
    try:
        int("broken\nin two")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("failed\n")
    lines = capsys.readouterr().err.splitlines()
    records = [json.loads(line) for line in lines]
    # What another test left running may say something too.
    ours = {"hub.x", "services.y", "uvicorn.error"}
    first, second, third = (record for record in records if record["logger"] in ours)
    assert (first["event"], first["user"], first["level"]) == (
        "forged\n{}",
        "a\r\nb\u2028c",
        "info",
    )
    assert (second["event"], second["logger"]) == ("lost it\nall", "services.y")
    assert "ValueError: invalid literal" in third["exception"]


def test_the_console_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A value cannot pretend to be another line, or paint the terminal."""
    set_up_logs(json=False)
    structlog.get_logger("hub.x").info("one\nline", user="a\x1b[31mb\r\n")
    [line] = capsys.readouterr().err.splitlines()
    assert "\\x0a" in line
    assert "\x1b[31m" not in line


def test_the_level_counts_and_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the level nothing is written; uvicorn's chatter and access log never are."""
    set_up_logs("info", json=True)
    logging.getLogger("hub").debug("no")
    logging.getLogger("uvicorn.error").info("no")
    logging.getLogger("uvicorn.access").info('"GET /events?token=canary"')
    logging.getLogger("httpx").info("no")
    set_up_logs("debug", json=True)
    logging.getLogger("sse_starlette.sse").debug("no")
    logging.getLogger("httpcore.http11").debug("no")
    logging.getLogger("hub").debug("yes")
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "yes"
