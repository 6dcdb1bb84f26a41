"""core.ports.Files on a medium that loses power: names, sizes and blocks each have a fate of their own.

Rules: a rename is atomic, as POSIX and every journalling file system have it; what precedes it in the directory may be
lost only together with it unless the profile says `unordered`. One into another directory may leave both names, and
none where the directory it left is synced first. `make_dir` is durable, because the port says so.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Mapping
from typing import NamedTuple

from posagent.core.durable import parent
from posagent.crash.units import Supply, Unit

UNORDERED_MAX = 5


BULK_BLOCK_BYTES = 4096
BULK = (".part", ".bundle")
"""Bundles: their bytes are only ever seen through digests, so a few large blocks stand for all their sectors."""
NEVER_READ = (".new", ".reserve")
"""Temporary files, which are removed before they are written again, and reserves of space."""


class FileFates(NamedTuple):
    """One file at a cut: possible sizes, and for each block that is not surely empty its possible contents."""

    step: int
    sizes: tuple[int, ...]
    blocks: tuple[tuple[int, tuple[bytes, ...]], ...]


Listing = tuple[tuple[str, FileFates], ...]
"""One possible content of a directory."""


class _File:
    """An inode."""

    __slots__ = ("blocks", "frozen", "size", "step")

    def __init__(self, step: int, fates: FileFates | None = None) -> None:
        self.step = step
        self.size: Unit[int] = Unit((0,) if fates is None else fates.sizes)
        self.blocks: dict[int, Unit[bytes]] = {} if fates is None else {at: Unit(one) for at, one in fates.blocks}
        self.frozen = fates

    @property
    def flushed(self) -> bool:
        return self.size.flushed and all(block.flushed for block in self.blocks.values())


class _Directory:
    """Names of files: possible durable listings, and what was done to them since."""

    __slots__ = ("changes", "frozen", "left", "now", "sure")

    def __init__(self, sure: tuple[dict[str, _File], ...]) -> None:
        self.sure = sure
        self.left: list[tuple[_Directory, str]] = []
        """Names that files of this directory had in others, where they can only be gone when they are here."""
        self.now: dict[str, _File] | None = dict(sure[0]) if len(sure) == 1 else None
        self.changes: list[dict[str, _File | None]] = []
        self.frozen: tuple[Listing, ...] | None = None

    def settle(self) -> None:
        """What was done is durable."""
        assert self.now is not None
        self.sure, self.changes, self.frozen = (dict(self.now),), [], None
        for other, name in self.left:
            other.changes.append({name: None})
            other.frozen = None
        self.left = []

    def change(self, change: dict[str, _File | None]) -> None:
        assert self.now is not None
        self.frozen = None
        self.changes.append(change)
        _apply(self.now, change)

    def fates(self, unordered: bool) -> list[dict[str, _File]]:
        found: list[dict[str, _File]] = []
        for start in self.sure:
            for kept in _kept(self.changes, unordered):
                listing = dict(start)
                for change in kept:
                    _apply(listing, change)
                if listing not in found:
                    found.append(listing)
        return found


def _apply(listing: dict[str, _File], change: Mapping[str, _File | None]) -> None:
    for name, file in change.items():
        if file is None:
            listing.pop(name, None)
        else:
            listing[name] = file


def _kept(changes: list[dict[str, _File | None]], unordered: bool) -> list[tuple[dict[str, _File | None], ...]]:
    """Which of the changes may have reached the medium: fewest first."""
    prefixes = [tuple(changes[:count]) for count in range(len(changes) + 1)]
    if not unordered or len(changes) > UNORDERED_MAX:
        return prefixes
    subsets = [list(itertools.combinations(changes, count)) for count in range(len(changes) + 1)]
    return [subset for some in subsets for subset in some]


class MediumFiles:
    """core.ports.Files on the medium."""

    def __init__(self, medium: Supply) -> None:
        self._medium = medium
        self._dirs: dict[str, _Directory] = {"/": _Directory(({},))}
        self.free = 1 << 30
        self.shared = False
        """Whether bundles take room from each other."""
        self.failing: str | None = None
        """An operation such as "sync /x" that fails with EIO once; what it should have made durable is undetermined."""

    # what a cut leaves

    def fates(self) -> tuple[tuple[str, tuple[Listing, ...]], ...]:
        """Every directory with its possible listings."""
        return tuple((path, self._listings(self._dirs[path])) for path in sorted(self._dirs))

    def _listings(self, directory: _Directory) -> tuple[Listing, ...]:
        if directory.frozen is None:
            found = [
                tuple((name, self._file_fates(listing[name])) for name in sorted(listing))
                for listing in directory.fates(self._medium.profile.unordered)
            ]
            directory.frozen = tuple(dict.fromkeys(found))
        return directory.frozen

    def _file_fates(self, file: _File) -> FileFates:
        if file.frozen is None:
            spoiled = self._medium.profile.spoiled
            fates = ((at, file.blocks[at].fates(spoiled)) for at in sorted(file.blocks))
            blocks = tuple((at, tuple(dict.fromkeys(_stripped(one) for one in some))) for at, some in fates)
            sizes, step = file.size.fates(), file.step
            # what lies beyond the end is never seen: a file that grows again reads zeros there
            shown = tuple(one for one in blocks if one[1] != (b"",) and one[0] * step < max(sizes))
            file.frozen = FileFates(step, sizes, shown)
        return file.frozen

    def restore(self, fates: tuple[tuple[str, tuple[Listing, ...]], ...]) -> None:
        self._dirs = {}
        for path, listings in fates:
            files: dict[int, _File] = {}
            sure = tuple(
                {name: files.setdefault(id(one), _File(one.step, one)) for name, one in listing} for listing in listings
            )
            self._dirs[path] = _Directory(sure)
            self._dirs[path].frozen = listings

    # core.ports.Files

    def size(self, path: str) -> int | None:
        self._medium.need_power()
        found = self._find(path)
        return None if found is None else self._size(path, found)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self._medium.need_power()
        file = self._file(path)
        end = self._size(path, file)
        end = end if length is None else min(end, offset + length)
        step = file.step
        parts = [
            self._block(path, file, at)[max(0, offset - at * step) : max(0, end - at * step)]
            for at in range(offset // step, -(-end // step))
        ]
        return b"".join(parts)

    def write(self, path: str, offset: int, data: bytes) -> None:
        directory = self._dir(parent(path))
        self._medium.step(f"write {path} {offset}+{len(data)}")
        now = self._names(parent(path), directory)
        file = now.get(_name(path))
        if file is None:
            file = _File(BULK_BLOCK_BYTES if path.endswith(BULK) else self._medium.profile.block_bytes)
            directory.change({_name(path): file})
        self._touched(path, file)
        end, size = offset + len(data), self._size(path, file)
        step = file.step
        for at in range(offset // step, -(-end // step)):
            start = max(offset, at * step)
            piece = data[start - offset : min(end, (at + 1) * step) - offset]
            old = b"" if len(piece) == step else self._block(path, file, at)
            place = start - at * step
            self._put(file, at, old[:place].ljust(place, b"\0") + piece + old[place + len(piece) :])
        if end > size:
            file.size.write(end)

    def truncate(self, path: str, size: int) -> None:
        file = self._file(path)
        self._medium.step(f"truncate {path} {size}")
        self._touched(path, file)
        step = file.step
        for at in [one for one in file.blocks if (one + 1) * step > size]:
            keep = max(0, size - at * step)
            self._put(file, at, self._block(path, file, at)[:keep] if keep else b"")
        file.size.write(size)

    def sync(self, path: str) -> None:
        file = self._file(path)
        self._medium.step(f"sync {path}")
        self._fail_if(f"sync {path}")
        self._touched(path, file)
        file.size.flush()
        for block in file.blocks.values():
            block.flush()

    def rename(self, source: str, target: str) -> None:
        file = self._file(source)
        self._medium.step(f"rename {source} {target}")
        if not file.flushed:
            self._medium.broken_rule(f"rename of {source}, which was not synced")
        here, there = self._dir(parent(source)), self._dir(parent(target))
        if here is there:
            here.change({_name(source): None, _name(target): file})
            return
        there.change({_name(target): file})
        assert here.now is not None
        del here.now[_name(source)]
        there.left.append((here, _name(source)))

    def unlink(self, path: str) -> None:
        self._medium.need_power()
        if self._find(path) is not None:
            self._medium.step(f"unlink {path}")
            self._dir(parent(path)).change({_name(path): None})

    def sync_dir(self, path: str) -> None:
        directory = self._dir(path)
        self._medium.step(f"sync_dir {path}")
        self._fail_if(f"sync_dir {path}")
        if directory.changes or directory.now != directory.sure[0]:
            directory.settle()

    def names(self, path: str) -> list[str]:
        self._medium.need_power()
        inner = [name for name in self._dirs if name != "/" and parent(name) == path]
        here = self._names(path, self._dirs[path]) if path in self._dirs else {}
        return sorted([*here, *map(_name, inner)])

    def make_dir(self, path: str) -> None:
        if path not in self._dirs:
            self.make_dir(parent(path))
            self._medium.step(f"make_dir {path}")
            self._dirs[path] = _Directory(({},))

    def free_bytes(self, path: str) -> int:
        self._medium.need_power()
        bundles = [name for name in self.names(path) if name.endswith(".bundle")] if self.shared else []
        return self.free - sum(self.size(f"{path}/{name}") or 0 for name in bundles)

    def determine(self, path: str) -> None:
        """Decide about everything in the directory, as reading all of it would."""
        if path in self._dirs:
            for name in list(self._names(path, self._dirs[path])):
                if not name.endswith(NEVER_READ):
                    self.read(f"{path}/{name}")

    def flush_all(self) -> None:
        """What an orderly shutdown does; no operation of the software's."""
        for directory in self._dirs.values():
            if directory.changes:
                directory.settle()
            directory.frozen = None
            for listing in directory.sure:
                for file in listing.values():
                    file.frozen = None
                    file.size.flush()
                    for block in file.blocks.values():
                        block.flush()

    # inside

    def _fail_if(self, operation: str) -> None:
        if self.failing == operation:
            self.failing = None
            raise OSError(errno.EIO, "the medium failed", operation.split()[1])

    def _touched(self, path: str, file: _File) -> None:
        file.frozen = self._dirs[parent(path)].frozen = None

    def _dir(self, path: str) -> _Directory:
        self._medium.need_power()
        if path not in self._dirs:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        self._names(path, self._dirs[path])
        return self._dirs[path]

    def _names(self, path: str, directory: _Directory) -> dict[str, _File]:
        if directory.now is None:
            chosen = self._medium.chooser.choose(f"names {path}", len(directory.sure))
            directory.sure, directory.frozen = (directory.sure[chosen],), None
            directory.now = dict(directory.sure[0])
        return directory.now

    def _find(self, path: str) -> _File | None:
        directory = self._dirs.get(parent(path))
        return None if directory is None else self._names(parent(path), directory).get(_name(path))

    def _file(self, path: str) -> _File:
        self._medium.need_power()
        found = self._find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return found

    def _size(self, path: str, file: _File) -> int:
        if file.size.known:
            return file.size.read(self._medium.chooser, "")
        self._touched(path, file)
        size = file.size.read(self._medium.chooser, f"size {path}")
        for at in [one for one in file.blocks if one * file.step >= size]:
            del file.blocks[at]
        return size

    def _block(self, path: str, file: _File, at: int) -> bytes:
        unit = file.blocks.get(at)
        if unit is None:
            return bytes(file.step)
        if not unit.known:
            self._touched(path, file)
        data = unit.read(self._medium.chooser, f"content {path}@{at}")
        return data.ljust(file.step, b"\0")

    def _put(self, file: _File, at: int, data: bytes) -> None:
        if at not in file.blocks:
            if not data.strip(b"\0"):
                return  # zeros where nothing was: the journal's reserve, which nobody reads
            file.blocks[at] = Unit((b"",))
        file.blocks[at].write(_stripped(data))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _stripped(data: bytes) -> bytes:
    """Zeros at the end of a block are as good as nothing: it makes equal blocks equal values."""
    return data.rstrip(b"\0")
