"""What is left to do: deltas, what is found in the slots, and what must be fetched."""

from __future__ import annotations

import gc
import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.bundle import Bundle, Missing, Window
from posagent.core.errors import BundleError
from posagent.core.extents import Extent
from posagent.core.manifest import Manifest
from posagent.core.payload import Header, Kind, Operation, parse_header
from posagent.core.pieces import Piece, joined
from posagent.installer.groups import Payload, grouped
from posagent.installer.work import Step, Work
from tests.installer.payloads import BLOCK, DATA_BYTES, Shelf, image, newer, payload, unsealed
from tests.installer.store import Bytes

OLD, NEW = image(), newer(image())


@dataclass(slots=True)
class Terminal:
    """Two slots and a bundle; `digest` is what the records say of the running image."""

    running: bytes = OLD
    spare: bytes = bytes(len(NEW))
    digest: str = ""
    shelf: Shelf = field(default_factory=Shelf)
    new: bytes = NEW

    def work(self, whole: bool = True) -> Work:
        shelf: Bundle = self.shelf  # type: ignore[assignment]
        running, spare = Bytes(self.running), Bytes(self.spare)
        return Work(
            shelf,
            self.shelf.manifests,
            running=running,
            spare=spare,
            digest=self.digest,
            unseal=unsealed,
            whole=whole,
        )

    def wanted(self, whole: bool = True, price: float = 0.0) -> list[Piece]:
        wanted: list[Piece] = []
        assert sum(self.work(whole).plan(wanted, price)) >= len(self.new)
        return wanted

    def within(self, pieces: list[Piece], made: tuple[bytes, Manifest]) -> int:
        """How many bytes of that payload are among the pieces."""
        window = self.shelf.members[made[1].member]
        return sum(length for at, length in pieces if window.start <= at < window.start + window.size)

    @property
    def bytes_wanted(self) -> int:
        return sum(length for _, length in self.wanted())

    def made(self) -> bytes:
        """The spare slot after all is done."""
        slot = bytearray(self.spare)
        for step in self.work().parts()[0]:
            put(step, slot)
        return bytes(slot)

    def hide(self, pieces: list[Piece]) -> None:
        """Of the bundle's bytes only these, and the payloads' headers, are there."""
        for window in self.shelf.members.values():
            pieces = [*pieces, (window.start, header_bytes(self.shelf.data[window.start :]))]
        self.shelf.pieces = joined(pieces, 0)


def put(step: Step, slot: bytearray) -> None:
    done = 0
    for at, length in step.places if step.wanted else ():
        slot[at : at + length] = step.wanted[done : done + length]
        done += length


def header_bytes(data: bytes) -> int:
    return 16 + int.from_bytes(data[8:12], "little")


def terminal(*payloads: bytes | None, **changes: object) -> Terminal:
    """A terminal with a bundle of payloads made from these sources; None is the full one."""
    made = Terminal(**changes)  # type: ignore[arg-type]
    for source in payloads:
        made.shelf.add(payload(NEW, source))
    return made


def test_a_delta_makes_the_image_from_the_running_slot() -> None:
    one = terminal(OLD)
    assert one.work().kind == "delta" and one.made() == NEW


def test_a_delta_fetches_little_and_what_is_not_fetched_is_not_read() -> None:
    one = terminal(OLD, None)
    wanted = one.wanted()
    assert 0 < sum(length for _, length in wanted) < len(one.shelf.data) / 5
    one.hide(wanted)
    assert one.made() == NEW and list(one.work().check())


def test_nothing_is_fetched_for_an_image_that_is_there() -> None:
    for payloads in ((OLD,), (OLD, None), (None,)):
        one = terminal(*payloads, spare=NEW)
        assert one.wanted() == [] and one.made() == NEW


def test_a_slot_that_nobody_wrote_here_is_known_by_its_bytes() -> None:
    assert terminal(OLD, None).work().kind == "delta"
    assert terminal(OLD, None, running=OLD + bytes(BLOCK)).work().kind == "delta"
    assert terminal(OLD, None, running=OLD[:-1] + b"?").work().kind == "full"


def test_the_records_say_what_runs() -> None:
    delta = payload(NEW, OLD)[1]
    assert terminal(OLD, None, digest=delta.source_sha256).work().kind == "delta"
    assert terminal(OLD, None, digest="0" * 64).work().kind == "full"


