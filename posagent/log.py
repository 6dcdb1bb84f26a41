"""Structured logs: JSON lines on the terminal, coloured on a tty; only listed fields get through.

Rules: a field that is not in `ALLOWED` is dropped and named, so that a card number, key or token cannot slip in; what
looks like a card number or track data is replaced in every text (core.redact).
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, TextIO

import structlog

from posagent.core import redact

EVENTS: Mapping[str, str] = {
    "started": "the agent knows the hardware: state, booted slot, tries that the bootloader has left",
    "decided": "the update has gone on: the state that it is in now, and as reason the event of [states.md](states.md)",
    "observe_failed": "the hardware could not be looked at; it is tried again",
    "stop_waits": "the service was told to stop, and waits for the end of a critical section",
    "cannot_run": "the configuration or the environment keeps a process from running",
    "connection_lost": "whoever had asked a worker went away",
    "metrics_failed": "the figures did not reach `fleet.metrics_url`; the next exchange brings newer ones",
}
"""Names of what is logged, besides the codes of core.errors; a name never changes its meaning."""
ALLOWED = frozenset(
    """event level timestamp state previous code detail update version slot digest bytes_done bytes_total seconds
    attempt gate reason remedy outcome verb worker pid check passed path line key port booted battery_percent mains
    role serial user signal records dropped limit tries up_s""".split()
)
LINES_MAX = 200
LINE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX = 500, 60
"""Of a line that is kept, and of each of its texts where it is longer."""


def _allow(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    dropped = sorted(set(fields) - ALLOWED)
    for name in dropped:
        del fields[name]
    if dropped:
        fields["dropped"] = dropped
    for name, value in fields.items():
        fields[name] = redact.clean(value)
    return fields


_lines: deque[str] = deque(maxlen=LINES_MAX)
"""The last lines of this process as JSON, which is a third of the memory that they need taken apart."""


def _keep(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    shown = {name: value for name, value in fields.items() if name not in ("timestamp", "worker")}
    at = datetime.fromisoformat(fields["timestamp"]).timestamp()
    line = _as_json({"at": round(at, 3), **shown})
    if len(line) > LINE_CHARACTERS_MAX:
        short = {name: value[:TEXT_CHARACTERS_MAX] for name, value in shown.items() if isinstance(value, str)}
        line = _as_json({"at": round(at, 3), **short, "cut": True})
    _lines.append(line)
    return fields


def _as_json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=str, ensure_ascii=False, separators=(",", ":"))


def recent(count: int) -> list[dict[str, Any]]:
    """The last lines of this process, newest last: `{at, level, event, …}`; a long one is `cut`."""
    return [json.loads(line) for line in list(_lines)[-count:]]


def configure(stream: TextIO | None = None, *, up_s: Callable[[], float] | None = None) -> None:
    """Set up logging for this process; to stderr unless `stream` is given. With `up_s`, seconds since the start of the
    kernel, lines can be put in order and dated whatever the clock says."""
    out = stream or sys.stderr
    render: Any = structlog.dev.ConsoleRenderer() if out.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _dated_by(up_s),
            _allow,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _keep,
            render,
        ],
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )


def _dated_by(up_s: Callable[[], float] | None) -> Any:
    def dated(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if up_s is not None:
            fields["up_s"] = round(up_s(), 3)
        return fields

    return dated


def get(worker: str) -> Any:
    """A logger for one process or room."""
    return structlog.get_logger().bind(worker=worker)
