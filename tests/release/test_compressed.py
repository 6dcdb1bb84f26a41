"""Deltas between compressed images: frames are unpacked, patched and packed again, or nothing of it is tried."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from posagent.core.bundle import Bundle
from posagent.core.codec import Codec, CodecKind, Codecs, known_answer, no_codecs
from posagent.core.errors import BundleError
from posagent.core.extents import BLOCK_BYTES, Extent
from posagent.core.payload import Header, Kind, encode_header, parse_header
from posagent.core.pieces import Piece, joined
from posagent.installer.work import Work
from posagent.platform import codecs
from posagent.release import compressed, frames
from posagent.release.compressed import _cut
from posagent.release.frames import Frame
from posagent.release.payload import encode
from posagent.release.units import Unit
from tests.installer.packed import KINDS, OTHERS, images
from tests.installer.payloads import Shelf, payload, unsealed
from tests.installer.store import Bytes

pytestmark = pytest.mark.real


def work(
    kind: str, payloads: Sequence[bool], find: Codecs = codecs.find, spare: bytes = b"", running: bytes = b""
) -> tuple[Work, Shelf]:
    """Of a terminal that runs the old image, with a delta (True) and the full payload (False) as told."""
    old, new = images(kind)
    shelf = Shelf()
    for is_delta in payloads:
        shelf.add(payload(new, old if is_delta else None))
    bundle: Bundle = shelf  # type: ignore[assignment]
    slots = {"running": Bytes(running or old), "spare": Bytes(spare or bytes(len(new)))}
    digest = payload(new, old)[1].source_sha256
    return Work(
        bundle,
        shelf.manifests,
        running=slots["running"],
        spare=slots["spare"],
        digest=digest,
        unseal=unsealed,
        codecs=find,
    ), shelf


def made(one: Work, size: int) -> bytes:
    slot = bytearray(one.spare.pread(0, size))
    for step in one.parts()[0]:
        done = 0
        for at, length in step.places if step.wanted else ():
            slot[at : at + length] = step.wanted[done : done + length]
            done += length
    return bytes(slot)


def header(data: bytes) -> Header:
    return parse_header(data[: 16 + int.from_bytes(data[8:12], "little")], len(data))


@pytest.mark.parametrize("kind", KINDS)
def test_the_new_image_comes_out_of_the_old_one_for_few_bytes(kind: str) -> None:
    old, new = images(kind)
    data, _ = payload(new, old)
    assert any(one.kind is Kind.REPACK for one in header(data).operations)
    assert len(data) < len(new) / 40
    assert made(work(kind, [True])[0], len(new)) == new


@pytest.mark.parametrize("kind", OTHERS)
def test_images_that_are_packed_otherwise_come_out_too(kind: str) -> None:
    new = images(kind)[1]
    assert made(work(kind, [True])[0], len(new)) == new


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_interrupted_attempt_left_is_not_fetched_again(kind: str) -> None:
    new = images(kind)[1]
    wanted: list[Piece] = []
    list(work(kind, [True], spare=new)[0].plan(wanted))
    assert wanted == []
    half = new[: len(new) // 2] + bytes(len(new) - len(new) // 2)
    assert made(work(kind, [True], spare=half)[0], len(new)) == new


@pytest.mark.parametrize("kind", ["squashfs", "erofs"])
def test_the_level_that_the_image_was_packed_with_is_found(kind: str) -> None:
    for name, level in ((kind, 15 if kind == "squashfs" else 0), (KINDS[KINDS.index(kind) + 1], None)):
        old, new = images(name)
        (spec,) = header(payload(new, old)[0]).codecs
        assert spec.level == (level if level is not None else 19 if kind == "squashfs" else 9)
        codec = codecs.find(spec.kind, spec.level)
        assert codec is not None and known_answer(codec) == spec.answer


class Other:
    """A release of the library that packs a little otherwise."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self.version = codec, codec.version

    def unpack(self, packed: bytes | bytearray, at: int) -> tuple[bytes, int]:
        return self._codec.unpack(packed, at)

    def pack(self, plain: bytes | bytearray, at: int, length: int) -> tuple[bytes, int]:
        packed, taken = self._codec.pack(plain, at, length)
        return packed[:-1] + bytes([packed[-1] ^ 1]), taken


