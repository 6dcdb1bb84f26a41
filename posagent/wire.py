"""The one protocol between posagent's processes: JSON objects, one a line, bounded.

A request is `{"verb": …, "args": {…}}`; answers are `{"progress": {…}}` any number of times, then one
`{"result": {…}}` or `{"error": {…}}` (see core.errors.PosagentError.as_dict).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

from posagent.core.errors import PosagentError

LINE_BYTES_MAX = 256 * 1024
Message = dict[str, Any]


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def decode(line: bytes) -> Message:
    """One JSON object. Raises PosagentError `bad_request` for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise PosagentError("bad_request", "the line is not JSON") from None
    if not isinstance(value, dict):
        raise PosagentError("bad_request", "the line is not a JSON object")
    return value


def request_of(message: Message) -> tuple[str, dict[str, Any]]:
    """Verb and arguments of a request. Raises PosagentError `bad_request`."""
    verb, args = message.get("verb"), message.get("args", {})
    if not isinstance(verb, str) or not isinstance(args, dict):
        raise PosagentError("bad_request", "a request needs a verb and an object of args")
    return verb, args


class LineBuffer:
    """Cuts a byte stream into lines; a line over the limit raises PosagentError `line_too_long` once and is skipped."""

    def __init__(self, limit: int = LINE_BYTES_MAX) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The whole lines that `data` completes, without their line ends."""
        *whole, last = data.split(b"\n")
        lines: list[bytes] = []
        too_long = False
        for piece in whole:
            fits = len(self._rest) + len(piece) <= self._limit
            if fits and not self._skipping:
                lines.append(bytes(self._rest + piece).rstrip(b"\r"))
            else:
                too_long = too_long or not self._skipping
            self._rest.clear()
            self._skipping = False
        if self._skipping or len(self._rest) + len(last) > self._limit:
            too_long = too_long or not self._skipping
            self._skipping = True
            self._rest.clear()
        else:
            self._rest += last
        if too_long:
            raise LineTooLong(lines)
        return lines


class LineTooLong(PosagentError):
    """A line was longer than the limit; `lines` are the good ones that came with it."""

    def __init__(self, lines: list[bytes]) -> None:
        super().__init__("line_too_long")
        self.lines = lines


def call(
    path: str,
    verb: str,
    args: Mapping[str, Any],
    *,
    on_progress: Callable[[Message], None] | None = None,
    timeout_s: float | None = 10.0,
) -> Message:
    """Ask the process behind the AF_UNIX socket at `path` and wait for its result.

    `timeout_s` bounds each wait for the next line. Raises PosagentError: the peer's own, or `agent_unreachable`.
    """
    buffer = LineBuffer()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(encode({"verb": verb, "args": dict(args)}))
            while data := connection.recv(65536):
                for line in buffer.feed(data):
                    message = decode(line)
                    if "error" in message:
                        raise PosagentError.from_dict(message["error"])
                    if "result" in message:
                        result: Message = message["result"]
                        return result
                    if on_progress is not None and "progress" in message:
                        on_progress(message["progress"])
    except OSError as error:
        raise PosagentError("agent_unreachable", f"{path}: {error.strerror or error}") from None
    raise PosagentError("agent_unreachable", f"{path}: closed without an answer")
