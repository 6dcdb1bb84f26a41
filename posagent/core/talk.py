"""What two programs say on the serial line: who calls whom, whether it is still the same conversation, and messages.

Owns: the opening of a conversation (HELLO, WELCOME, REFUSED), the end by silence, and the two kinds of messages.
`Host` is the terminal's end, `Guest` the laptop's; both are driven by whoever has the line and the clock.

A conversation is known by two numbers, one of either end: a laptop that calls again with its number finds everything as
it was, as long as the terminal has forgotten nothing; a terminal that was started anew answers with another number.
Their digest is the key of the frames, so that what was meant for an earlier conversation is noise in this one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.core.arq import Link
from posagent.core.frames import Frame, Kind, Splitter, decode, encode

VERSIONS = (1, 1)
"""The oldest and the newest version of the machine mode that is spoken here."""
CALL = b"\rmachine 1\r"
"""What the human prompt understands; in machine mode it is noise."""
NUMBER_BYTES = 8
NAME_BYTES_MAX = 256
SILENCE_S = 30.0
"""After so long without a frame the terminal locks, and is a terminal for people again."""
CALL_S, CALL_S_MAX = 0.5, 2.0
PING_S = 2.0
LOST_S = 6.0
"""Without a frame for so long the laptop calls again."""
REQUEST_BYTES_MAX = 20 * 1024
ANSWER_BYTES_MAX = 256 * 1024
BULK_BYTES = 8 * 1024
"""Of a file in one message."""
_HELLO = struct.Struct(f"<BB{NUMBER_BYTES}s")
_WELCOME = struct.Struct(f"<B{NUMBER_BYTES}s{NUMBER_BYTES}s")
_OFFSET = struct.Struct("<Q")

Json = dict[str, Any]
Bulk = tuple[int, bytes]
"""A piece of a file: where it begins in it, and its bytes."""


def json_message(value: Mapping[str, Any]) -> bytes:
    return b"J" + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def bulk_message(offset: int, data: bytes) -> bytes:
    return b"B" + _OFFSET.pack(offset) + data


def read(message: bytes) -> Json | Bulk | None:
    """What a message says; None for one that is not understood."""
    if message[:1] == b"B" and len(message) > _OFFSET.size + 1:
        return _OFFSET.unpack_from(message, 1)[0], message[1 + _OFFSET.size :]
    if message[:1] != b"J":
        return None
    try:
        value = json.loads(message[1:])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def key_of(guest: bytes, host: bytes) -> int:
    """The key of a conversation's frames."""
    return zlib.crc32(guest + host) or 1


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation begins: whatever belongs to an earlier one is over. `terminal` is told to the laptop."""

    version: int
    terminal: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The other end is there again, and has forgotten nothing."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No version is spoken by both; the terminal speaks these."""

    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The laptop said goodbye."""


Happening = Opened | Resumed | Refused | Ended | bytes
"""What came of bytes of the line; bytes are a whole message, empty ones one that was too long."""


class Host:
    """The terminal's end. `new_number` gives NUMBER_BYTES bytes that nobody can foretell."""

    def __init__(self, *, terminal: str, new_number: Callable[[], bytes], bytes_per_s: float, now: float) -> None:
        self._terminal = terminal.encode()[:NAME_BYTES_MAX]
        self._new_number = new_number
        self._bytes_per_s = bytes_per_s
        self._splitter = Splitter()
        self._guest = b""
        self._key = 0
        self._out = bytearray()
        self._welcome = b""
        self.silent_at = now + SILENCE_S
        """When the laptop will have been silent for too long."""
        self.link: Link | None = None

    def feed(self, data: bytes, now: float) -> list[Happening]:
        happened: list[Happening] = []
        for piece in self._splitter.feed(data):
            frame = decode(piece, self._key)
            if frame is None:
                continue
            if frame.kind is Kind.HELLO:
                happened += self._called(frame.payload, now)
            elif self.link is not None and frame.kind is Kind.BYE:
                self.link, self._key = None, 0
                happened.append(Ended())
            elif self.link is not None and frame.kind not in (Kind.WELCOME, Kind.REFUSED):
                self.silent_at = now + SILENCE_S
                happened += self.link.take(frame, now)
        return happened

    def poll(self, now: float) -> bytes:
        """What is to be written now."""
        out = bytes(self._out)
        self._out.clear()
        return out + (self.link.poll(now) if self.link is not None else b"")

    def next_wake(self) -> float:
        """When to poll again, or to look whether it is silent."""
        wake = self.link.next_wake() if self.link is not None else None
        return self.silent_at if wake is None else min(wake, self.silent_at)

    def _called(self, payload: bytes, now: float) -> list[Happening]:
        if len(payload) != _HELLO.size:
            return []
        oldest, newest, guest = _HELLO.unpack(payload)
        version = min(newest, VERSIONS[1])
        if version < max(oldest, VERSIONS[0]):
            self._answer(Kind.REFUSED, bytes(VERSIONS))
            return []
        self.silent_at = now + SILENCE_S
        if self.link is not None and guest == self._guest:
            self._answer(Kind.WELCOME, self._welcome)
            self.link.revive(now)
            return [Resumed()]
        number = self._new_number()
        self._guest, self._key = guest, key_of(guest, number)
        self.link = Link(self._key, bytes_per_s=self._bytes_per_s, message_bytes_max=REQUEST_BYTES_MAX)
        self._welcome = _WELCOME.pack(version, guest, number) + self._terminal
        self._answer(Kind.WELCOME, self._welcome)
        return [Opened(version, self._terminal.decode("utf-8", "replace"))]

    def _answer(self, kind: Kind, payload: bytes) -> None:
        self._out[:] = b"\0" + encode(Frame(kind, payload=payload))


