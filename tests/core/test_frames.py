"""Frames on the serial line: what was sent is found in any noise, and nothing else is."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.frames import (
    ENCODED_BYTES_MAX,
    OPENING,
    PAYLOAD_BYTES_MAX,
    Frame,
    Kind,
    Splitter,
    decode,
    encode,
    stuff,
    unstuff,
)

FRAMES = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=PAYLOAD_BYTES_MAX),
)


def found(data: bytes, key: int = 0, splitter: Splitter | None = None) -> list[Frame]:
    pieces = (splitter or Splitter()).feed(data)
    return [frame for piece in pieces if (frame := decode(piece, key)) is not None]


@given(st.binary(max_size=2000))
def test_stuffed_bytes_have_no_zero_and_come_back(data: bytes) -> None:
    assert b"\0" not in stuff(data)
    assert unstuff(stuff(data)) == data
    assert len(stuff(data)) <= len(data) + 1 + len(data) // 254


@pytest.mark.parametrize("length", [0, 1, 253, 254, 255, 507, 508, 509])
def test_runs_without_a_zero_of_just_the_longest_come_back(length: int) -> None:
    for data in (b"x" * length, b"x" * length + b"\0", b"\0" + b"x" * length):
        assert unstuff(stuff(data)) == data


def test_a_frame_has_the_bytes_that_the_description_says() -> None:
    """docs/console.md has the same: whoever writes a client holds his own against it."""
    frame = Frame(Kind.LAST, seq=1, ack=2, mask=4, payload=b'J{"id":1,"verb":"status"}')
    told = "0308010202020401011e4a7b226964223a312c2276657262223a22737461747573227d4e5ceee000"
    assert encode(frame, key=0x12345678).hex() == told


@given(FRAMES, st.integers(0, 0xFFFFFFFF))
def test_a_frame_comes_back(frame: Frame, key: int) -> None:
    assert found(encode(frame, key), key) == [frame]


@given(FRAMES, st.integers(1, 0xFFFFFFFF))
def test_a_frame_of_another_conversation_is_noise_unless_it_opens_one(frame: Frame, key: int) -> None:
    assert found(encode(frame, key), key ^ 1) == ([frame] if frame.kind in OPENING else [])


@given(FRAMES, st.data())
def test_a_frame_with_one_byte_changed_is_none(frame: Frame, data: st.DataObject) -> None:
    sent = bytearray(encode(frame, 7))
    at = data.draw(st.integers(0, len(sent) - 2))
    sent[at] ^= data.draw(st.integers(1, 255))
    assert found(bytes(sent), 7) == []


@given(st.lists(FRAMES, max_size=5), st.binary(max_size=100), st.data())
def test_frames_are_found_behind_noise_however_the_line_cuts_the_bytes(
    frames: list[Frame], noise: bytes, data: st.DataObject
) -> None:
    sent = noise + b"\0" + b"".join(encode(frame, 7) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    splitter, got = Splitter(), list[Frame]()
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        got += found(sent[begin:end], 7, splitter)
    assert got == frames


def test_noise_is_never_taken_for_a_frame() -> None:
    """A CRC of 32 bits lets one in four thousand million through."""
    made = random.Random(1)
    splitter = Splitter()
    for _ in range(2000):
        data = bytes(made.choice((0, made.randrange(256))) for _ in range(200))
        assert found(data, 7, splitter) == []


def test_a_frame_of_the_longest_payload_fits_and_one_byte_more_does_not() -> None:
    for payload in (b"\0" * PAYLOAD_BYTES_MAX, b"x" * PAYLOAD_BYTES_MAX):
        assert len(encode(Frame(Kind.PART, payload=payload))) - 1 <= ENCODED_BYTES_MAX
        assert found(encode(Frame(Kind.PART, payload=payload))) == [Frame(Kind.PART, payload=payload)]
        assert found(encode(Frame(Kind.PART, payload=payload + b"x"))) == []


def test_bytes_without_a_zero_cost_no_memory_and_the_frame_behind_them_is_found() -> None:
    splitter = Splitter()
    tracemalloc.start()
    try:
        for _ in range(256):
            assert splitter.feed(b"x" * 4096) == []
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()
    assert found(b"\0" + encode(Frame(Kind.PING)), splitter=splitter) == [Frame(Kind.PING)]
