"""A storage medium that can lose its power: files, slots and boot environment of one simulated terminal in memory.

Owns: what survives a cut. Every operation that changes something is numbered; the power can be cut before any of them,
and whatever was not flushed then is undetermined until it is read (posagent.crash.units).
Rules: stricter than hardware. A write to the booted slot, a boot environment that starts a slot whose data is not
flushed or that leaves nothing to start, and a rename of a file that was not synced break a rule, because real media
forgive them most of the time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from typing import NamedTuple

from posagent.core.errors import BootControlError
from posagent.core.ports import BootState
from posagent.crash.files import Listing
from posagent.crash.trees import MediumTrees
from posagent.crash.units import EMMC_512, Chooser, Newest, Profile, Unit

ALL = frozenset({"content", "size", "names", "slot"})
"""What a cut can take; see Medium.power_on."""
SLOT_BLOCK_BYTES = 4096


class PowerCut(BaseException):
    """The power went away. Not an Exception: no code under test may handle it."""


class RuleBroken(AssertionError):
    """The code under test relied on the medium's mercy."""


class Copy(NamedTuple):
    """One copy of the boot environment with a valid checksum. `trial`: its first slot was armed and not confirmed."""

    counter: int
    order: tuple[str, ...]
    tries: tuple[tuple[str, int], ...]
    trial: bool

    @property
    def state(self) -> BootState:
        return BootState(order=self.order, tries=dict(self.tries))


SlotFates = tuple[tuple[int, tuple[bytes, ...]], ...]
CopyFates = tuple[Copy | None, ...]
"""None: its checksum is wrong."""


class Crashed(NamedTuple):
    """Everything that a cut may have left: the state from which the next start begins."""

    dirs: tuple[tuple[str, tuple[Listing, ...]], ...]
    slots: tuple[tuple[str, int, SlotFates], ...]
    boot: tuple[CopyFates, ...]


class _Losing:
    """Takes the oldest fate of what is lost and the newest of the rest."""

    def __init__(self, lost: Collection[str]) -> None:
        self._lost = lost

    def choose(self, what: str, count: int) -> int:
        return 0 if what.split()[0] in self._lost else count - 1


class Medium:
    """One terminal's storage. `cut_at` is the number of the operation before which the power goes (first is 1)."""

    def __init__(
        self,
        *,
        booted: str = "a",
        cut_at: int | None = None,
        profile: Profile = EMMC_512,
        chooser: Chooser | None = None,
        strict: bool = True,
    ) -> None:
        self.booted = booted
        self.cut_at = cut_at
        self.profile = profile
        self.chooser: Chooser = chooser or Newest()
        self.strict = strict
        self.done: list[str] = []
        self.on = True
        self.over = False
        """Nobody looks any more; what generators do when they are thrown away does not matter."""
        self.on_step: Callable[[str], None] = lambda _: None
        self.files = MediumTrees(self)
        self.slots: dict[str, MediumSlot] = {}
        self.boot = MediumBoot(self)

    def slot(self, name: str, size: int = 0) -> MediumSlot:
        """The slot of that name, made with `size` bytes where there is none."""
        if name not in self.slots:
            self.slots[name] = MediumSlot(self, name, size)
        return self.slots[name]

    def step(self, what: str) -> None:
        """Called before each operation that changes something."""
        if self.over:
            return
        if self.on and self.cut_at == len(self.done) + 1:
            self.on = False
        self.need_power()
        self.on_step(what)
        self.done.append(what)

    def need_power(self) -> None:
        if not self.on:
            raise PowerCut(f"before operation {len(self.done) + 1}")

    def broken_rule(self, what: str) -> None:
        if self.strict:
            raise RuleBroken(what)

    def cut(self) -> None:
        """Cut the power now, between two operations."""
        self.on = False

    def crashed(self) -> Crashed:
        """What a cut now would leave."""
        slots = tuple((name, slot.size, slot.fates()) for name, slot in sorted(self.slots.items()))
        return Crashed(self.files.fates(), slots, self.boot.fates())

    def restore(self, crashed: Crashed) -> None:
        """Power again, on what a cut has left; `chooser` decides about it."""
        self.files.restore(crashed.dirs)
        for name, size, fates in crashed.slots:
            self.slot(name, size).restore(fates)
        self.boot.restore(crashed.boot)
        self.on, self.cut_at = True, None

    def power_on(self, lost: Collection[str] = ALL) -> None:
        """Power again: of what was not durable, `lost` is gone and the rest happens to have survived."""
        crashed = self.crashed()
        self.chooser = _Losing(lost)
        self.restore(crashed)

    def flush_all(self) -> None:
        """What an orderly shutdown writes."""
        self.files.flush_all()
        for slot in self.slots.values():
            slot.flush_quietly()


