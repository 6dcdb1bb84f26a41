"""Writing a slot: verified before and after, resumable anywhere, and never more than the medium really holds."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.bundle import Bundle
from posagent.core.errors import PosagentError, SlotError
from posagent.core.ports import BlockDevice, Message
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.installer import read_back, writer
from posagent.installer.ahead import AHEAD_BYTES, ahead, by_turns, in_line, once
from posagent.installer.slots import Slots
from posagent.installer.work import Work
from posagent.installer.writer import write
from posagent.platform.blockdev import LinuxBlockDevice
from tests.installer.payloads import BLOCK, DATA_BYTES, Shelf, payload, unsealed
from tests.installer.store import Bytes

DIR = "/data/installer"
WAIT_S = 30.0
"""Longer than any thread takes; only a failure waits for so long."""


def image_bytes(groups: int = 6, seed: int = 1) -> bytes:
    """Text, zeros and noise; the last block is short."""
    dice = random.Random(seed)
    parts = [dice.randbytes(16) * (DATA_BYTES // 16), bytes(DATA_BYTES), dice.randbytes(DATA_BYTES)]
    return b"".join(itertools.islice(itertools.cycle(parts), groups)) + b"the end"


class InTurn:
    """A simulated slot for threads: one call after the other, as a kernel sees to it."""

    def __init__(self, slot: BlockDevice, turn: Any) -> None:
        self._slot, self._turn = slot, turn

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._slot, name)
        if not callable(found):
            return found

        def called(*args: Any) -> Any:
            with self._turn:
                return found(*args)

        return called


@dataclass(slots=True)
class Terminal:
    """One terminal's medium and a payload for it."""

    image: bytes = field(default_factory=image_bytes)
    medium: Medium = field(default_factory=Medium)
    slot_size: int = 1 << 17
    threads: bool = False
    shelf: Shelf = field(default_factory=Shelf)
    turn: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.shelf.add(payload(self.image))
        self.medium.slot("b", self.slot_size).pwrite(0, b"\xee" * self.slot_size)
        self.medium.slot("b").flush()

    @property
    def slots(self) -> Slots:
        return Slots(self.medium.files, DIR, self.medium.boot, tries_full=3)

    def write(self, slot: str = "b") -> Iterator[Message]:
        shelf: Bundle = self.shelf  # type: ignore[assignment]
        self.slots.target(slot)
        spare = self.open_slot(slot)
        with_one = Work(shelf, self.shelf.manifests, running=Bytes(b""), spare=spare, digest="", unseal=unsealed)
        return write(
            slots=self.slots,
            slot=slot,
            device=self.open_slot(slot),
            work=with_one,
            update_id="u",
            threads=self.threads,
        )

    def open_slot(self, slot: str) -> BlockDevice:
        made = self.medium.slot(slot)
        return InTurn(made, self.turn) if self.threads else made

    def refusal(self, slot: str = "b") -> str:
        with pytest.raises(PosagentError) as caught:
            list(self.write(slot))
        return caught.value.code

    @property
    def state(self) -> str:
        return str(self.slots.records()["b"].state)

    @property
    def pwrites(self) -> list[str]:
        return [what for what in self.medium.done if what.startswith("pwrite b")][1:]

    def assert_written(self) -> None:
        assert self.state == "complete"
        device = self.medium.slot("b")
        assert device.flushed
        assert device.pread(0, len(self.image)) == self.image
        assert device.pread(len(self.image), 100) == b"\xee" * 100


