"""A storage medium that can lose its power: files, slots and boot environment of one simulated terminal in memory.

Owns: what survives a cut. Every operation that changes something is numbered; the power can be cut before any of them.
Then all that was not made durable is lost: content, size and name of a file each by itself, unflushed slot data.
Rules: stricter than hardware. A write to the booted slot, a boot environment that starts a slot whose data is not
flushed or leaves nothing to start, and a rename of a file that was not synced raise RuleBroken, because real media
forgive them most of the time.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from dataclasses import dataclass, field

from posagent.core.durable import parent
from posagent.core.errors import BootControlError
from posagent.core.ports import BootState

ALL = frozenset({"content", "size", "names", "slots"})
"""What a cut can take; see Medium.power_on."""


class PowerCut(BaseException):
    """The power went away. Not an Exception: no code under test may handle it."""


class RuleBroken(AssertionError):
    """The code under test relied on the medium's mercy."""


@dataclass(slots=True)
class _File:
    """One file's bytes, now and as they would be found after a cut."""

    now: bytearray = field(default_factory=bytearray)
    kept: bytes = b""
    synced: bool = False

    def lose(self, lost: Collection[str]) -> None:
        """Size and content part ways: a size that stayed without its content reads as zeros."""
        size = len(self.kept) if "size" in lost else len(self.now)
        content = self.kept if "content" in lost else bytes(self.now)
        self.kept = content[:size].ljust(size, b"\0")
        self.now, self.synced = bytearray(self.kept), True


class Medium:
    """One terminal's storage. `cut_at` is the number of the operation before which the power goes (first is 1)."""

    def __init__(self, *, booted: str = "a", cut_at: int | None = None) -> None:
        self.booted = booted
        self.cut_at = cut_at
        self.done: list[str] = []
        self.on = True
        self.files = MediumFiles(self)
        self.slots: dict[str, MediumSlot] = {}
        self.boot = MediumBoot(self)

    def slot(self, name: str, size: int = 0) -> MediumSlot:
        """The slot of that name, made with `size` bytes where there is none."""
        if name not in self.slots:
            self.slots[name] = MediumSlot(self, name, size)
        return self.slots[name]

    def step(self, what: str) -> None:
        """Called before each operation that changes something."""
        if self.on and self.cut_at == len(self.done) + 1:
            self.on = False
        self.need_power()
        self.done.append(what)

    def need_power(self) -> None:
        if not self.on:
            raise PowerCut(f"before operation {len(self.done) + 1}")

    def cut(self) -> None:
        """Cut the power now, between two operations."""
        self.on = False

    def power_on(self, lost: Collection[str] = ALL) -> None:
        """Power again: of what was not durable, `lost` is gone and the rest happens to have survived."""
        self.files.lose(lost)
        for slot in self.slots.values():
            slot.lose(lost)
        self.on, self.cut_at = True, None


