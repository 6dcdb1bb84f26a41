"""Atomic units of storage and what a power cut may make of them.

Owns: the fates of one unit (a block, a size, a directory, a part of the boot environment) and the device profiles.
A unit has values that are durable for certain or by an earlier cut not yet looked at (`sure`), and values written
since its last flush (`pending`). At a cut it becomes one of them; which one is decided when it is first read, so that
what nobody reads never forks an execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Chooser(Protocol):
    """Decides fates: lists them, replays them, or always takes the same end."""

    def choose(self, what: str, count: int) -> int:
        """A number below `count`, which is at least 2."""


class Newest:
    """A medium that happens to keep everything."""

    def choose(self, what: str, count: int) -> int:
        return count - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a device behaves at a cut.

    `block_bytes` is the unit of a write; `torn`: a unit that is being written may be left half old, half new;
    `garbage`: or be neither; `unordered`: names in a directory reach the medium in any order, not in that of the calls.
    """

    name: str
    block_bytes: int = 512
    torn: bool = False
    garbage: bool = False
    unordered: bool = False

    def spoiled(self, old: bytes, new: bytes) -> list[bytes]:
        """What else may be found where `old` was being replaced by `new`."""
        found = []
        if self.torn:
            middle = min(self.block_bytes, max(len(old), len(new))) // 2
            found += [
                new[:middle].ljust(middle, b"\0") + old[middle:],
                old[:middle].ljust(middle, b"\0") + new[middle:],
            ]
        if self.garbage:
            found.append(b"\xff" * max(len(old), len(new), 1))
        return found


class Supply(Protocol):
    """The power that all units of one terminal share."""

    profile: Profile
    chooser: Chooser

    def step(self, what: str) -> None:
        """Called before each operation that changes something. Raises where the power is cut there."""

    def need_power(self) -> None: ...

    def broken_rule(self, what: str) -> None: ...


EMMC_512 = Profile(name="emmc-512")
EMMC_4K = Profile(name="emmc-4k", block_bytes=4096, torn=True)
RAW = Profile(name="raw", block_bytes=4096, torn=True, garbage=True, unordered=True)
PROFILES = {profile.name: profile for profile in (EMMC_512, EMMC_4K, RAW)}


class Unit(Generic[T]):
    """One unit. `spoil(old, new)` lists what a cut in the middle of writing may leave besides the two."""

    __slots__ = ("_known", "_now", "_pending", "_sure")

    def __init__(self, sure: Sequence[T]) -> None:
        self._sure = tuple(sure)
        self._pending: list[T] = []
        self._known = len(self._sure) == 1
        self._now = self._sure[0]

    @property
    def flushed(self) -> bool:
        return not self._pending

    @property
    def known(self) -> bool:
        return self._known

    def read(self, chooser: Chooser, what: str) -> T:
        if not self._known:
            self._now = self._sure[chooser.choose(what, len(self._sure))]
            self._sure, self._known = (self._now,), True
        return self._now

    def write(self, value: T) -> None:
        self._pending.append(value)
        self._now, self._known = value, True

    def flush(self, stored: T | None = None) -> None:
        """What was written is durable; `stored` where the medium keeps something else than it was given."""
        if self._pending:
            self._sure = (self._now if stored is None else stored,)
            self._pending = []

    def reread(self) -> None:
        """Forget what memory holds of a flushed unit."""
        if not self._pending and len(self._sure) == 1:
            self._now = self._sure[0]

    def fates(self, spoil: Callable[[T, T], Iterable[T]] | None = None) -> tuple[T, ...]:
        """Everything this unit may be after a cut now, oldest first."""
        found = dict.fromkeys(self._sure)
        before = self._sure[0]
        for value in self._pending:
            for other in spoil(before, value) if spoil is not None else ():
                found.setdefault(other)
            found.pop(value, None)
            found[value] = None
            before = value
        return tuple(found)
