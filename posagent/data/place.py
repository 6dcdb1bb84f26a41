"""The directory of the merchant's data on the medium: where each generation is, and which of them can be reached.

    generations.json   the record                     backups/NAME.backup    sealed copies
    g-7/data/          a generation, the owner's      scratch/, scratch-*/   only while something is tried out
    room.reserve       room for a full medium

Rules: `g-7` itself is root's, and only that of the published generation lets anybody else through. What the record does
not name is a leftover of something that was cut short, and is removed before anything is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from posagent.core.errors import PosagentError
from posagent.core.ports import Databases, Publisher, Trees
from posagent.data import copying, record, reserve
from posagent.data.money import TEMPORARY
from posagent.data.record import Generation, Record

RECORD, SCRATCH, BACKUPS = "generations.json", "scratch", "backups"
SUFFIX = ".backup"
SPARE_BYTES = 1 << 20
"""That a copy leaves free, for the record and for what steps add."""


class Place:
    """Raises PosagentError `data_unreadable`, `data_no_space`, OSError."""

    def __init__(self, trees: Trees, databases: Databases, publisher: Publisher, root: str) -> None:
        self.trees, self.databases, self._publisher, self._root = trees, databases, publisher, root

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def inside(self, name: str) -> str:
        """The data directory of a generation."""
        return f"{self._root}/{name}/data"

    # the record

    def load(self) -> Record | None:
        """None where there is none yet."""
        found = record.load(self.trees, self.path(RECORD))
        if found is not None:
            return found
        for name in self.generations():
            if self.trees.entries(self.inside(name)):
                raise PosagentError("data_unreadable", f"there is no {self.path(RECORD)}, but {name} has data")
        return None

    def store(self, new: Record) -> None:
        reserve.spending(self.trees, self._root, lambda: record.store(self.trees, self.path(RECORD), new))

    # directories

    def generations(self) -> list[str]:
        return [name for name in self.trees.names(self._root) if record.number_of(name)]

    def begin(self, name: str) -> None:
        """An empty generation that nobody but root gets into."""
        self.trees.make_dir(self.path(name))
        self.trees.protect(self.path(name), passable=False)
        self.trees.make_dir(self.inside(name))

    def begin_first(self, name: str) -> None:
        """One that the payment application begins with."""
        self.begin(name)
        self.trees.adopt(self.inside(name))
        self.trees.sync_dir(self.inside(name))
        self.trees.sync_dir(self.path(name))

    def settle(self, name: str) -> Iterator[str]:
        return copying.settle(self.trees, self.inside(name))

    def need_room(self, generation: Generation) -> None:
        """Raises PosagentError `data_no_space` where a copy of the generation does not fit."""
        inside = self.inside(generation.name)
        needed = copying.size_of(self.trees, self.databases, inside) + SPARE_BYTES
        needed += copying.aside_of(self.trees, self.databases, inside)
        free = self.trees.free_bytes(self._root)
        if free < needed:
            detail = f"{free} bytes are free, a copy of the data needs {needed}"
            raise PosagentError("data_no_space", detail, measure="free bytes", measured=free, limit=needed)

    def sweep(self, found: Record | None) -> list[str]:
        """Remove what the record does not name; what that was. Then there is room for the reserve."""
        kept = found.names if found is not None else []
        left = [name for name in self.generations() if name not in kept]
        left += [name for name in self.trees.names(self._root) if name.startswith(SCRATCH)]
        for name in left:
            self.trees.remove_tree(self.path(name))
        for name in kept:
            self.trees.unlink(f"{self.path(name)}/{TEMPORARY}")
        notes = {f"{one.name}{SUFFIX}" for one in found.backups} if found is not None else set()
        old = [name for name in self.trees.names(self.path(BACKUPS)) if name not in notes]
        for name in old:
            self.trees.unlink(f"{self.path(BACKUPS)}/{name}")
        if old:
            self.trees.sync_dir(self.path(BACKUPS))
        reserve.keep(self.trees, self._root)
        return [*left, *(f"{BACKUPS}/{name}" for name in old)]

    # publishing

    @property
    def has_backups(self) -> bool:
        return any(name.endswith(SUFFIX) for name in self.trees.names(self.path(BACKUPS)))

    def published(self) -> str:
        """The name of the generation that the payment application finds, or nothing."""
        here = self._publisher.published()
        return here.removesuffix("/data").rpartition("/")[2]

    def publish(self, generation: Generation, *, trial: bool = False) -> None:
        """Nobody but root gets into any other; `trial`: a rollback would lose what is written there. Raises
        PosagentError `data_unreadable` where it is gone."""
        if ("data", "dir") not in self.trees.entries(self.path(generation.name)):
            raise PosagentError("data_unreadable", f"{self.inside(generation.name)} is gone")
        self.only_into(generation.name)
        self._publisher.publish(self.inside(generation.name), trial=trial)

    def only_into(self, name: str) -> None:
        for one in self.generations():
            self.trees.protect(self.path(one), passable=one == name)

    def withhold(self) -> None:
        """Nobody but root gets into any, whatever was passable before."""
        self._publisher.withhold()
        self.only_into("")
