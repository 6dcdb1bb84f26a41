"""What surrounds a terminal on the medium: a clock that stands still, sources of bundles, what tests hear.

Owns: nothing durable. Sources tell the oracles what is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from posagent.core.errors import FetchError
from posagent.core.ports import Clock, Resets
from posagent.crash.medium import Medium, MediumSlot
from posagent.crash.oracles import Life
from posagent.fetcher.http import Asked
from posagent.installer.opening import Ports
from posagent.sim.virtual import VirtualTime


class StandingClock(VirtualTime):
    """The wall clock stands still: no state differs from another only by the time of day."""

    def wall(self) -> float:
        return self._wall


class Source:
    """A file elsewhere, such as on a USB stick or behind a server; tells the oracles what is asked of it."""

    def __init__(self, name: str, content: bytes, life: Life) -> None:
        self._name = name
        self._content = content
        self._life = life
        self._asked = False
        self.size = len(content)

    def pread(self, offset: int, length: int) -> bytes:
        if not self._asked:
            self._life.delivering(self._name, offset)
            self._asked = True
        data = self._content[offset : offset + length]
        self._life.delivered(self._name, offset + len(data))
        return data

    def close(self) -> None:
        return None


class Reply:
    """fetcher.http.Answer from memory: a server that honours ranges and validators."""

    status, html, encoded, last_modified = 200, False, False, ""

    def __init__(self, asked: Asked, content: bytes, life: Life) -> None:
        self.etag = f'"{len(content)}"'
        self.offset, self.end = 0, len(content)
        if asked.length is not None and asked.validator in ("", self.etag):
            self.status, self.offset, self.end = 206, asked.offset, min(len(content), asked.offset + asked.length)
        self.length = len(content)
        self._source = Source(asked.url, content, life)

    def chunks(self, length_max: int) -> Iterator[bytes]:
        at = self.offset
        while data := self._source.pread(at, min(length_max, self.end - at)):
            yield data
            at += len(data)

    def close(self) -> None:
        return None

    def trouble(self) -> FetchError:
        raise AssertionError("it always has the file")


def installer_ports(medium: Medium, clock: Clock, resets: Resets, slot_bytes: int) -> Ports:
    """What the installer has on a medium; in virtual time nothing runs beside it."""

    def slot(name: str) -> MediumSlot:
        return medium.slot(name, slot_bytes)

    return Ports(
        files=medium.files,
        boot=medium.boot,
        clock=clock,
        open_slot=slot,
        read_slot=slot,
        open_bundle=lambda path: Spooled(medium, path),
        resets=resets,
        threads=False,
    )


class Spooled:
    """A finished bundle as the installer opens it."""

    def __init__(self, medium: Medium, path: str) -> None:
        self._medium, self._path = medium, path
        size = medium.files.size(path)
        if size is None:
            raise FileNotFoundError(2, "no such file", path)
        self.size = size

    def pread(self, offset: int, length: int) -> bytes:
        return self._medium.files.read(self._path, offset, length)

    def close(self) -> None:
        return None


class Probes:
    """selftest.checks.Probes: the payment program answers as `answer` says, None where it does as it should."""

    def __init__(self, time: VirtualTime, answer: Callable[[], str | None]) -> None:
        self._time = time
        self._answer = answer

    def pause(self, seconds: float) -> None:
        self._time.let_pass(seconds)

    def command(self, words: Sequence[str], timeout_s: float) -> str | None:
        return None

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        return self._answer()

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None:
        return None

    def free_space(self, path: str, free_bytes_min: int) -> str | None:
        return None