class MediumSlot:
    """core.ports.BlockDevice on the medium. Bytes at the places in `worn` are stored wrong; only a read after
    `drop_cache` shows it. `broken` makes writes fail like worn-out flash."""

    def __init__(self, medium: Medium, name: str, size: int) -> None:
        self._medium = medium
        self._name = name
        self._blocks: dict[int, Unit[bytes]] = {}
        self._frozen: SlotFates | None = None
        self.size = size
        self.worn: set[int] = set()
        self.broken = False

    @property
    def flushed(self) -> bool:
        return all(block.flushed for block in self._blocks.values())

    def fates(self) -> SlotFates:
        if self._frozen is None:
            spoiled = self._medium.profile.spoiled
            self._frozen = tuple((at, self._blocks[at].fates(spoiled)) for at in sorted(self._blocks))
        return self._frozen

    def restore(self, fates: SlotFates) -> None:
        self._blocks = {at: Unit(some) for at, some in fates}
        self._frozen = fates

    def fill(self, data: bytes) -> None:
        """Content from the factory, durable."""
        for at in range(-(-len(data) // SLOT_BLOCK_BYTES)):
            block = data[at * SLOT_BLOCK_BYTES : (at + 1) * SLOT_BLOCK_BYTES]
            self._blocks[at] = Unit((block.ljust(SLOT_BLOCK_BYTES, b"\0"),))
        self._frozen = None

    def pread(self, offset: int, length: int) -> bytes:
        self._medium.need_power()
        end = min(self.size, offset + length)
        step = SLOT_BLOCK_BYTES
        parts = [
            self._block(at)[max(0, offset - at * step) : max(0, end - at * step)]
            for at in range(offset // step, -(-end // step))
        ]
        return b"".join(parts)

    def pread_into(self, offset: int, view: memoryview) -> None:
        data = self.pread(offset, len(view))
        if len(data) < len(view):
            raise OSError(errno.EIO, "the slot ended early")
        view[:] = data

    def pwrite(self, offset: int, *parts: bytes | memoryview) -> None:
        data = b"".join(parts)
        self._medium.step(f"pwrite {self._name} {offset}+{len(data)}")
        if self._medium.booted == self._name:
            raise RuleBroken(f"write to the booted slot {self._name}")
        if self.broken:
            raise OSError(errno.EIO, "worn out")
        if offset < 0 or offset + len(data) > self.size:
            raise OSError(errno.ENOSPC, "write past the end of the slot")
        end, step = offset + len(data), SLOT_BLOCK_BYTES
        for at in range(offset // step, -(-end // step)):
            start = max(offset, at * step)
            piece = data[start - offset : min(end, (at + 1) * step) - offset]
            old = b"" if len(piece) == step else self._block(at)
            place = start - at * step
            self._blocks.setdefault(at, Unit((bytes(step),))).write(old[:place] + piece + old[place + len(piece) :])
        self._frozen = None

    def flush(self) -> None:
        self._medium.step(f"flush {self._name}")
        self.flush_quietly()

    def flush_quietly(self) -> None:
        for at, block in self._blocks.items():
            if not block.flushed:
                block.flush(self._stored(at))
        self._frozen = None

    def drop_cache(self) -> None:
        self.flush()
        for block in self._blocks.values():
            block.reread()

    def close(self) -> None:
        pass

    def _block(self, at: int) -> bytes:
        unit = self._blocks.get(at)
        if unit is None:
            return bytes(SLOT_BLOCK_BYTES)
        if not unit.known:
            self._frozen = None
        return unit.read(self._medium.chooser, f"slot {self._name}@{at}")

    def _stored(self, at: int) -> bytes | None:
        places = [place - at * SLOT_BLOCK_BYTES for place in self.worn if place // SLOT_BLOCK_BYTES == at]
        if not places:
            return None
        stored = bytearray(self._block(at))
        for place in places:
            stored[place] ^= 0xFF
        return bytes(stored)


class MediumBoot:
    """core.ports.BootControl on the medium: two copies with checksums, as libubootenv and U-Boot keep them.

    The copy that is not in use is written, with a higher counter, and synced; a cut in between leaves it old, new or
    torn. The counter is a byte and wraps. `missing` makes it fail like an environment without a valid copy; `copies=1`
    is what production refuses. Whether the first slot is on trial is kept only where the bootloader asks (`counts_all`
    is False).
    """

    def __init__(
        self, medium: Medium, *, copies: int = 2, counter: int = 253, tries: int = 3, counts_all: bool = True
    ) -> None:
        self._medium = medium
        self._counts_all = counts_all
        first = Copy(counter, ("a",), (("a", tries), ("b", 0)), False)
        self._copies: list[Unit[Copy | None]] = [Unit((first,)) for _ in range(copies)]
        self.missing = False

    def fates(self) -> tuple[CopyFates, ...]:
        return tuple(copy.fates(self._torn) for copy in self._copies)

    @staticmethod
    def _torn(_: Copy | None, __: Copy | None) -> tuple[Copy | None, ...]:
        return (None,)

    def restore(self, fates: tuple[CopyFates, ...]) -> None:
        self._copies = [Unit(copy) for copy in fates]

    def booted(self) -> str:
        self._medium.need_power()
        return self._medium.booted

    def read(self) -> BootState:
        self._medium.need_power()
        current = self._current()
        if self.missing or current is None:
            raise BootControlError("boot_env_missing")
        return current[1].state

    def write(self, state: BootState) -> None:
        """As the agent writes: its rules are checked."""
        started = [name for name in state.order if state.tries.get(name, 0) > 0]
        if not started:
            raise RuleBroken("no slot is left to start")
        for name in started:
            if name in self._medium.slots and not self._medium.slots[name].flushed:
                self._medium.broken_rule(f"slot {name} would be started, but its data is not flushed")
        self.store(state, trial=not self._counts_all and state.order[0] != self._medium.booted)

    @property
    def trial(self) -> bool:
        """Whether the first slot was armed for a trial and not confirmed since (`upgrade_available` of U-Boot)."""
        found = self._current()
        return found is not None and found[1].trial

    def store(self, state: BootState, trial: bool | None = None) -> None:
        """As the bootloader writes: it may count the last try down."""
        if self.missing:
            raise BootControlError("boot_env_missing")
        found = self._current()
        place, counter = (0, 0) if found is None else ((found[0] + 1) % len(self._copies), found[1].counter + 1)
        kept = {} if found is None else dict(found[1].tries)
        tries = tuple(sorted({**kept, **state.tries}.items()))
        trial = found is not None and found[1].trial if trial is None else trial
        self._medium.step(f"env write {place} {' '.join(state.order)} {dict(tries)}")
        self._copies[place].write(Copy(counter % 256, tuple(state.order), tries, trial))
        self._medium.step(f"env sync {place}")
        self._copies[place].flush()

    def determine(self) -> None:
        """Decide about both copies, as the bootloader does."""
        self._current()

    def _current(self) -> tuple[int, Copy] | None:
        """Place and content of the newest valid copy."""
        found = [(place, self._valid(place)) for place in range(len(self._copies))]
        valid = [(place, one) for place, one in found if one is not None]
        if len(valid) == 2 and newer(valid[1][1].counter, valid[0][1].counter):
            return valid[1]
        return valid[0] if valid else None

    def _valid(self, place: int) -> Copy | None:
        return self._copies[place].read(self._medium.chooser, f"env {place}")


def newer(one: int, other: int) -> bool:
    """Whether counter `one` comes after `other`, of a byte that wraps (U-Boot's env/common.c)."""
    return 0 < (one - other) % 256 < 128
