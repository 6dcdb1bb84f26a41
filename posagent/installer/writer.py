"""Writes an image into the spare slot so that it is there for certain: verified, flushed, read back, resumable.

Rules: the slot is out of service before its first byte changes. What an operation makes is verified before it is
written. Blocks that are there already are not written again, unless samples have none of them (installer.spare); those
that are written are read back from the medium before the slot counts as complete, the others were read from it. Nothing
is remembered between two attempts: what is in the slot already is found by its digest. A helper thread reads, makes and
verifies ahead of the main one, which writes; where all operations are small two do, and a third one the zeros. Another
reads back. The order of writes depends on none of them. Memory: one operation that is made, and one that was; or
AHEAD_BYTES of small ones for each thread, and what was written of them until it is read back. A few blocks that differ
are copied, because a view of them would keep all that was made with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from posagent.core.errors import SlotError
from posagent.core.ports import BlockDevice, Medium, Message
from posagent.installer.ahead import Items, ahead, by_turns, in_line
from posagent.installer.operations import READ_BYTES, Places
from posagent.installer.read_back import ReadBack, Written
from posagent.installer.slots import SlotRecord, Slots
from posagent.installer.spare import Run, Spare
from posagent.installer.work import Step, Work

ITEM_BYTES = READ_BYTES
"""Small steps are handed on so many bytes together: two threads that meet too often wait."""
MAKERS_MAX = 2
"""Threads that make small ones at the same time, beside the one for zeros."""
COPIED_SHARE_MAX = 4
"""Blocks are copied where they are at most one in so many of what was made."""
WEIGHT_SHARE = 4
"""What keeps no memory weighs one in so many of its bytes: a thread that only reads would run far ahead, and take the
disk from those that make what is to be written."""


class Item(NamedTuple):
    """Some steps: how many bytes of the image they are about, how many of memory they keep, and what is to be written
    of each step that lacks something."""

    size: int
    kept: int
    made: list[Written]


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

    Yields `{"progress": {"bytes_done", "bytes_total", "step": "write" | "read_back"}}` after some operations; the last
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
        apart = ahead if threads else in_line
        with ExitStack() as at_work:
            slots.begin_write(slot, record)
            device.drop_cache()  # what an earlier attempt wrote is compared with what the medium has of it
            done, total = 0, manifest.image_size
            yield _progress("write", done, total)
            parts = work.parts(partial=partial, most=MAKERS_MAX, turn_bytes=ITEM_BYTES)
            keep = len(parts) > 1  # then all are small, and there is memory to spare
            back = ReadBack(slot, device, work.spare, apart, wanted=not partial, keep=keep)
            at_work.callback(back.close)
            makers = []
            for steps in parts:
                makers.append(apart(_items(steps, work.spare), _weight))
                at_work.callback(makers[-1].close)
            for size, kept, made in by_turns(makers):
                _put(made, device)
                back.wrote(made, kept)
                del made  # or its bytes would live on while the next are awaited
                done = min(done + size, total)  # where the full payload fills in, some is made twice
                yield _progress("write", done, total)
            device.flush()
            for found in back.rest() if not partial else ():
                # one scale for both passes: attempts count from the furthest point that was ever reached
                yield _progress("read_back", total * found // back.bytes_written, total)
    except OSError as error:
        raise SlotError("slot_io", f"slot {slot}: {error.strerror or error}") from error
    if not partial:
        slots.complete(slot)
    yield {"result": {"bytes_written": back.bytes_written}}


def _put(made: list[Written], device: BlockDevice) -> None:
    for at, parts in _adjacent(run for one in made for run in one.runs):
        device.pwrite(at, *parts)


def _items(steps: Iterator[Step], spare: Medium) -> Items[Item]:
    there = Spare(spare)
    size, kept, made = 0, 0, list[Written]()
    for step in steps:
        length = _length(step.places)
        runs = list(there.lacks(step)) if step.wanted else []
        differing = sum(len(data) for _, data in runs)
        if few := differing * COPIED_SHARE_MAX <= length:
            runs = [(at, bytes(data)) for at, data in runs]
        if runs:
            made.append(Written(runs, step.sha256 if differing == length else b""))
        size, kept = size + length, kept + (differing if few else length)
        del step, runs  # or its bytes would live on while the next are made
        if size >= ITEM_BYTES:
            item = Item(size, kept, made)
            size, kept, made = 0, 0, []
            yield item
            del item
    if size:
        yield Item(size, kept, made)


def _weight(item: Item) -> int:
    return max(item.kept, item.size // WEIGHT_SHARE)


def _adjacent(runs: Iterable[Run]) -> Iterator[tuple[int, list[memoryview | bytes]]]:
    """Those that lie one behind the other, together."""
    start, end, parts = 0, 0, list[memoryview | bytes]()
    for at, data in runs:
        if parts and at != end:
            yield start, parts
            parts = []
        if not parts:
            start = at
        parts.append(data)
        end = at + len(data)
    if parts:
        yield start, parts


def _length(places: Places) -> int:
    return sum(length for _, length in places)


def _progress(step: str, bytes_done: int, bytes_total: int) -> Message:
    return {"progress": {"bytes_done": bytes_done, "bytes_total": bytes_total, "step": step}}