@pytest.fixture(
    autouse=True,
    params=[(read_back.KEPT_BYTES, 2), (3 * BLOCK, 2), (3 * BLOCK, 1)],
    ids=["at last", "meanwhile", "by digests"],
)
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are small: they would be written in one go, and read back in another. What one maker makes is not
    kept."""
    flushed, makers = request.param
    monkeypatch.setattr(writer, "ITEM_BYTES", BLOCK)
    monkeypatch.setattr(writer, "MAKERS_MAX", makers)
    monkeypatch.setattr(read_back, "FLUSHED_BYTES", flushed)
    monkeypatch.setattr(read_back, "KEPT_BYTES", flushed)


@pytest.fixture(params=[False, True], ids=["in line", "with a thread"])
def terminal(request: pytest.FixtureRequest) -> Terminal:
    return Terminal(threads=request.param)


def test_the_image_is_in_the_slot_zeros_included(terminal: Terminal) -> None:
    assert list(terminal.write())[-1] == {"result": {"bytes_written": len(terminal.image)}}
    terminal.assert_written()


def test_only_blocks_that_differ_are_written(terminal: Terminal) -> None:
    changed = bytearray(terminal.image)
    for at in (5, 3 * BLOCK + 7, 4 * BLOCK):
        changed[at] ^= 1
    terminal.medium.slot("b").pwrite(0, bytes(changed))
    before = len(terminal.pwrites)
    assert list(terminal.write())[-1] == {"result": {"bytes_written": 3 * BLOCK}}
    assert terminal.pwrites[before:] == [f"pwrite b {at}+{BLOCK}" for at in (12288, 0, 16384)] or len(
        terminal.pwrites
    ) - before in (2, 3)
    terminal.assert_written()


def test_progress_is_told_as_both_passes_go_on(terminal: Terminal) -> None:
    size = len(terminal.image)
    told = [message["progress"] for message in terminal.write() if "progress" in message]
    at_last = 6 if size < read_back.KEPT_BYTES else 3  # the others were read back meanwhile
    for step, times in (("write", 7), ("read_back", at_last)):
        done = [one["bytes_done"] for one in told if one["step"] == step]
        assert done == sorted(done) and done[-1] == size and len(done) == times
        assert {one["bytes_total"] for one in told if one["step"] == step} == {size}


# what is refused before anything is touched


def test_the_running_slot_and_unknown_slots_are_refused(terminal: Terminal) -> None:
    done = len(terminal.medium.done)
    assert terminal.refusal("a") == "slot_is_booted"
    assert terminal.refusal("c") == "slot_missing"
    assert len(terminal.medium.done) == done


def test_a_slot_that_is_too_small_is_refused_untouched(terminal: Terminal) -> None:
    terminal.medium = Medium()
    terminal.medium.slot("b", len(terminal.image) - 1)
    assert terminal.refusal() == "slot_too_small"
    assert terminal.medium.done == []


# payloads that lie


def test_a_flipped_bit_never_reaches_the_slot(terminal: Terminal) -> None:
    data = terminal.shelf.data
    for at in (len(data) - 1, len(data) // 2):
        terminal.shelf.data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        terminal.medium.slot("b").pwrite(0, b"\xee" * terminal.slot_size)
        before = terminal.medium.slot("b").pread(0, len(terminal.image))
        assert terminal.refusal() == "payload_corrupt"
        assert terminal.state == "writing"
        after = terminal.medium.slot("b").pread(0, len(terminal.image))
        for block in range(0, len(before), BLOCK):
            here = slice(block, block + BLOCK)
            assert after[here] in (before[here], terminal.image[here])
    terminal.shelf.data = data
    list(terminal.write())
    terminal.assert_written()


def test_a_payload_that_is_cut_short_is_refused(terminal: Terminal) -> None:
    terminal.shelf.data = terminal.shelf.data[:-1]
    assert terminal.refusal() == "payload_corrupt"


# slots that lie


def test_flash_that_stores_something_else_is_found_by_reading_back(terminal: Terminal) -> None:
    device = terminal.medium.slot("b")
    device.worn = {2 * BLOCK + 7}
    assert terminal.refusal() == "read_back_differs"
    assert terminal.state == "writing"
    device.worn = set()
    list(terminal.write())
    terminal.assert_written()


def test_flash_that_refuses_to_write_is_reported_and_the_old_system_stays(terminal: Terminal) -> None:
    terminal.medium.slot("b").broken = True
    assert terminal.refusal() == "slot_io"
    assert terminal.medium.boot.read().order == ("a",)


def test_a_slot_that_was_changed_behind_our_back_is_written_again(terminal: Terminal) -> None:
    list(terminal.write())
    terminal.medium.slot("b").pwrite(5, b"?")
    assert list(terminal.write())[-1] == {"result": {"bytes_written": BLOCK}}
    terminal.assert_written()


# stopping and going on


def test_writing_the_same_again_only_reads(terminal: Terminal) -> None:
    list(terminal.write())
    before = len(terminal.pwrites)
    list(terminal.write())
    assert len(terminal.pwrites) == before
    terminal.assert_written()


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("messages", range(11))
def test_a_write_that_is_given_up_between_any_two_messages_goes_on_later(threads: bool, messages: int) -> None:
    terminal, others = Terminal(threads=threads), set(threading.enumerate())
    job = terminal.write()
    list(itertools.islice(job, messages))
    job.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= others
    assert terminal.state == ("writing" if messages else "bad")
    before = len(terminal.pwrites)
    again = list(terminal.write())[-1]["result"]["bytes_written"]
    terminal.assert_written()
    assert again == 0 if messages > 7 else again <= len(terminal.image)
    assert len(terminal.pwrites) - before <= 8


@pytest.mark.parametrize(
    "lost",
    [ALL, ALL - {"slot"}, ALL - {"names"}, frozenset[str]()],
    ids=lambda lost: "+".join(sorted(lost)) or "nothing",
)
def test_a_power_cut_before_any_operation_leaves_slot_a_and_only_what_was_lost_to_write_again(
    lost: frozenset[str],
) -> None:
    for cut in itertools.count(1):
        terminal = Terminal()
        terminal.medium.cut_at = len(terminal.medium.done) + cut
        try:
            list(terminal.write())
        except PowerCut:
            terminal.medium.power_on(lost)
        else:
            break
        assert terminal.medium.boot.read().order[0] == "a"
        assert terminal.medium.boot.read().tries["b"] == 0
        list(terminal.write())
        terminal.assert_written()
    assert cut > 12


def test_the_order_of_writes_depends_on_no_thread() -> None:
    """Then the crash explorer, which has none, cuts the same one."""
    orders = []
    for threads in (False, True, True):
        terminal = Terminal(image=image_bytes(groups=30), slot_size=1 << 18, threads=threads)
        list(terminal.write())
        terminal.assert_written()
        orders.append(terminal.pwrites)
    assert orders[0] == orders[1] == orders[2] and len(orders[0]) > 10


# the helper thread


def test_items_made_ahead_come_in_order_and_so_does_trouble() -> None:
    def items() -> Generator[int, None, None]:
        yield from range(50)
        raise OSError(5, "Input/output error")

    taken = []
    with pytest.raises(OSError, match="Input/output"):
        for item in ahead(items()):
            taken.append(item)
    assert taken == list(range(50))


def test_items_of_several_parts_come_by_turns_though_threads_make_them() -> None:
    """Each part waits for what another one makes: one thread could not do it."""
    made = [threading.Event(), threading.Event()]

    def items(own: int) -> Generator[int, None, None]:
        yield own
        made[own].set()
        assert made[1 - own].wait(WAIT_S)
        yield from range(2 + own, 8 - own, 2)

    assert list(by_turns([ahead(items(0), lambda _: 0), ahead(items(1), lambda _: 0)])) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_read_back_meanwhile_waits_for_nobody(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was once held up until the next part was full, because nobody had taken what it told."""
    parts, data, last = 16, bytes(1 << 19), threading.Event()
    monkeypatch.setattr(read_back, "FLUSHED_BYTES", parts * len(data))
    monkeypatch.setattr(read_back, "KEPT_BYTES", parts * len(data))
    device = Medium().slot("b", parts * len(data))

    class Watched:
        size = device.size

        def pread_into(self, offset: int, view: memoryview) -> None:
            device.pread_into(offset, view)
            if offset + len(view) == len(data) * parts:
                last.set()

        def drop_cache(self) -> None:
            device.drop_cache()

    found = read_back.ReadBack("b", device, Watched(), ahead, wanted=True, keep=keep)  # type: ignore[arg-type]
    for number in range(parts):
        device.pwrite(number * len(data), data)
        runs = [(number * len(data), memoryview(data))]
        found.wrote([read_back.Written(runs, hashlib.sha256(data).digest())], len(data))
    assert last.wait(WAIT_S)
    found.close()


