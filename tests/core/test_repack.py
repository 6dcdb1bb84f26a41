"""Repack operations: whatever is stored, nothing but the operation's bytes or `payload_corrupt` comes of it."""

from __future__ import annotations

import lzma

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.codec import FRAME_BYTES_MAX, CodecKind, known_answer
from posagent.core.errors import BundleError
from posagent.core.payload import number
from posagent.core.repack import PACKING, RUNS_MAX, Layout, MadeRun, SourceRun, Unpacked, packed, parse_layout, repacked
from posagent.platform import codecs
from posagent.release import patch, repack
from posagent.release.delta import Step


class Doubling:
    """Packs up to four bytes: 'x', their number, and each of them; so that everything about it can be seen."""

    version = 1

    def unpack(self, data: bytes | bytearray, at: int) -> tuple[bytes, int]:
        if data[at : at + 1] != b"x" or at + 2 + data[at + 1] > len(data):
            raise ValueError("no frame")
        return bytes(byte for byte in data[at + 2 : at + 2 + data[at + 1]] for _ in "12"), 2 + data[at + 1]

    def pack(self, plain: bytes | bytearray, at: int, length: int) -> tuple[bytes, int]:
        some = bytes(plain[at : at + min(length, 4)][::2])
        return b"x" + bytes([len(some)]) + some, min(length, 4)


CODEC = Doubling()


def corrupt(stored: bytes, source: bytes = b"", size: int = 1) -> None:
    with pytest.raises(BundleError) as caught:
        repacked(stored, source, size, [CODEC])
    assert caught.value.code == "payload_corrupt"


def stored(layout: Layout, steps: list[Step], add: bytes = b"", new: bytes = b"") -> bytes:
    return repack.encoded(layout) + patch.packed(steps, add, new)


def test_frames_are_unpacked_patched_and_packed_again() -> None:
    source = b"raw" + b"x\x02ab" + b"x\x02cd" + b"end"
    layout = Layout(0, 11, [SourceRun(3, 2)], [MadeRun(3, 2, 8, 4, 0)])
    found = Unpacked(source, layout.source, CODEC)
    whole = b"rawaabbccddend"
    assert len(found) == len(whole)
    assert all(found[at:end] == whole[at:end] for at in range(len(whole)) for end in range(at, len(whole) + 1))
    data = stored(layout, [Step(0, 7, 4)], bytes(7), b"eeff")
    assert repacked(data, source, 11, [CODEC]) == b"rawx\x02abx\x02ef"
    assert repacked(data, source, 9, [CODEC]) == b"rawx\x02abx\x02", "the last frame is cut"
    corrupt(data, source, 7)  # the last frame would not even begin in it
    corrupt(data, source, 12)


def test_a_packer_that_takes_what_fits_sees_what_comes_after() -> None:
    seen = []

    class Seeing(Doubling):
        def pack(self, plain: bytes | bytearray, at: int, length: int) -> tuple[bytes, int]:
            seen.append(bytes(plain[at : at + length]))
            return super().pack(plain, at, length)

    runs = [MadeRun(0, 2, 8, 0, 3)]
    assert packed(bytearray(b"aabbccdd" + b"e"), runs, 9, Seeing()) == b"x\x02abx\x02cde"
    assert seen == [b"aabbccdde\0\0", b"ccdde\0\0"]


def test_layouts_that_lead_beside_what_is_there_are_corrupt() -> None:
    source = b"x\x02ab"
    for layout in (
        Layout(1, 4, [SourceRun(0, 1)], [MadeRun(0, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(1, 1)], [MadeRun(0, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 2)], [MadeRun(0, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(9, 0)], [MadeRun(0, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 1)], [MadeRun(1, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 1)], [MadeRun(0, 1, 5, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 1)], [MadeRun(0, 3, 4, 4, 0)]),
        Layout(0, 1 << 40, [SourceRun(0, 1)], [MadeRun(0, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 1 << 40)], [MadeRun(0, 1, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 1)], [MadeRun(0, 1 << 40, 4, 4, 0)]),
        Layout(0, 4, [SourceRun(0, 1)] + [SourceRun(0, 0)] * RUNS_MAX, [MadeRun(0, 1, 4, 4, 0)]),
    ):
        corrupt(stored(layout, [Step(0, 4, 0)], bytes(4)), source, 4)


def test_a_layout_that_is_none_is_corrupt() -> None:
    for table in (b"", bytes(3), bytes(5), b"\xff" * 40, bytes(10**6)):
        data = lzma.compress(table, lzma.FORMAT_RAW, filters=PACKING)
        corrupt(len(data).to_bytes(4, "little") + data)
    corrupt(b"")
    corrupt(b"\xff\xff\xff\xff" + b"junk" * 9)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 12), max_size=16), st.integers(1, 60), st.binary(max_size=30))
def test_any_layout_makes_so_many_bytes_or_is_corrupt(values: list[int], size: int, source: bytes) -> None:
    table = lzma.compress(b"".join(map(number, values)), lzma.FORMAT_RAW, filters=PACKING)
    plain = values[3] if len(values) > 3 else 0
    data = len(table).to_bytes(4, "little") + table + patch.packed([Step(0, 0, plain)], b"", bytes(plain))
    try:
        assert len(repacked(data, b"x\x02ab" + source, size, [CODEC])) == size
    except BundleError as error:
        assert error.code == "payload_corrupt"


def test_a_layout_comes_back() -> None:
    layout = Layout(0, 300, [SourceRun(5, 2), SourceRun(0, 9)], [MadeRun(1, 2, 3, 4, 500), MadeRun(9, 8, 7, 6, 0)])
    data = repack.encoded(layout)
    assert parse_layout(data[4:]) == layout


@pytest.mark.parametrize("kind", CodecKind)
@pytest.mark.parametrize("level", [0, 3, 12])
def test_the_terminals_libraries_pack_and_unpack_within_bounds(kind: CodecKind, level: int) -> None:
    codec = codecs.find(kind, level)
    if codec is None:
        pytest.skip(f"this machine has no library for {kind.name.lower()}")
    plain = b"some words, again some words, " * 5000
    frame, taken = codec.pack(plain, 30, 100_000)
    assert codec.unpack(b"##" + frame + b"##", 2) == (plain[30 : 30 + taken], len(frame))
    assert known_answer(codec) == known_answer(codec)
    for junk in (b"", b"x", bytes(4096), b"\xff" * 4096, frame[:-1]):
        with pytest.raises(ValueError):
            codec.unpack(junk, 0)
    for at, length in ((0, 0), (0, len(plain) + 1), (len(plain), 1), (-1, 1), (0, FRAME_BYTES_MAX + 1)):
        with pytest.raises(ValueError):
            codec.pack(plain, at, length)


def test_a_level_that_is_none_is_not_found() -> None:
    assert codecs.find(CodecKind.ZSTD, 23) is None and codecs.find(CodecKind.LZ4, -1) is None
