"""Frames of the serial line's machine mode: found again in any noise, taken only when nothing in them was changed.

A frame is a body in COBS (no zero in it) and a zero behind it. The body: kind u8, seq u16, ack u16, mask u32, payload,
CRC-32 u32, all little-endian; `ack` and `mask` are those of core.arq. The CRC begins with the key of the conversation,
so that a frame of another one is noise as well; frames that make a conversation have the key 0.
Rules: memory is bounded whatever arrives; what is no frame is dropped without a word.
Source: Cheshire and Baker, Consistent Overhead Byte Stuffing (1999); CRC-32 as in zlib.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

PAYLOAD_BYTES_MAX = 1024
OVERHEAD_BYTES = 9 + 4 + 2
"""Of a frame around its payload, for payloads that COBS makes one byte longer."""
_HEAD = struct.Struct("<BHHI")
_CRC = struct.Struct("<I")
_BODY_BYTES_MIN = _HEAD.size + _CRC.size
_BODY_BYTES_MAX = _BODY_BYTES_MIN + PAYLOAD_BYTES_MAX
ENCODED_BYTES_MAX = _BODY_BYTES_MAX + 1 + _BODY_BYTES_MAX // 254
_RUN = 254


class Kind(IntEnum):
    HELLO = 1
    """From the laptop: which versions it speaks, and the number of its conversation."""
    WELCOME = 2
    """The terminal's answer: the version, both numbers, the terminal's name."""
    REFUSED = 3
    """The terminal's answer where it speaks none of the versions: those that it speaks."""
    ACK = 4
    """Only what every frame says: what has arrived."""
    PING = 5
    """As ACK, and wants one back."""
    BYE = 6
    """The laptop ends the conversation."""
    PART = 7
    """A piece of a message; numbered, repeated until it has arrived."""
    LAST = 8
    """The last piece of a message."""


OPENING = frozenset({Kind.HELLO, Kind.WELCOME, Kind.REFUSED})
"""These have the key 0."""
_KINDS = {int(kind): kind for kind in Kind}


class Frame(NamedTuple):
    kind: Kind
    seq: int = 0
    ack: int = 0
    mask: int = 0
    payload: bytes = b""


def encode(frame: Frame, key: int = 0) -> bytes:
    """What goes onto the line, the zero at its end included; a zero before it is only needed after silence."""
    body = _HEAD.pack(frame.kind, frame.seq, frame.ack, frame.mask) + frame.payload
    return stuff(body + _CRC.pack(zlib.crc32(body, _start(frame.kind, key)))) + b"\0"


def decode(encoded: bytes, key: int = 0) -> Frame | None:
    """The frame in what stood between two zeros, or None."""
    body = unstuff(encoded)
    if body is None or not _BODY_BYTES_MIN <= len(body) <= _BODY_BYTES_MAX:
        return None
    kind = _KINDS.get(body[0])
    end = len(body) - _CRC.size
    if kind is None or zlib.crc32(body[:end], _start(kind, key)) != _CRC.unpack_from(body, end)[0]:
        return None
    _, seq, ack, mask = _HEAD.unpack_from(body)
    return Frame(kind, seq, ack, mask, body[_HEAD.size : end])


def _start(kind: Kind, key: int) -> int:
    return 0 if kind in OPENING else key


def stuff(data: bytes) -> bytes:
    """The same without zeros."""
    made = bytearray()
    for run in data.split(b"\0"):
        while len(run) >= _RUN:
            made.append(0xFF)
            made += run[:_RUN]
            run = run[_RUN:]
        made.append(len(run) + 1)
        made += run
    return bytes(made)


def unstuff(data: bytes) -> bytes | None:
    """What `stuff` was given, or None where it cannot have made this."""
    made, at, end = bytearray(), 0, len(data)
    while at < end:
        following = at + data[at]
        if following == at or following > end:
            return None
        made += data[at + 1 : following]
        if following - at < 0xFF and following < end:
            made.append(0)
        at = following
    return bytes(made)


class Splitter:
    """Cuts what comes from the line at its zeros."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """What could be frames by their length, for `decode`."""
        *whole, last = data.split(b"\0")
        found = []
        for piece in whole:
            if self._rest:
                piece = bytes(self._rest) + piece
                self._rest.clear()
            if not self._skipping and _BODY_BYTES_MIN < len(piece) <= ENCODED_BYTES_MAX:
                found.append(piece)
            self._skipping = False
        if self._skipping or len(self._rest) + len(last) > ENCODED_BYTES_MAX:
            self._rest.clear()
            self._skipping = True
        else:
            self._rest += last
        return found