class Newer(Other):
    """A release that packs like the old one, as far as is known."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self.version += 1

    def pack(self, plain: bytes | bytearray, at: int, length: int) -> tuple[bytes, int]:
        return self._codec.pack(plain, at, length)


def newer(kind: CodecKind, level: int) -> Codec | None:
    codec = codecs.find(kind, level)
    return codec and Newer(codec)


def other(kind: CodecKind, level: int) -> Codec | None:
    codec = codecs.find(kind, level)
    return codec and Other(codec)


@pytest.mark.parametrize("find", [no_codecs, other, newer])
@pytest.mark.parametrize("kind", ["squashfs", "erofs"])
def test_a_terminal_whose_library_packs_otherwise_takes_the_full_payload_and_says_why(kind: str, find: Codecs) -> None:
    new = images(kind)[1]
    one, shelf = work(kind, [True, False], find)
    wanted: list[Piece] = []
    list(one.plan(wanted))
    assert (one.kind, one.refused) == ("full", "codec_differs")
    full = next(window for name, window in shelf.members.items() if not name.endswith(shelf.manifests[0].target))
    assert wanted and all(at >= full.start for at, _ in wanted)
    assert (full.start, header(shelf.data[full.start :]).length) in one.tables and len(one.tables) == 2
    shelf.pieces = joined([*wanted, *one.tables], 0)
    assert made(work(kind, [True, False], find)[0], len(new)) == new


def test_a_terminal_whose_library_packs_otherwise_and_no_full_payload_is_said() -> None:
    with pytest.raises(BundleError) as caught:
        list(work("squashfs", [True], no_codecs)[0].plan([]))
    assert caught.value.code == "codec_differs"


def test_where_the_running_slot_has_rotted_the_full_payload_fills_in() -> None:
    old, new = images("squashfs")
    at = len(old) // 3
    rotten = old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :]
    assert made(work("squashfs", [True, False], running=rotten)[0], len(new)) == new


def test_a_flipped_bit_in_what_was_fetched_is_corrupt() -> None:
    for kind in ("squashfs", "erofs"):
        new = images(kind)[1]
        one, shelf = work(kind, [True])
        data = bytearray(shelf.data)
        for at in range(header(shelf.data).length, len(data), 97):
            data[at] ^= 1
            shelf.data = bytes(data)
            with pytest.raises(BundleError) as caught:
                made(one, len(new))
            assert caught.value.code == "payload_corrupt"
            data[at] ^= 1


@pytest.mark.parametrize("kind", ["squashfs", "erofs"])
def test_frames_that_no_level_makes_again_are_taken_as_they_are(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = images(kind)
    monkeypatch.setattr(frames, "LEVELS", {CodecKind.ZSTD: (2,), CodecKind.LZ4: (4,)})
    again = bytes(old) + bytes(BLOCK_BYTES)  # payloads are kept by what they are made from
    data, manifest = payload(new, again)
    shelf = Shelf()
    shelf.add((data, manifest))
    bundle: Bundle = shelf  # type: ignore[assignment]
    spare = Bytes(bytes(len(new)))
    one = Work(
        bundle,
        shelf.manifests,
        running=Bytes(again),
        spare=spare,
        digest=manifest.source_sha256,
        unseal=unsealed,
        codecs=codecs.find,
    )
    assert made(one, len(new)) == new


def test_without_the_library_a_delta_is_made_as_of_any_image(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = images("squashfs")
    monkeypatch.setattr(codecs, "find", lambda kind, level: None)
    data, _ = payload(new, old + bytes(2 * BLOCK_BYTES))
    assert header(data).codecs == () and all(one.kind is not Kind.REPACK for one in header(data).operations)


@pytest.mark.parametrize("kind", ["squashfs", "erofs"])
def test_the_same_images_make_the_same_bytes(kind: str) -> None:
    old, new = images(kind)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old").write_bytes(old)
        (folder / "new").write_bytes(new)
        for number in range(2):
            encode(folder / "new", folder / f"{number}", source=folder / "old")
        assert (folder / "0").read_bytes() == (folder / "1").read_bytes()


def test_small_operations_and_windows_make_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is cut is cut often."""
    monkeypatch.setattr(compressed, "PLAIN_BYTES", 150 << 10)
    monkeypatch.setattr("posagent.release.units.NEW_WINDOW_BYTES", 200 << 10)
    monkeypatch.setattr("posagent.release.units.OLD_WINDOW_BYTES", 500 << 10)
    for kind in ("squashfs", "erofs"):
        old, new = images(kind)
        again = bytes(old) + bytes(3 * BLOCK_BYTES)
        data, manifest = payload(new, again)
        shelf = Shelf()
        shelf.add((data, manifest))
        bundle: Bundle = shelf  # type: ignore[assignment]
        slots = {"running": Bytes(again), "spare": Bytes(bytes(len(new)))}
        one = Work(
            bundle,
            shelf.manifests,
            running=slots["running"],
            spare=slots["spare"],
            digest="",
            unseal=unsealed,
            codecs=codecs.find,
        )
        assert made(one, len(new)) == new
        assert sum(len(one.target) > 0 for one in header(data).operations) >= 6


def test_operations_end_at_blocks_where_little_of_a_frame_is_cut_off() -> None:
    sizes = [3000, 5000, 2000, 4384, 9000, 1000, 40]
    units, at = [], 0
    for number, size in enumerate(sizes):
        units.append(Unit(at, size, Frame(at, size, 300 << 10, bytes([number]), 0)))
        at += size
    found = list(_cut(units))
    assert [end for _, end in found[:-1]] == [end // BLOCK_BYTES * BLOCK_BYTES for _, end in found[:-1]]
    assert sum(min(unit.end, end) - unit.at for some, end in found for unit in some) == at
    begins = [some[0].at for some, _ in found]
    assert begins == [0, *(end for _, end in found[:-1])]


def test_a_header_names_its_codecs() -> None:
    old, new = images("erofs")
    one = header(payload(new, old)[0])
    again = encode_header(one)
    assert parse_header(again, len(again) + sum(o.length for o in one.operations)).codecs == one.codecs
    assert Extent(0, 1)