class MediumFiles:
    """core.ports.Files on the medium."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._now: dict[str, _File] = {}
        self._kept: dict[str, _File] = {}
        self._dirs = {"/"}
        self.free = 1 << 30

    def lose(self, lost: Collection[str]) -> None:
        if "names" in lost:
            self._now = dict(self._kept)
        self._kept = dict(self._now)
        for file in self._now.values():
            file.lose(lost)

    def size(self, path: str) -> int | None:
        self._medium.need_power()
        return len(self._now[path].now) if path in self._now else None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self._medium.need_power()
        end = None if length is None else offset + length
        return bytes(self._file(path).now[offset:end])

    def write(self, path: str, offset: int, data: bytes) -> None:
        if parent(path) not in self._dirs:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        self._medium.step(f"write {path}")
        file = self._now.setdefault(path, _File())
        file.now.extend(bytes(max(0, offset - len(file.now))))
        file.now[offset : offset + len(data)] = data
        file.synced = False

    def truncate(self, path: str, size: int) -> None:
        file = self._file(path)
        self._medium.step(f"truncate {path}")
        file.now = bytearray(bytes(file.now[:size]).ljust(size, b"\0"))
        file.synced = False

    def sync(self, path: str) -> None:
        file = self._file(path)
        self._medium.step(f"sync {path}")
        file.kept, file.synced = bytes(file.now), True

    def rename(self, source: str, target: str) -> None:
        file = self._file(source)
        self._medium.step(f"rename {source} {target}")
        if not file.synced:
            raise RuleBroken(f"rename of {source}, which was not synced")
        self._now[target] = self._now.pop(source)

    def unlink(self, path: str) -> None:
        if path in self._now:
            self._medium.step(f"unlink {path}")
            del self._now[path]

    def sync_dir(self, path: str) -> None:
        if path not in self._dirs:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        self._medium.step(f"sync_dir {path}")
        elsewhere = {name: file for name, file in self._kept.items() if parent(name) != path}
        self._kept = elsewhere | {name: file for name, file in self._now.items() if parent(name) == path}

    def names(self, path: str) -> list[str]:
        self._medium.need_power()
        paths = [*self._now, *(self._dirs - {"/"})]
        return sorted(name.rpartition("/")[2] for name in paths if parent(name) == path)

    def make_dir(self, path: str) -> None:
        if path not in self._dirs:
            self.make_dir(parent(path))
            self._medium.step(f"make_dir {path}")
            self._dirs.add(path)

    def free_bytes(self, path: str) -> int:
        return self.free

    def _file(self, path: str) -> _File:
        self._medium.need_power()
        if path not in self._now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self._now[path]


class MediumSlot:
    """core.ports.BlockDevice on the medium. Bytes at the places in `worn` are stored wrong; only a read after
    `drop_cache` shows it. `broken` makes writes fail like worn-out flash."""

    def __init__(self, medium: Medium, name: str, size: int) -> None:
        self._medium = medium
        self._name = name
        self._now = bytearray(size)
        self._kept = bytes(size)
        self.flushed = True
        self.worn: set[int] = set()
        self.broken = False

    @property
    def size(self) -> int:
        return len(self._now)

    def lose(self, lost: Collection[str]) -> None:
        self._now = bytearray(self._kept if "slots" in lost else self._stored())
        self._kept, self.flushed = bytes(self._now), True

    def pread(self, offset: int, length: int) -> bytes:
        self._medium.need_power()
        return bytes(self._now[offset : offset + length])

    def pwrite(self, offset: int, data: bytes) -> None:
        self._medium.step(f"pwrite {self._name} {offset}+{len(data)}")
        if self._medium.booted == self._name:
            raise RuleBroken(f"write to the booted slot {self._name}")
        if self.broken:
            raise OSError(errno.EIO, "worn out")
        if offset < 0 or offset + len(data) > self.size:
            raise OSError(errno.ENOSPC, "write past the end of the slot")
        self._now[offset : offset + len(data)] = data
        self.flushed = False

    def flush(self) -> None:
        self._medium.step(f"flush {self._name}")
        self._kept, self.flushed = self._stored(), True

    def drop_cache(self) -> None:
        self.flush()
        self._now = bytearray(self._kept)

    def close(self) -> None:
        pass

    def _stored(self) -> bytes:
        stored = bytearray(self._now)
        for place in self.worn:
            stored[place] ^= 0xFF
        return bytes(stored)


class MediumBoot:
    """core.ports.BootControl on the medium; `missing` makes it fail like an environment without a valid copy."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._state = BootState(order=("a", "b"), tries={"a": 3, "b": 0})
        self.missing = False

    def booted(self) -> str:
        self._medium.need_power()
        return self._medium.booted

    def read(self) -> BootState:
        self._medium.need_power()
        if self.missing:
            raise BootControlError("boot_env_missing")
        return self._state

    def write(self, state: BootState) -> None:
        """As the agent writes: its rules are checked."""
        started = [name for name in state.order if state.tries.get(name, 0) > 0]
        if not started:
            raise RuleBroken("no slot is left to start")
        for name in started:
            if name in self._medium.slots and not self._medium.slots[name].flushed:
                raise RuleBroken(f"slot {name} would be started, but its data is not flushed")
        self.store(state)

    def store(self, state: BootState) -> None:
        """As the bootloader writes: it may count the last try down."""
        if self.missing:
            raise BootControlError("boot_env_missing")
        self._medium.step(f"boot {' '.join(state.order)} {dict(state.tries)}")
        self._state = BootState(order=tuple(state.order), tries={**self._state.tries, **state.tries})
