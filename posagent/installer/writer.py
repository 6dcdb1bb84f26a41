"""Writes an image into the spare slot so that it is there for certain: verified, flushed, read back, resumable.

Rules: the slot is out of service before its first byte changes. A frame is verified before it is written; all frames
are read back from the medium and verified again before the slot counts as complete. Progress is durable every
`checkpoint_bytes`, data first. One helper thread decompresses and verifies (or reads back) ahead of the main one,
which writes (or verifies): both release the interpreter lock. Memory: at most `AHEAD + 2` frames.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Any, TypeVar

from posagent.core.errors import SlotError
from posagent.core.manifest import Manifest
from posagent.core.payload import Header
from posagent.core.ports import BlockDevice, ByteSource, Message
from posagent.installer.operations import materialised
from posagent.installer.slots import SlotRecord, Slots

AHEAD = 2
T = TypeVar("T")
Items = Generator[T, None, None]


def write(
    *,
    slots: Slots,
    slot: str,
    open_slot: Callable[[str], BlockDevice],
    source: ByteSource,
    header: Header,
    manifest: Manifest,
    update_id: str,
    checkpoint_bytes: int,
    threads: bool = True,
) -> Iterator[Message]:
    """Write the payload in `source`, whose authentic `header` belongs to `manifest`, into `slot`.

    Yields `{"progress": {"bytes_done", "bytes_total", "step": "write" | "read_back"}}` after each frame; the last
    message is `{"result": {}}`. May be closed between any two. Raises SlotError, BundleError, BootControlError.
    """
    slots.target(slot)
    device = _opened(open_slot, slot)
    try:
        if device.size < header.image_size:
            raise SlotError("slot_too_small", f"slot {slot} has {device.size} bytes, needs {header.image_size}")
        record = SlotRecord(
            version=manifest.version,
            digest=manifest.image_sha256,
            size=header.image_size,
            counter=manifest.security_counter,
            update_id=update_id,
            header_sha256=manifest.header_sha256,
        )
        job = _Job(slots, slot, device, header, checkpoint_bytes, ahead if threads else in_line)
        yield from job.write(source, slots.begin_write(slot, record))
        yield from job.read_back()
    except OSError as error:
        raise SlotError("slot_io", f"slot {slot}: {error.strerror or error}") from error
    finally:
        device.close()
    slots.complete(slot)
    yield {"result": {}}


class _Job:
    """One write of one slot."""

    def __init__(
        self,
        slots: Slots,
        slot: str,
        device: BlockDevice,
        header: Header,
        checkpoint_bytes: int,
        ahead: Callable[[Items[bytes]], Items[bytes]],
    ) -> None:
        self._slots, self._slot, self._device = slots, slot, device
        self._header = header
        self._checkpoint_bytes = checkpoint_bytes
        self._ahead = ahead

    def write(self, source: ByteSource, done: int) -> Iterator[Message]:
        """All frames from number `done` on, durable at the end."""
        frames = self._header.frames[done:]
        yield self._progress("write", frames[0].at if frames else self._header.image_size)
        unsaved = 0
        with closing(self._ahead(materialised(source, frames))) as raws:
            for frame, raw in zip(frames, raws, strict=True):
                self._device.pwrite(frame.at, raw)
                done, unsaved = done + 1, unsaved + frame.size
                if unsaved >= self._checkpoint_bytes or done == len(self._header.frames):
                    self._device.flush()
                    self._slots.checkpoint(self._slot, done)
                    unsaved = 0
                yield self._progress("write", frame.at + frame.size)

    def read_back(self) -> Iterator[Message]:
        """Compare every frame on the medium with its digest."""
        self._device.drop_cache()
        frames = self._header.frames
        with closing(self._ahead(self._device.pread(frame.at, frame.size) for frame in frames)) as raws:
            for frame, raw in zip(frames, raws, strict=True):
                if hashlib.sha256(raw).hexdigest() != frame.sha256:
                    self._slots.checkpoint(self._slot, 0)
                    raise SlotError("read_back_differs", f"slot {self._slot} at byte {frame.at}", at=frame.at)
                yield self._progress("read_back", frame.at + frame.size)

    def _progress(self, step: str, bytes_done: int) -> Message:
        return {"progress": {"bytes_done": bytes_done, "bytes_total": self._header.image_size, "step": step}}


def _opened(open_slot: Callable[[str], BlockDevice], slot: str) -> BlockDevice:
    try:
        return open_slot(slot)
    except FileNotFoundError as error:
        raise SlotError("slot_missing", f"slot {slot}: {error.filename} does not exist") from error
    except OSError as error:
        raise SlotError("slot_io", f"slot {slot}: {error.strerror or error}") from error


def in_line(items: Items[T]) -> Items[T]:
    """The items, made when they are asked for."""
    return items


def ahead(items: Items[T]) -> Items[T]:
    """The items, made by a helper thread while the last ones are in use; closing it ends the thread.

    What `items` raises is raised here, in its turn.
    """
    made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(AHEAD - 1)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                made.put((item, None))
                del item  # or it would live on while the next is made
                room.acquire()
                if stopped.is_set():
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
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        thread.join()
