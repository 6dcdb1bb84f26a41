"""Whether the running slot still is what was signed: all of it is read, as only root can, and its digest taken.

Rules: the medium is read, not what memory has of it. A slot that no update of ours has written has no signed digest to
be held against: that is said, not made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from posagent.core.errors import SlotError
from posagent.core.ports import Message
from posagent.installer import opening
from posagent.installer.opening import OpenedSlot
from posagent.installer.slots import SlotRecord

CHUNK_BYTES = 1 << 20


def prove(slot: str, record: SlotRecord, open_slot: Callable[[str], OpenedSlot]) -> Iterator[Message]:
    """Progress in bytes; result `{expected, found, approved}`: both digests empty where nothing signed is known of the
    slot. Raises SlotError."""
    if not record.digest:
        yield {"result": {"expected": "", "found": "", "approved": {}}}
        return
    found, done = hashlib.sha256(), 0
    with opening.slot(open_slot, slot) as device:
        try:
            device.drop_cache()
            while data := device.pread(done, min(CHUNK_BYTES, record.size - done)):
                found.update(data)
                done += len(data)
                yield {"progress": {"bytes_done": done, "bytes_total": record.size, "step": "prove"}}
        except OSError as error:
            raise SlotError("slot_io", f"slot {slot} at byte {done}: {error.strerror or error}") from error
    yield {"result": {"expected": record.digest, "found": found.hexdigest(), "approved": dict(record.approved)}}
