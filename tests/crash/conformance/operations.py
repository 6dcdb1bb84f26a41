"""One vocabulary for both sides: an operation that changes storage, in the words of the port, and where it happens.

Owns: what is left out of a comparison, and why:
* ids of updates and downloads (random, or of the source's name) are `ID`;
* lengths of records that contain such an id, a time or the source's name are `?`; all other lengths stay, such as those
  of slot frames and of the pieces of a download;
* a write to the journal is named by its block, the event in the record and the state that it led to:
  `write /data/agent/journal 2 accepted>ready`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from posagent.agent.journal import BLOCK_BYTES
from posagent.core.ports import BootState

PLACES = ("agent", "installer", "spool", "slot a", "slot b", "environment")
"""Where things are kept. The first three are directories of one data partition, each written by one process."""
JOURNAL = "/data/agent/journal"
ID_LENGTHS = ("journal", "slots.json", "reset.json", "ID.json")
"""Files whose records contain an id, a time or the source's name."""
_FLUSHES = frozenset({"sync", "sync_dir", "flush", "make_dir", "env sync"})
_ID = re.compile(r"/data/spool/[0-9a-f]{16}\b")


@dataclass(frozen=True, slots=True)
class Operation:
    """`text` in the port's words. It happened between `begin` and `end` (lines of a trace; on the model both are its
    number). `who` is the process, empty on the model; `direct` tells that it went past the page cache."""

    text: str
    begin: int
    end: int
    who: str = ""
    direct: bool = False

    @property
    def place(self) -> str:
        words = self.text.split()
        if words[0] == "env":
            return "environment"
        if not words[1].startswith("/"):
            return f"slot {words[1]}"
        folder = words[1].split("/")[2:3]
        return folder[0] if folder and folder[0] in PLACES else "agent"

    @property
    def kind(self) -> str:
        words = self.text.split()
        return " ".join(words[:2]) if words[0] == "env" else words[0]

    @property
    def flush(self) -> bool:
        """Whether it makes something durable."""
        return self.kind in _FLUSHES


def file_write(path: str, offset: int, length: int, data: bytes) -> str:
    """A write into a file of the data partition; `data` is at least its beginning."""
    path = named(path)
    if path == JOURNAL:
        assert offset % BLOCK_BYTES == 0, f"a record begins at byte {offset}"
        return f"write {path} {offset // BLOCK_BYTES} {event(data)}"
    known = not path.removesuffix(".new").endswith(ID_LENGTHS)
    return f"write {path} {offset}+{length if known else '?'}"


def named(path: str) -> str:
    """The path with an id for what differs from update to update."""
    return _ID.sub("/data/spool/ID", path)


def event(data: bytes) -> str:
    """What a journal record says has happened, and which state that led to."""
    if not data:
        return "nothing"
    found = re.search(rb'"event":"(\w+)","state":"(\w+)"', data)
    assert found is not None, f"no journal record: {data!r}"
    return f"{found[1].decode()}>{found[2].decode()}"


def environment_write(place: int, state: BootState) -> str:
    tries = json.dumps(dict(sorted(state.tries.items())))
    return f"env write {place} {' '.join(state.order)} {tries}"
