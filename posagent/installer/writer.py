"""Writes an image into the spare slot so that it is there for certain: verified, flushed, read back, resumable.

Rules: the slot is out of service before its first byte changes. What an operation makes is verified before it is
written. Blocks that are there already are not written again, unless a sample of the operation's has none; those that
are written are read back from the medium before the slot counts as complete, the others were read from it. Nothing is
remembered between two attempts: what is in the slot already is found by its digest. One helper thread reads, makes and
verifies (or reads back) ahead of the main one, which writes (or verifies): both release the interpreter lock. Memory:
one operation that is made, and one that was or AHEAD_BYTES of small ones. A few blocks that differ are copied, because
a view of them would keep all that was made with them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Any, TypeVar

from posagent.core.errors import SlotError
from posagent.core.payload import BLOCK_BYTES
from posagent.core.ports import BlockDevice, ByteSource, Medium, Message
from posagent.installer.operations import Bytes, gathered
from posagent.installer.slots import SlotRecord, Slots
from posagent.installer.work import Step, Work

AHEAD_BYTES = 1 << 20
SAMPLE_BYTES = 16 * BLOCK_BYTES
"""Of so many bytes one block tells whether it is worth to look at the others: reading is not free."""
SAMPLES_MIN = 8
"""Fewer tell nothing."""
SAMPLED_SHARE_MAX = 4
"""Where extents are so small that one block in so many would be looked at, all are read."""
T = TypeVar("T")
Items = Generator[T, None, None]
COPIED_SHARE_MAX = 4
"""Blocks are copied where they are at most one in so many of what was made."""
Run = tuple[int, memoryview | bytes]
"""Bytes to be written at an offset of the slot."""
Item = tuple[int, list[Run], bytes]
"""Of a step: how many bytes of the image it is about, the runs of blocks to be written, and their digest if known."""


def write(
    *,
    slots: Slots,
    slot: str,
    device: BlockDevice,
    work: Work,
    update_id: str,
    partial: bool = False,
    threads: bool = True,
) -> Iterator[Message]:
    """Do the `work` on `slot`, opened as `device`; the work reads it by an opening of its own. A `partial` one
    does what it can with what was fetched: it leaves the slot out of service, and is not read back, because whoever
    goes on looks at every block again.

    Yields `{"progress": {"bytes_done", "bytes_total", "step": "write" | "read_back"}}` after each operation; the last
    message is `{"result": {"bytes_written"}}`. May be closed between any two. Raises SlotError, BundleError,
    BootControlError.
    """
    manifest = work.manifest
    try:
        if device.size < manifest.image_size:
            raise SlotError("slot_too_small", f"slot {slot} has {device.size} bytes, needs {manifest.image_size}")
        record = SlotRecord(
            version=manifest.version,
            digest=manifest.image_sha256,
            size=manifest.image_size,
            counter=manifest.security_counter,
            update_id=update_id,
            approved=manifest.approved,
        )
        job = _Job(slot, device, work.spare, manifest.image_size, ahead if threads else in_line)
        slots.begin_write(slot, record)
        yield from job.write(work.steps(partial=partial))
        if not partial:
            yield from job.read_back()
    except OSError as error:
        raise SlotError("slot_io", f"slot {slot}: {error.strerror or error}") from error
    if not partial:
        slots.complete(slot)
    yield {"result": {"bytes_written": job.bytes_written}}


class _Job:
    """One slot being written; `ahead` makes items ready while the main thread works."""

    def __init__(
        self,
        slot: str,
        device: BlockDevice,
        spare: Medium,
        image_size: int,
        ahead: Callable[[Items[Any], Callable[[Any], int]], Items[Any]],
    ) -> None:
        self._slot, self._device, self._spare = slot, device, spare
        self._image_size = image_size
        self._ahead = ahead
        self._written: list[tuple[list[tuple[int, int]], bytes]] = []
        self.bytes_written = 0

    def write(self, steps: Iterator[Step]) -> Iterator[Message]:
        """Every block that differs, durable at the end."""
        done = 0
        self._device.drop_cache()  # what an earlier attempt wrote is compared with what the medium has of it
        yield _progress("write", done, self._image_size)
        with closing(self._ahead(_runs(steps, self._spare), _weight)) as items:
            for size, runs, digest in items:
                for at, data in runs:
                    self._device.pwrite(at, data)
                if runs:
                    places = [(at, len(data)) for at, data in runs]
                    self._written.append((places, digest or _digest(data for _, data in runs)))
                    self.bytes_written += sum(length for _, length in places)
                done = min(done + size, self._image_size)  # where the full payload fills in, some is made twice
                del runs
                yield _progress("write", done, self._image_size)
        self._device.flush()

    def read_back(self) -> Iterator[Message]:
        """Compare everything that was written with what is on the medium."""
        self._device.drop_cache()
        self._spare.drop_cache()
        done = 0
        digests = (_digest([gathered(self._spare, places)]) for places, _ in self._written)
        with closing(self._ahead(digests, len)) as found:
            for (places, digest), there in zip(self._written, found, strict=True):
                if there != digest:
                    at = places[0][0]
                    raise SlotError("read_back_differs", f"slot {self._slot} at byte {at}", at=at)
                done += sum(length for _, length in places)
                # one scale for both passes: attempts count from the furthest point that was ever reached
                yield _progress("read_back", self._image_size * done // self.bytes_written, self._image_size)


def _runs(steps: Iterator[Step], spare: ByteSource) -> Items[Item]:
    for step in steps:
        size, runs = sum(length for _, length in step.places), list(_to_write(step, spare)) if step.wanted else []
        differing = sum(len(data) for _, data in runs)
        if differing * COPIED_SHARE_MAX <= size:
            runs = [(at, bytes(data)) for at, data in runs]
        item = size, runs, step.sha256 if differing == size else b""
        del step, runs  # or its bytes would live on while the next are made
        yield item
        del item


def _to_write(step: Step, spare: ByteSource) -> Iterator[Run]:
    wanted, begin = memoryview(step.wanted), 0
    there = gathered(spare, step.places) if _sample(step, spare) else None
    if there == step.wanted:
        return
    for at, length in step.places:
        if there is None:
            yield at, wanted[begin : begin + length]
        else:
            for start, end in _differing(there, step.wanted, begin, begin + length):
                yield at + start - begin, wanted[start:end]
        begin += length


def _sample(step: Step, spare: ByteSource) -> bool:
    """Whether any of some blocks, at least one of each extent, is there already; or may be."""
    samples, begin = [], 0
    for at, length in step.places:
        for offset in range(0, length, SAMPLE_BYTES):
            samples.append((at + offset, begin + offset, min(BLOCK_BYTES, length - offset)))
        begin += length
    if len(samples) < SAMPLES_MIN or len(samples) * BLOCK_BYTES * SAMPLED_SHARE_MAX > begin:
        return True
    middle = len(samples) // 2  # the ends and the middle first: mostly they tell
    return any(
        spare.pread(at, size) == step.wanted[place : place + size]
        for at, place, size in (samples[0], samples[-1], samples[middle], *samples[1:middle], *samples[middle + 1 : -1])
    )


def _differing(there: Bytes, wanted: Bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the runs of blocks from `begin` to `end` that are not the same."""
    start: int | None = None
    for place in range(begin, end, BLOCK_BYTES):  # slices of bytes: views compare much slower
        stop = min(place + BLOCK_BYTES, end)
        same = there[place:stop] == wanted[place:stop]
        if same and start is not None:
            yield start, place
            start = None
        elif not same and start is None:
            start = place
    if start is not None:
        yield start, end


