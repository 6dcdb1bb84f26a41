"""Writing a slot: verified before and after, resumable anywhere, and never more than the medium really holds."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from backports import zstd

from posagent.core.errors import PosagentError
from posagent.core.manifest import Manifest
from posagent.core.payload import ZERO, ZSTD, Frame, Header
from posagent.core.ports import BlockDevice, Message
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.installer.operations import materialise
from posagent.installer.slots import Slots
from posagent.installer.writer import ahead, write
from posagent.platform.blockdev import LinuxBlockDevice
from tests.installer.store import Bytes

FRAME = 8192
DIR = "/data/installer"


def image_bytes(frames: int = 6, seed: int = 1) -> bytes:
    """Text, zeros and noise; the last frame is short and does not end on a block."""
    dice = random.Random(seed)
    parts = [dice.randbytes(16) * (FRAME // 16), bytes(FRAME), dice.randbytes(FRAME)]
    return b"".join(itertools.islice(itertools.cycle(parts), frames)) + b"the end"


def payload_of(image: bytes) -> tuple[bytes, Header]:
    """Stored frames (with 10 bytes before them, where a header would be) and the header."""
    data, frames = bytearray(b"x" * 10), []
    for at in range(0, len(image), FRAME):
        raw = image[at : at + FRAME]
        stored = b"" if not any(raw) else zstd.compress(raw, 1)
        frames.append(
            Frame(
                at=at,
                size=len(raw),
                offset=len(data),
                length=len(stored),
                kind=ZSTD if stored else ZERO,
                sha256=hashlib.sha256(raw).hexdigest(),
            )
        )
        data += stored
    return bytes(data), Header(image_size=len(image), frames=tuple(frames))


@dataclass(slots=True)
class Terminal:
    """One terminal's medium and a payload for it."""

    image: bytes = field(default_factory=image_bytes)
    medium: Medium = field(default_factory=Medium)
    slot_size: int = 1 << 17
    threads: bool = False

    def __post_init__(self) -> None:
        data, self.header = payload_of(self.image)
        self.source = Bytes(data)
        self.medium.slot("b", self.slot_size).pwrite(0, b"\xee" * self.slot_size)
        self.medium.slot("b").flush()

    header: Header = field(init=False)
    source: Bytes = field(init=False)

    @property
    def slots(self) -> Slots:
        return Slots(self.medium.files, DIR, self.medium.boot, tries_full=3)

    def write(self, slot: str = "b") -> Iterator[Message]:
        manifest = Manifest(
            target="system.payload",
            length=self.source.size,
            sha256="0" * 64,
            version="2.0.0",
            security_counter=1,
            hw_ids=("sim-pos",),
            min_hw_rev=0,
            component="system",
            header_sha256=hashlib.sha256(repr(self.header).encode()).hexdigest(),
            image_size=len(self.image),
            image_sha256=hashlib.sha256(self.image).hexdigest(),
        )
        return write(
            slots=self.slots,
            slot=slot,
            open_slot=self.open_slot,
            source=self.source,
            header=self.header,
            manifest=manifest,
            update_id="u",
            checkpoint_bytes=2 * FRAME,
            threads=self.threads,
        )

    def open_slot(self, slot: str) -> BlockDevice:
        return self.medium.slot(slot)

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


@pytest.fixture(params=[False, True], ids=["in line", "with a thread"])
def terminal(request: pytest.FixtureRequest) -> Terminal:
    return Terminal(threads=request.param)


def test_the_image_is_in_the_slot_zeros_included(terminal: Terminal) -> None:
    assert list(terminal.write())[-1] == {"result": {}}
    terminal.assert_written()


def test_progress_is_told_with_every_frame_of_both_passes(terminal: Terminal) -> None:
    told = [message["progress"] for message in terminal.write() if "progress" in message]
    total = len(terminal.image)
    ends = [frame.at + frame.size for frame in terminal.header.frames]
    assert [(one["step"], one["bytes_done"]) for one in told] == [
        ("write", 0),
        *(("write", end) for end in ends),
        *(("read_back", end) for end in ends),
    ]
    assert {one["bytes_total"] for one in told} == {total}


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


@pytest.mark.parametrize(
    ("error", "code"),
    [(FileNotFoundError(2, "No such file", "/dev/b"), "slot_missing"), (OSError(16, "Device busy"), "slot_io")],
)
def test_a_slot_that_cannot_be_opened_is_refused_untouched(error: OSError, code: str) -> None:
    class Closed(Terminal):
        def open_slot(self, slot: str) -> BlockDevice:
            raise error

    terminal = Closed()
    done = len(terminal.medium.done)
    assert terminal.refusal() == code
    assert len(terminal.medium.done) == done


# payloads that lie


def flip(terminal: Terminal, frame: Frame, at: int) -> None:
    data = bytearray(terminal.source.data)
    data[frame.offset + at] ^= 0x01
    terminal.source = Bytes(bytes(data))