@settings(max_examples=200)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(1, 3), st.data())
def test_one_wrong_byte_is_found_wherever_it_is(sizes: list[int], steps: int, data: st.DataObject) -> None:
    """Runs of any length, next to each other or not, some to a step; read back in pieces that cut them anywhere."""
    at, runs = 0, []
    for size in sizes:
        at += data.draw(st.sampled_from([0, 0, 7, 40_000]))
        runs.append((at, memoryview(data.draw(st.binary(min_size=size, max_size=size)))))
        at += size
    made = [read_back.Written(runs[first : first + steps], b"") for first in range(0, len(runs), steps)]
    wrong = data.draw(st.none() | st.tuples(st.integers(0, len(runs) - 1), st.integers(0, 4999)))
    for keep in (False, True):
        device = Medium().slot("b", at)
        for place, view in runs:
            device.pwrite(place, view)
        found = read_back.ReadBack("b", device, device, in_line, wanted=True, keep=keep)
        found.wrote(made, at)
        if wrong is None:
            assert list(found.rest())[-1] == found.bytes_written == sum(sizes)
            continue
        place, view = runs[wrong[0]]
        hit = place + wrong[1] % len(view)
        device.pwrite(hit, bytes([device.pread(hit, 1)[0] ^ 1]))
        step = made[wrong[0] // steps].runs
        with pytest.raises(SlotError, match="read_back_differs") as caught:
            list(found.rest())
        assert step[0][0] <= caught.value.facts["at"] <= hit


def test_never_more_than_a_few_items_are_made_ahead() -> None:
    made = []

    def items() -> Generator[int, None, None]:
        for number in range(50):
            made.append(number)
            yield number

    for item in ahead(items()):
        assert len(made) <= item + 3


def test_who_only_reads_does_not_run_far_ahead_either() -> None:
    """It would take the disk from those that make what is to be written."""
    made, size = [], 1 << 19

    def items() -> Generator[writer.Item, None, None]:
        for number in range(100):
            made.append(number)
            yield writer.Item(size, 0, [])

    for number, _ in enumerate(ahead(items(), writer._weight)):
        assert len(made) <= number + 2 + AHEAD_BYTES * writer.WEIGHT_SHARE // size


def test_what_several_threads_ask_for_is_made_once_and_again_only_after_trouble() -> None:
    both, made = threading.Barrier(2), list[int]()

    def make() -> int:
        made.append(len(made))
        if len(made) == 1:
            raise OSError(5, "Input/output error")
        return len(made)

    found = once(make)
    with pytest.raises(OSError, match="Input/output"):
        found()

    def asks() -> Generator[int, None, None]:
        yield 0
        both.wait(WAIT_S)  # both threads are there
        yield found()

    assert list(by_turns([ahead(asks(), lambda _: 0), ahead(asks(), lambda _: 0)])) == [0, 0, 2, 2] and made == [0, 1]


def test_a_real_file_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "slot.img"
    path.write_bytes(b"\xee" * (1 << 17))

    @dataclass(slots=True)
    class OnDisk(Terminal):
        def open_slot(self, slot: str) -> BlockDevice:
            return LinuxBlockDevice(str(path))

    terminal = OnDisk(threads=True)
    list(terminal.write())
    assert path.read_bytes() == terminal.image.ljust(1 << 17, b"\xee")
