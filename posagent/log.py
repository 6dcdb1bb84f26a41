"""Structured logs: JSON lines on the terminal, coloured on a tty; only listed fields get through.

Rules: a field that is not in `ALLOWED` is dropped and named, so that a card number, key or token cannot slip in; what
looks like a card number or track data is replaced in every text (core.redact).
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from posagent.core import redact

ALLOWED = frozenset(
    """event level timestamp state previous code detail update version slot digest bytes_done bytes_total seconds
    attempt gate reason remedy outcome verb worker pid check passed path line key port booted battery_percent mains
    role serial user signal records dropped limit tries""".split()
)


def _allow(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    dropped = sorted(set(fields) - ALLOWED)
    for name in dropped:
        del fields[name]
    if dropped:
        fields["dropped"] = dropped
    for name, value in fields.items():
        fields[name] = redact.clean(value)
    return fields


def configure(stream: TextIO | None = None) -> None:
    """Set up logging for this process; to stderr unless `stream` is given."""
    out = stream or sys.stderr
    render: Any = structlog.dev.ConsoleRenderer() if out.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _allow,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )


def get(worker: str) -> Any:
    """A logger for one process or room."""
    return structlog.get_logger().bind(worker=worker)