def test_a_flipped_bit_anywhere_in_a_frame_never_reaches_the_slot(terminal: Terminal) -> None:
    frame = terminal.header.frames[2]
    for at in (0, 5, frame.length // 2, frame.length - 1):
        flip(terminal, frame, at)
        assert terminal.refusal() == "payload_corrupt"
        assert terminal.state == "writing"
        assert terminal.medium.slot("b").pread(frame.at, FRAME) == b"\xee" * FRAME
        flip(terminal, frame, at)
    list(terminal.write())
    terminal.assert_written()


def test_a_payload_that_is_cut_short_is_refused(terminal: Terminal) -> None:
    terminal.source = Bytes(terminal.source.data[:-1])
    assert terminal.refusal() == "payload_corrupt"


def test_a_payload_that_cannot_be_read_is_the_spools_trouble(terminal: Terminal) -> None:
    class Broken(Bytes):
        def pread(self, offset: int, length: int) -> bytes:
            raise OSError(5, "Input/output error")

    terminal.source = Broken(terminal.source.data)
    assert terminal.refusal() == "spool_io"


def frame_of(stored: bytes, raw: bytes, **changes: object) -> Frame:
    values = {"at": 0, "size": len(raw), "offset": 0, "length": len(stored), "kind": ZSTD}
    return Frame(**{**values, "sha256": hashlib.sha256(raw).hexdigest(), **changes})  # type: ignore[arg-type]


def test_a_frame_that_would_grow_beyond_its_signed_size_is_stopped() -> None:
    bomb = zstd.compress(bytes(1 << 28), 1)
    assert len(bomb) < 1 << 16
    with pytest.raises(PosagentError, match="signed size"):
        materialise(Bytes(bomb), frame_of(bomb, bytes(FRAME)))


def test_a_frame_with_too_large_a_window_is_refused_before_it_takes_memory() -> None:
    options = {int(zstd.CompressionParameter.window_log): 24, int(zstd.CompressionParameter.content_size_flag): 0}
    compressor = zstd.ZstdCompressor(options=options)
    raw = random.Random(1).randbytes(1 << 20)
    stored = compressor.compress(raw) + compressor.flush()
    with pytest.raises(PosagentError, match="payload_corrupt"):
        materialise(Bytes(stored), frame_of(stored, raw))


@pytest.mark.parametrize("change", ["trailing bytes", "two frames", "too small", "not zstd", "zeros that are not"])
def test_a_frame_that_is_not_exactly_what_was_signed_is_refused(change: str) -> None:
    raw = b"hello" * 1000
    stored = zstd.compress(raw)
    bad, frame = {
        "trailing bytes": (stored + b"x", frame_of(stored + b"x", raw)),
        "two frames": (stored + stored, frame_of(stored + stored, raw + raw)),
        "too small": (stored, frame_of(stored, raw, size=len(raw) + 1)),
        "not zstd": (raw, frame_of(raw, raw)),
        "zeros that are not": (b"", frame_of(b"", raw, kind=ZERO)),
    }[change]
    with pytest.raises(PosagentError, match="payload_corrupt"):
        materialise(Bytes(bad), frame)


# slots that lie


def test_flash_that_stores_something_else_is_found_by_reading_back(terminal: Terminal) -> None:
    device = terminal.medium.slot("b")
    device.worn = {FRAME + 7}
    assert terminal.refusal() == "read_back_differs"
    assert (terminal.state, terminal.slots.records()["b"].frames_done) == ("writing", 0)
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
    assert terminal.refusal() == "read_back_differs"
    list(terminal.write())
    terminal.assert_written()


# stopping and going on


def test_writing_the_same_again_only_reads_back(terminal: Terminal) -> None:
    list(terminal.write())
    before = len(terminal.pwrites)
    list(terminal.write())
    assert len(terminal.pwrites) == before
    terminal.assert_written()


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("messages", range(15))
def test_a_write_that_is_given_up_between_any_two_messages_goes_on_later(threads: bool, messages: int) -> None:
    terminal, others = Terminal(threads=threads), set(threading.enumerate())
    job = terminal.write()
    list(itertools.islice(job, messages))
    job.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= others
    assert terminal.state == ("writing" if messages else "bad")
    list(terminal.write())
    terminal.assert_written()
    assert len(terminal.pwrites) <= len(terminal.header.frames) + 2


@pytest.mark.parametrize(
    "lost",
    [ALL, ALL - {"slot"}, ALL - {"names"}, frozenset[str]()],
    ids=lambda lost: "+".join(sorted(lost)) or "nothing",
)
def test_a_power_cut_before_any_operation_leaves_slot_a_and_at_most_a_checkpoint_to_write_again(
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
        assert len(terminal.pwrites) <= len(terminal.header.frames) + 2
    assert cut > 20


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


def test_never_more_than_a_few_items_are_made_ahead() -> None:
    made = []

    def items() -> Generator[int, None, None]:
        for number in range(50):
            made.append(number)
            yield number

    for item in ahead(items()):
        assert len(made) <= item + 4


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
    assert dataclasses.asdict(terminal.slots.records()["b"])["frames_done"] == len(terminal.header.frames)
