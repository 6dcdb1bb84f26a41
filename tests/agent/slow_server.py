"""A repository behind a link of some rate, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posagent.fetcher.http import CHUNK_BYTES, Asked
from posagent.sim.virtual import VirtualTime

URL = "http://updates.example"
CHUNK_S = 0.25


class SlowServer:
    """fetcher.http.Client: the files of a folder, which come with so many bytes a second."""

    def __init__(self, folder: Path, bytes_per_s: float) -> None:
        self._folder = folder
        self.bytes_per_s = bytes_per_s
        self.sent = 0
        self.pass_s: Callable[[float], None] = lambda _: None

    def at(self, time: VirtualTime) -> SlowServer:
        self.pass_s = time.let_pass
        return self

    def get(self, asked: Asked) -> Any:
        return _Reply(self, (self._folder / asked.url.removeprefix(URL + "/")).read_bytes(), asked)


class _Reply:
    """fetcher.http.Answer."""

    html, encoded, last_modified, etag, status = False, False, "", '"one"', 206

    def __init__(self, server: SlowServer, content: bytes, asked: Asked) -> None:
        self._server, self._content = server, content
        self.length = len(content)
        self.offset = asked.offset
        self.end = self.length if asked.length is None else min(self.length, asked.offset + asked.length)
        if asked.length is None:
            self.status = 200

    def chunks(self, length_max: int = CHUNK_BYTES) -> Iterator[bytes]:
        rate = self._server.bytes_per_s
        for at in range(self.offset, self.end, size := min(length_max, max(1024, int(rate * CHUNK_S)))):
            data = self._content[at : min(self.end, at + size)]
            self._server.pass_s(len(data) / rate)
            self._server.sent += len(data)
            yield data

    def close(self) -> None:
        return None
