"""The terminal's network: the repository's server behind a link of the test traces, as the fetcher's HTTP client.

Owns: the seconds that bytes need; whoever runs the fetcher takes them from `spent_s`. A link that is silent for longer
than the fetcher waits is given up; a cell change may break the connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from posagent.core.errors import FetchError
from posagent.fetcher.http import Asked
from tests.core import link_traces

URL = "https://update.test"
STALL_S = 60.0
CONNECT_S = 0.4
SAME_S = 600.0
"""After a longer pause the link is as on another day."""
BROKEN_SHARE = 0.3
"""Of the silences of at least three seconds, how many end the connection."""


class Server:
    """fetcher.http.Client: one bundle and the pointer to it; both are None until something is published."""

    def __init__(self, kind: str, clock: Any, random: Random) -> None:
        self.kind = kind
        self.pointer: dict[str, Any] | None = None
        self.bundle = b""
        self.spent_s = 0.0
        self.silent_s = 0.0
        self._clock, self._random = clock, random
        self._place = link_traces.place(kind, "test", random)
        self._rates: Iterator[float] = iter(())
        self._used_s = float("-inf")
        self._rate = self._left = 0.0

    def take_spent_s(self) -> float:
        spent_s, self.spent_s = self.spent_s, 0.0
        return spent_s

    def get(self, asked: Asked) -> Any:
        self.spent_s += CONNECT_S
        self._catch_up()
        if asked.url.endswith(".json"):
            assert self.pointer is not None
            return Reply(self, Asked(url=asked.url), json.dumps(self.pointer).encode())
        return Reply(self, asked, self.bundle)

    def _catch_up(self) -> None:
        """The link goes on while nobody uses it."""
        idle_s = self._clock.monotonic() - self._used_s
        if idle_s > SAME_S:
            self._rates = link_traces.rates(self._place, Random(self._random.random()))
        else:
            for _ in range(int(idle_s)):
                next(self._rates)
        self._left = 0.0

    def arrive(self, bytes_max: int) -> int:
        """How many bytes come next: those of a second at most. Raises FetchError."""
        while self._left < 1:
            self._rate = self._left = next(self._rates)
            self.silent_s = 0.0 if self._rate >= 1 else self.silent_s + 1
            if self._rate < 1:
                self.spent_s += 1
                self._note_use()
                if self.silent_s >= STALL_S:
                    raise FetchError("fetch_stalled", "no bytes arrived for too long")
                if self.silent_s == 3 and self._random.random() < BROKEN_SHARE:
                    raise FetchError("fetch_network", "the connection was reset")
        count = min(bytes_max, int(self._left))
        self._left -= count
        self.spent_s += count / self._rate
        self._note_use()
        return count

    def _note_use(self) -> None:
        self._used_s = self._clock.monotonic() + self.spent_s


class Reply:
    """fetcher.http.Answer from memory, as slow as the link."""

    html, encoded, last_modified = False, False, ""

    def __init__(self, server: Server, asked: Asked, content: bytes) -> None:
        self.etag = f'"{len(content)}"'
        self.status, self.offset, self.end, self.length = 200, 0, len(content), len(content)
        if asked.length is not None and asked.validator in ("", self.etag):
            self.status, self.offset, self.end = 206, asked.offset, min(len(content), asked.offset + asked.length)
        self._server, self._content = server, content
        server.silent_s = 0.0

    def chunks(self, length_max: int = 1 << 18) -> Iterator[bytes]:
        at = self.offset
        while at < self.end:
            count = self._server.arrive(min(length_max, self.end - at))
            yield self._content[at : at + count]
            at += count

    def close(self) -> None:
        return None

    def trouble(self) -> FetchError:
        raise AssertionError("it always has the file")
