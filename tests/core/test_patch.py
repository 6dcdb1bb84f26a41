"""Patches: what the builder packs comes out again, and no bytes make more than they may."""

from __future__ import annotations

import lzma
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.errors import BundleError
from posagent.core.extents import BLOCK_BYTES
from posagent.core.patch import HEAD, PACKING, PIECE_BYTES, patched, summed
from posagent.core.payload import OPERATION_BYTES_MAX
from posagent.release import delta, patch
from posagent.release.delta import Step

OLD = random.Random(3).randbytes(5000)


def related(old: bytes, seed: int) -> bytes:
    """A string with shifted, changed and new parts."""
    dice = random.Random(seed)
    parts = []
    for _ in range(dice.randrange(1, 8)):
        at = dice.randrange(len(old) + 1)
        part = bytearray(old[at : at + dice.randrange(3000)])
        for _ in range(dice.randrange(4) if part else 0):
            part[dice.randrange(len(part))] = dice.randrange(256)
        parts += [bytes(part), dice.randbytes(dice.randrange(50))]
    return b"".join(parts)


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_what_is_packed_comes_out_again(seed: int) -> None:
    new = related(OLD, seed)
    assert patched(patch.packed(*delta.difference(new, OLD)), OLD, len(new)) == new


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_a_difference_found_window_by_window_makes_the_same(seed: int, windows: int) -> None:
    new = related(OLD, seed)
    found = delta.difference(new, OLD, -(-len(OLD) // windows))
    assert patched(patch.packed(*found), OLD, len(new)) == new


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_a_difference_can_be_cut_into_pieces(seed: int, blocks: int) -> None:
    old = random.Random(seed).randbytes(9 * BLOCK_BYTES)
    new = related(old, seed) + related(old, seed + 1)
    size, made = blocks * BLOCK_BYTES, b""
    for piece in delta.pieces(*delta.difference(new, old), size):
        assert piece.start == len(made) and piece.size <= size
        made += patched(patch.packed(piece.steps, piece.add, piece.new), old, piece.size)
    assert made == new


def test_a_piece_that_reads_too_much_is_cut_smaller() -> None:
    far = OPERATION_BYTES_MAX // BLOCK_BYTES
    steps = [Step(number * BLOCK_BYTES, 2, 2) for number in range(2 * far)]
    pieces = list(delta.pieces(steps, bytes(4 * far), bytes(4 * far), 4 * BLOCK_BYTES))
    assert len(pieces) > 1 and sum(one.size for one in pieces) == 8 * far
    assert [one.start for one in pieces] == [sum(one.size for one in pieces[:at]) for at in range(len(pieces))]
    assert max(len(delta.blocks_read(one.steps)) for one in pieces) <= far


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_bytes_are_added_modulo_256(one: bytes, other: bytes) -> None:
    length = min(len(one), len(other))
    expected = bytes((a + b) & 255 for a, b in zip(one, other, strict=False))
    assert bytes(summed(one[:length], other[:length])) == expected


def test_long_runs_are_added_too() -> None:
    old = random.Random(5).randbytes(3 * PIECE_BYTES + 17)
    new = bytes((byte + 200) & 255 for byte in old)
    stored = patch.packed([Step(0, len(old), 0)], bytes([200]) * len(old), b"")
    assert patched(stored, old, len(old)) == new


def stored_of(control: bytes, differences: bytes = b"", fresh: bytes = b"", steps: int = 1) -> bytes:
    streams = [lzma.compress(one, lzma.FORMAT_RAW, filters=PACKING) for one in (control, differences, fresh)]
    return HEAD.pack(steps, *map(len, streams)) + b"".join(streams)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        stored_of(bytes([4, 0, 0]), b"abcd")[:-1],
        stored_of(bytes([4, 0, 0]), b"abcd") + b"x",
        stored_of(bytes([4, 0, 0]), b"abc"),
        stored_of(bytes([4, 0, 0]), b"abcde"),
        stored_of(bytes([3, 0, 0]), b"abc"),
        stored_of(bytes([5, 0, 0]), b"abcde"),
        stored_of(bytes([4, 0, 1]), b"abcd"),
        stored_of(bytes([4, 0, 14]), b"abcd"),
        stored_of(bytes([0, 4, 0]), b"", b"abc"),
        stored_of(bytes([0, 4, 0]), b"", b"abcde"),
        stored_of(bytes([4, 0]), b"abcd"),
        stored_of(b"\xff" * 20, b"abcd"),
        stored_of(bytes([4, 0, 0]), b"abcd", steps=1 << 30),
        HEAD.pack(1, 4, 4, 4) + b"nonsense....",
    ],
)
def test_a_patch_that_lies_is_corrupt(stored: bytes) -> None:
    assert patched(stored_of(bytes([4, 0, 0]), bytes(4)), b"source", 4) == b"sour"
    with pytest.raises(BundleError) as caught:
        patched(stored, b"source", 4)
    assert caught.value.code == "payload_corrupt"


def test_a_bomb_is_stopped_at_the_size_it_must_make() -> None:
    bomb = stored_of(bytes([0]) + bytes([0x80, 0x80, 0x80, 0x80, 1]) + bytes([0]), b"", bytes(1 << 24))
    with pytest.raises(BundleError):
        patched(bomb, b"source", 4096)


@given(st.binary(max_size=100), st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 300))
def test_any_streams_make_the_size_or_are_corrupt(control: bytes, differences: bytes, fresh: bytes, size: int) -> None:
    for stored in (control, stored_of(control, differences, fresh, steps=len(control) // 3)):
        try:
            assert len(patched(stored, OLD, size)) == size
        except BundleError as error:
            assert error.code == "payload_corrupt"