class Guest:
    """The laptop's end; `number` is its own of this conversation. Begins by calling."""

    def __init__(self, *, number: bytes, bytes_per_s: float, versions: tuple[int, int] = VERSIONS) -> None:
        self._number = number
        self._bytes_per_s = bytes_per_s
        self._versions = versions
        self._splitter = Splitter()
        self._host = b""
        self._key = 0
        self._calls = 0
        self._call_at: float | None = 0.0
        self._heard_at = self._pinged_at = 0.0
        self.link: Link | None = None

    @property
    def connected(self) -> bool:
        return self._call_at is None

    def call(self, now: float) -> None:
        """The line was opened, perhaps again: see who is there."""
        self._splitter = Splitter()
        self._call_at, self._calls = now, 0

    def feed(self, data: bytes, now: float) -> list[Happening]:
        happened: list[Happening] = []
        for piece in self._splitter.feed(data):
            frame = decode(piece, self._key)
            if frame is None:
                continue
            match frame.kind:
                case Kind.WELCOME:
                    happened += self._welcomed(frame.payload, now)
                case Kind.REFUSED if len(frame.payload) == len(VERSIONS) and not self.connected:
                    happened.append(Refused(*frame.payload))
                case Kind.ACK | Kind.PING | Kind.PART | Kind.LAST if self.link is not None:
                    self._heard_at = now
                    happened += self.link.take(frame, now)
                case _:
                    pass
        return happened

    def poll(self, now: float) -> bytes:
        """What is to be written now."""
        if self.connected and now >= self._heard_at + LOST_S:
            self.call(now)
        if self._call_at is not None:
            if now < self._call_at:
                return b""
            self._call_at = now + min(CALL_S * 2 ** (self._calls // 4), CALL_S_MAX)
            self._calls += 1
            hello = encode(Frame(Kind.HELLO, payload=_HELLO.pack(*self._versions, self._number)))
            return CALL + b"\0" + hello
        assert self.link is not None
        out = self.link.poll(now)
        if not out and now >= max(self._heard_at, self._pinged_at) + PING_S:
            out, self._pinged_at = self.link.ping(), now
        return out

    def next_wake(self) -> float:
        """When to poll again if nothing happens until then."""
        if self._call_at is not None:
            return self._call_at
        assert self.link is not None
        wakes = (self.link.next_wake(), max(self._heard_at, self._pinged_at) + PING_S, self._heard_at + LOST_S)
        return min(wake for wake in wakes if wake is not None)

    def _welcomed(self, payload: bytes, now: float) -> list[Happening]:
        if not _WELCOME.size <= len(payload) <= _WELCOME.size + NAME_BYTES_MAX:
            return []
        version, guest, host = _WELCOME.unpack_from(payload)
        if guest != self._number or not self._versions[0] <= version <= self._versions[1]:
            return []
        was_connected, self._call_at, self._heard_at = self.connected, None, now
        if self.link is not None and host == self._host:
            self.link.revive(now)
            return [] if was_connected else [Resumed()]
        self._host, self._key = host, key_of(guest, host)
        self.link = Link(self._key, bytes_per_s=self._bytes_per_s, message_bytes_max=ANSWER_BYTES_MAX)
        return [Opened(version, payload[_WELCOME.size :].decode("utf-8", "replace"))]
