"""What an installation reads, without a clock: no more of the slots than what it is made of and compared with."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from posagent.core.bundle import Bundle
from posagent.core.payload import Header, Kind, parse_header
from posagent.installer.operations import NEAR_BYTES, READ_BYTES, gather
from posagent.installer.spare import SAMPLE_BYTES, SAMPLES_MIN
from posagent.installer.work import LOOKED_AT, Work
from posagent.installer.writer import _items
from tests.installer.payloads import BLOCK, Shelf, payload, unsealed
from tests.installer.store import Bytes

MIB = 1 << 20


@dataclass(slots=True)
class Counting:
    """A slot that counts what is read of it."""

    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)

    def pread(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def pread_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.pread(offset, len(view))

    def drop_cache(self) -> None:
        """There is none."""


def system() -> tuple[bytes, bytes]:
    """4 MiB of two versions: parts moved by a block, every 50th block of others changed a little, zeros."""
    dice = random.Random(4)
    old = dice.randbytes(3 * MIB) + bytes(MIB)
    new = bytearray(old[BLOCK : MIB + BLOCK] + old[MIB:])
    for at in range(3 * MIB // 2, 2 * MIB, 50 * BLOCK):
        new[at] ^= 1
    return old, bytes(new[: 3 * MIB] + bytes(MIB))


OLD, NEW = system()


def header() -> Header:
    data = payload(NEW, OLD)[0]
    return parse_header(data[: 16 + int.from_bytes(data[8:12], "little")], len(data))


def installed(spare: bytes, old: bytes | None = OLD) -> tuple[Counting, Counting, int]:
    """The running slot and the spare one after a delta from `old`, or a full payload, was made over `spare`, and how
    many bytes would be written."""
    shelf = Shelf()
    shelf.add(payload(NEW, old))
    bundle: Bundle = shelf  # type: ignore[assignment]
    running, there = Counting(OLD), Counting(spare)
    digest = payload(NEW, old)[1].source_sha256
    work = Work(bundle, shelf.manifests, running=running, spare=there, digest=digest, unseal=unsealed)
    written = sum(len(data) for item in _items(work.parts()[0], there) for runs, _ in item.made for _, data in runs)
    return running, there, written


def test_the_running_slot_is_read_once_and_only_what_the_image_is_made_of() -> None:
    running, _, _ = installed(bytes(len(NEW)))
    operations = header().operations
    sources = sum(length for one in operations for _, length in one.source) * BLOCK
    assert sources <= running.bytes_read <= 1.02 * sources + 2 * BLOCK * len(operations)


def test_a_slot_with_other_content_is_hardly_read_except_for_zeros() -> None:
    _, spare, written = installed(b"\xee" * len(NEW))
    samples = len(NEW) // SAMPLE_BYTES * BLOCK
    assert written == len(NEW)
    assert spare.bytes_read <= samples + 2 * BLOCK * len(header().operations)


def test_of_small_operations_on_other_content_few_are_looked_at() -> None:
    _, spare, written = installed(b"\xee" * len(NEW), old=None)
    assert written == len(NEW)
    data, _ = payload(NEW)
    operations = parse_header(data[: 16 + int.from_bytes(data[8:12], "little")], len(data)).operations
    assert len(operations) > 300
    zeros = sum(-(-count * BLOCK // SAMPLE_BYTES) for one in operations if not one.sha256 for _, count in one.target)
    assert spare.bytes_read <= (3 * SAMPLES_MIN + len(operations) // LOOKED_AT + zeros + 1) * BLOCK


def test_of_small_operations_that_are_there_in_part_no_more_is_written_than_differs() -> None:
    noise = bytearray(random.Random(5).randbytes(len(NEW)))
    for at in range(0, len(NEW), MIB):  # every other half MiB is there
        noise[at : at + MIB // 2] = NEW[at : at + MIB // 2]
    _, _, written = installed(bytes(noise), old=None)
    differing = sum(BLOCK for at in range(0, len(NEW), BLOCK) if NEW[at : at + BLOCK] != noise[at : at + BLOCK])
    assert differing <= written <= 1.1 * differing


def test_where_the_image_is_there_already_the_source_is_not_read() -> None:
    running, spare, written = installed(NEW)
    assert written == 0
    copies = sum(one.kind is Kind.COPY for one in header().operations)
    assert copies > 1 and running.bytes_read == copies * BLOCK
    assert spare.bytes_read <= len(NEW) + 2 * BLOCK * len(header().operations)


def test_of_an_image_that_is_there_in_part_no_more_is_written_than_differs() -> None:
    _, _, written = installed(OLD)
    differing = sum(BLOCK for at in range(0, len(NEW), BLOCK) if NEW[at : at + BLOCK] != OLD[at : at + BLOCK])
    assert differing <= written <= 1.05 * differing


def gathered(image: Counting | Bytes, places: list[tuple[int, int]]) -> bytearray:
    into = bytearray(sum(length for _, length in places))
    gather(image, places, memoryview(into))
    return into


@pytest.mark.parametrize("seed", range(20))
def test_places_are_gathered_in_their_order_with_few_reads(seed: int) -> None:
    dice = random.Random(seed)
    image = Counting(OLD[: 2 * MIB])
    numbers = dice.sample(range(0, 512, 2), 60)
    places = [(number * BLOCK, dice.choice([BLOCK, BLOCK, 100])) for number in numbers]
    places += [(MIB // 2, READ_BYTES + 5000)]
    assert gathered(image, places) == b"".join(OLD[at : at + length] for at, length in places)
    starts = [at for at, _ in image.reads]
    assert starts == sorted(starts) and len(starts) < len(places)
    assert all(length <= READ_BYTES for _, length in image.reads)
    assert image.bytes_read <= sum(length for _, length in places) + len(places) * (NEAR_BYTES + BLOCK)
    assert gathered(Bytes(OLD), [(3, 4)]) == OLD[3:7]
