"""A data partition in memory that can lose its power: names and contents are durable only once synced."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Literal


class PowerCut(Exception):
    """The power went away before an operation."""


@dataclass(slots=True)
class Node:
    data: bytes = b""
    synced: bytes = b""


Fate = Literal["least", "most", "torn"]
"""What a cut leaves: what was synced; everything; or the newest names with the synced contents."""


@dataclass(slots=True)
class Partition:
    """core.ports.Files. `cut_at` is the number of the changing operation before which the power goes."""

    names_now: dict[str, Node] = field(default_factory=dict)
    names_synced: dict[str, Node] = field(default_factory=dict)
    operations: int = 0
    cut_at: int | None = None
    full: bool = False

    def _change(self) -> None:
        if self.operations == self.cut_at:
            raise PowerCut
        self.operations += 1

    def after_cut(self, fate: Fate) -> Partition:
        """The partition as the next start finds it."""
        names = self.names_synced if fate == "least" else self.names_now
        nodes = {n: node.data if fate == "most" else node.synced for n, node in names.items()}
        return Partition({n: Node(d, d) for n, d in nodes.items()}, {n: Node(d, d) for n, d in nodes.items()})

    def size(self, path: str) -> int | None:
        return len(self.names_now[path].data) if path in self.names_now else None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self.names_now[path].data
        return data[offset:] if length is None else data[offset : offset + length]

    def write(self, path: str, offset: int, data: bytes) -> None:
        self._change()
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        node = self.names_now.setdefault(path, Node())
        node.data = node.data[:offset].ljust(offset, b"\0") + data + node.data[offset + len(data) :]

    def truncate(self, path: str, size: int) -> None:
        self._change()
        self.names_now[path].data = self.names_now[path].data[:size].ljust(size, b"\0")

    def sync(self, path: str) -> None:
        self._change()
        self.names_now[path].synced = self.names_now[path].data

    def rename(self, source: str, target: str) -> None:
        self._change()
        self.names_now[target] = self.names_now.pop(source)

    def unlink(self, path: str) -> None:
        if path in self.names_now:
            self._change()
            del self.names_now[path]

    def sync_dir(self, path: str) -> None:
        self._change()
        inside = {n for n in (*self.names_now, *self.names_synced) if n.rpartition("/")[0] == path}
        for name in inside:
            if name in self.names_now:
                self.names_synced[name] = self.names_now[name]
            else:
                del self.names_synced[name]

    def names(self, path: str) -> list[str]:
        return sorted(n.rpartition("/")[2] for n in self.names_now if n.rpartition("/")[0] == path)

    def make_dir(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int:
        return 1 << 30


@dataclass(slots=True)
class Bytes:
    """core.ports.ByteSource over bytes."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def pread(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def pread_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.pread(offset, len(view))

    def drop_cache(self) -> None:
        """There is none."""


@dataclass(slots=True)
class WallClock:
    """core.ports.Clock that a test sets."""

    wall_s: float

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return 0.0