def test_without_any_payload_for_what_runs_it_is_said() -> None:
    with pytest.raises(BundleError) as caught:
        terminal(OLD, digest="0" * 64).work()
    assert caught.value.code == "source_differs"


def spoilt(at: int) -> bytes:
    """The running slot after a bit of that block rotted."""
    return OLD[: at * BLOCK] + bytes([OLD[at * BLOCK] ^ 1]) + OLD[at * BLOCK + 1 :]


@pytest.mark.parametrize("at", range(0, len(OLD) // BLOCK, 3))
def test_where_the_running_slot_has_rotted_the_full_payload_fills_in(at: int) -> None:
    digest = payload(NEW, OLD)[1].source_sha256
    sound, rotten = terminal(OLD, None, digest=digest), terminal(OLD, None, digest=digest, running=spoilt(at))
    wanted = rotten.wanted()
    full = rotten.shelf.members[payload(NEW)[1].member]
    rotten.hide(wanted)
    assert rotten.made() == NEW
    if wanted != sound.wanted():
        assert any(offset >= full.start for offset, _ in wanted)


def test_only_the_operations_for_rotten_extents_are_taken_from_the_full_payload() -> None:
    data, manifest = payload(NEW, OLD)
    header = parse_header(data[: header_bytes(data)], len(data))
    copied = next(one for one in header.operations if one.kind is Kind.COPY)
    digest = manifest.source_sha256
    rotten = terminal(OLD, None, digest=digest, running=spoilt(copied.source[0].start))
    full = rotten.shelf.members[payload(NEW)[1].member]
    extra = [piece for piece in rotten.wanted() if piece[0] >= full.start]
    touched = {block for start, length in copied.target for block in range(start, start + length)}
    assert 0 < len(extra) <= len(touched) + 1


def test_a_rotten_slot_and_no_full_payload_is_said() -> None:
    rotten = terminal(OLD, digest=payload(NEW, OLD)[1].source_sha256, running=spoilt(1))
    with pytest.raises(BundleError) as caught:
        rotten.made()
    assert caught.value.code == "source_differs"


def test_without_a_delta_only_what_the_running_slot_lacks_is_fetched() -> None:
    moved = bytes(3 * BLOCK) + NEW[: -20 * BLOCK] + random.Random(9).randbytes(20 * BLOCK)
    one, blank = terminal(None, running=moved), terminal(None, running=bytes(len(NEW)))
    assert one.work().kind == "full"
    assert 0 < one.bytes_wanted < 0.7 * blank.bytes_wanted
    one.hide(one.wanted())
    assert one.made() == NEW


def test_a_half_finished_attempt_is_gone_on_with() -> None:
    half = NEW[: 20 * BLOCK] + bytes(len(NEW) - 20 * BLOCK)
    one, blank = terminal(None, spare=half, running=bytes(BLOCK)), terminal(None, running=bytes(BLOCK))
    assert one.bytes_wanted < 0.7 * blank.bytes_wanted
    one.hide(one.wanted())
    assert one.made() == NEW


def test_a_flipped_bit_in_what_was_fetched_is_corrupt() -> None:
    for payloads in ((OLD,), (None,)):
        one = terminal(*payloads)
        at, length = one.wanted()[-1]
        for place in (at, at + length // 2, at + length - 1):
            data = bytearray(terminal(*payloads).shelf.data)
            data[place] ^= 1
            one.shelf.data = bytes(data)
            with pytest.raises(BundleError) as caught:
                one.made()
            assert caught.value.code == "payload_corrupt"


def test_a_payload_that_is_not_in_the_bundle_is_said() -> None:
    one = terminal(None)
    one.shelf.members.clear()
    with pytest.raises(BundleError, match="lacks"):
        one.made()


# large operations


def text(blocks: int = 40) -> bytes:
    """Words, and some zeros: what packs better in large pieces."""
    dice = random.Random(3)
    words = [dice.randbytes(7) for _ in range(250)]
    pages = (b" ".join(dice.choices(words, k=BLOCK))[:BLOCK] for _ in range(blocks))
    return b"".join(bytes(BLOCK) if number % 9 == 4 else page for number, page in enumerate(pages))


TEXT = text()
SMALL, LARGE = payload(TEXT), payload(TEXT, whole=True)


def with_whole(running: bytes = bytes(BLOCK)) -> Terminal:
    """A terminal that has fetched the tables of a bundle with a full and a whole payload."""
    made = Terminal(running=running, spare=bytes(len(TEXT)), new=TEXT)
    made.shelf.add(SMALL)
    made.shelf.add(LARGE)
    made.hide([])
    return made


def test_a_terminal_that_has_nothing_fetches_the_whole_payload() -> None:
    one = with_whole()
    wanted = one.wanted()
    assert one.within(wanted, SMALL) == 0 < one.within(wanted, LARGE) < len(SMALL[0]) - header_bytes(SMALL[0])
    one.hide(wanted)
    assert one.made() == TEXT and list(one.work().check())


def test_a_terminal_that_has_most_fetches_small_operations() -> None:
    fresh = random.Random(9).randbytes(BLOCK)
    one = with_whole(running=TEXT[: 30 * BLOCK] + fresh + TEXT[31 * BLOCK :])
    wanted = one.wanted()
    assert one.within(wanted, LARGE) == 0 < one.within(wanted, SMALL)
    one.hide(wanted)
    assert one.made() == TEXT


def test_large_and_small_operations_are_mixed_as_it_costs_least() -> None:
    half = bytes(19 * BLOCK) + TEXT[19 * BLOCK :]
    one = with_whole(running=half)
    wanted, small = one.wanted(), one.wanted(whole=False)
    assert one.within(wanted, LARGE) > 0 < one.within(wanted, SMALL)
    assert sum(length for _, length in wanted) < sum(length for _, length in small)
    one.hide(wanted)
    assert one.made() == TEXT


def test_large_operations_are_taken_where_they_save_their_price() -> None:
    one = with_whole()
    saved = one.within(one.wanted(whole=False), SMALL) - one.within(one.wanted(), LARGE)
    assert saved > 0
    assert one.within(one.wanted(price=saved / len(TEXT) / 4), SMALL) == 0
    dear = one.wanted(price=4 * saved / len(TEXT))
    assert one.within(dear, LARGE) == 0
    one.hide(dear)
    assert one.made() == TEXT


def test_a_large_operation_that_is_there_is_taken_at_any_price() -> None:
    one = with_whole()
    one.hide(one.wanted())
    assert one.within(one.wanted(price=1000.0), SMALL) == 0


def test_the_plan_says_how_much_either_kind_makes() -> None:
    one = with_whole()
    made = []
    for price in (0.0, 1000.0):
        work = one.work()
        assert list(work.plan([], price))
        made.append((work.large, work.small))
    zeros = TEXT.count(bytes(BLOCK)) * BLOCK
    assert made == [(len(TEXT) - zeros, 0), (0, len(TEXT) - zeros)]


def test_what_was_fetched_of_the_whole_payload_is_found_again() -> None:
    """After a power cut in the middle of writing: half of a large operation is in the slot."""
    one = with_whole()
    wanted = one.wanted()
    one.hide(wanted)
    for written in range(0, len(TEXT), BLOCK):
        one.spare = TEXT[:written] + bytes(len(TEXT) - written)
        assert one.within(one.wanted(), SMALL) == 0
        assert one.made() == TEXT


def test_small_operations_that_were_fetched_are_not_fetched_again_as_large_ones() -> None:
    one = with_whole()
    small = one.wanted(whole=False)
    assert one.within(small, LARGE) == 0
    one.hide(small)
    assert one.within(one.wanted(), LARGE) == 0
    assert one.made() == TEXT


def test_a_plan_of_small_operations_needs_no_table_of_the_whole_payload() -> None:
    one = with_whole()
    window = one.shelf.members[LARGE[1].member]
    one.shelf.pieces = joined([(0, window.start)], 0)
    assert one.made() == TEXT and list(one.work().check())
    with pytest.raises(Missing):
        one.wanted()
    assert one.wanted(whole=False)


def test_with_a_delta_nothing_of_the_whole_payload_is_looked_at() -> None:
    one = terminal(OLD, None)
    one.shelf.add(payload(NEW, whole=True))
    work, wanted = one.work(), list[Piece]()
    assert list(work.plan(wanted)) and wanted
    full, whole = payload(NEW), payload(NEW, whole=True)
    assert not any(one.within(parts, made) for parts in (wanted, work.tables) for made in (full, whole))


def test_small_operations_are_made_in_parts_that_take_turns_and_make_all_together() -> None:
    one = terminal(None, spare=bytes(len(NEW)))
    parts = one.work().parts(most=2, turn_bytes=4 * BLOCK)
    taken: list[list[Step]] = [[] for _ in parts]
    slot = bytearray(len(NEW))
    for steps in itertools.zip_longest(*parts):
        for some, step in zip(taken, steps, strict=True):
            if step is not None:
                some.append(step)
                put(step, slot)
    assert slot == NEW and len(parts) == 3 and all(taken), "all had some"
    assert [{not step.sha256 for step in some} for some in taken] == [{True}, {False}, {False}], "zeros have their own"
    places = [place for some in taken for step in some for place in step.places]
    assert sum(length for _, length in places) == len(NEW), "each was made once"


@pytest.mark.parametrize("source", [OLD, None])
def test_the_table_goes_with_the_work_without_the_collector(source: bytes | None) -> None:
    """A worker that has checked a bundle goes on to write it: two tables would be more than there is room for."""
    one = terminal(source, None)

    def operations() -> int:
        return sum(isinstance(found, Operation) for found in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = operations()
        work = one.work()
        for steps in work.parts(most=2):
            list(steps)
        assert operations() > before
        del work, steps
        assert operations() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("source", [OLD, None])
def test_what_takes_much_memory_is_made_by_one(source: bytes | None) -> None:
    """Patches of a delta, and the large operations that were fetched."""
    if source is not None:
        one = terminal(source, None)
    else:
        one = with_whole()
        one.hide(one.wanted())
    assert len(one.work().parts(most=2)) == 1 and len(one.work(whole=False).parts(most=2)) == (1 if source else 2)
    assert one.made() == one.new


def test_the_whole_payload_alone_will_do() -> None:
    one = Terminal(running=bytes(BLOCK), spare=bytes(len(TEXT)), new=TEXT)
    one.shelf.add(LARGE)
    one.hide(one.wanted())
    assert one.made() == TEXT


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(-BLOCK, BLOCK), st.booleans())
def test_any_image_comes_out_of_any_slot(seed: int, blocks: int, surplus: int, delta: bool) -> None:
    dice = random.Random(seed)
    old = image(seed, blocks)
    new = newer(old + bytes(BLOCK), seed)
    new = new[:surplus] if surplus < 0 else new + dice.randbytes(surplus)
    one = Terminal(running=old, spare=dice.choice([bytes(len(new) + 9), newer(new + bytes(BLOCK), 5), old + new]))
    one.shelf.add(payload(new, old if delta else None))
    assert one.made()[: len(new)] == new
    assert one.made()[len(new) :] == one.spare[len(new) :]
    assert DATA_BYTES


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=60))
def test_zeros_come_evenly_among_the_others(groups: list[tuple[bool, int]]) -> None:
    """At any time so much of the zeros as of the others was done, but for one operation of either."""
    operations, at = [], 0
    for zero, count in groups:
        operations.append(Operation(kind=Kind.ZERO if zero else Kind.DATA, target=[Extent(at, count)]))
        at += count
    header = Header(image_size=at * BLOCK, source_size=0, operations=tuple(operations))
    done, largest = {True: 0, False: 0}, 3 * BLOCK
    totals = {zero: sum(header.size(one) for one in operations if (one.kind is Kind.ZERO) is zero) for zero in done}
    order = [group.small[0][1] for group in grouped(Payload(Window(Bytes(b""), 0, 0), header, None, ()))]
    assert sorted(order, key=operations.index) == operations
    for one in order:
        done[one.kind is Kind.ZERO] += header.size(one)
        if all(totals.values()):
            apart = abs(done[True] / totals[True] - done[False] / totals[False])
            assert apart <= largest / totals[True] + largest / totals[False]
    for kind in (True, False):
        same = [operations.index(one) for one in order if (one.kind is Kind.ZERO) is kind]
        assert same == sorted(same), "those of one kind stay in the order of the image"
