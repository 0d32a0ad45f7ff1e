"""Logs: structlog through the standard library, so that every library's records look alike.

JSON, one line a record, or coloured text for a person. Nothing here is ever given a query
string, and control characters of values are escaped, so that no record can pretend to be two.
"""

from __future__ import annotations

import logging
import logging.config
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["set_up_logs"]

#: Libraries that tell at "info" what we tell ourselves, or too much.
_QUIET = {
    "uvicorn.error": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,
    "httpx": logging.WARNING,  # a line for each command to Redis over REST
}
#: Libraries that would print every chunk of every stream at "debug".
_TALKATIVE = ("sse_starlette", "httpcore")

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029)}


def set_up_logs(level: str = "info", *, json: bool | None = None) -> None:
    """Send every record of the process to standard error.

    ``json`` None looks whether standard error is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    render: list[Processor]
    if as_json:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        render = [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Whoever ran uvicorn in this process with its own configuration has cut it off.
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.handlers[:], uvicorn.propagate = [], True
    debug = level == "debug"
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if debug else quiet)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters in what the record says (tracebacks are ours, and stay)."""
    return {
        key: value.translate(_CONTROL) if isinstance(value, str) else value
        for key, value in event.items()
    }