def _weight(item: Item) -> int:
    """Bytes of memory that the item keeps."""
    size, runs, _ = item
    differing = sum(len(data) for _, data in runs)
    return differing if differing * COPIED_SHARE_MAX <= size else size


def _digest(parts: Iterable[Bytes | memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _progress(step: str, bytes_done: int, bytes_total: int) -> Message:
    return {"progress": {"bytes_done": bytes_done, "bytes_total": bytes_total, "step": step}}


def in_line(items: Items[T], weigh: Callable[[T], int] = lambda _: 0) -> Items[T]:
    """The items, made when they are asked for."""
    return items


def ahead(items: Items[T], weigh: Callable[[T], int] = lambda _: AHEAD_BYTES) -> Items[T]:
    """The items, made by a helper thread while the last ones are in use; closing it ends the thread.

    What `items` raises is raised here, in its turn. The thread stops before more is waiting than AHEAD_BYTES; one item
    may be larger.
    """
    made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    room = threading.Condition()
    waiting = 0
    stopped = False

    def may_go_on() -> bool:
        return stopped or waiting < AHEAD_BYTES

    def work() -> None:
        nonlocal waiting
        try:
            for item in items:
                with room:
                    waiting += weigh(item)
                    made.put((item, None))
                    del item  # or it would live on while the next is made
                    room.wait_for(may_go_on)
                if stopped:
                    return
            made.put((None, StopIteration()))
        except BaseException as error:  # it belongs to the thread that asked
            made.put((None, error))

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            with room:
                waiting -= weigh(item)
                room.notify()
            yield item
    finally:
        with room:
            stopped = True
            room.notify()
        thread.join()
