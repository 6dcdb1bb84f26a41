"""What is known of the generations of the merchant's data: one small file, `generations.json`.

Owns: the record and its form on the medium; which generation is which is nowhere else.
Rules: it names only what is complete and durable; what it does not name is a leftover. A record that is there and
cannot be read is trouble, never "none yet": that would begin with empty data. Unknown fields are ignored, because after
a rollback an older version reads what a newer one wrote. How money and counters are read is stored with the generation,
because the next version may store them elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from posagent.core import durable
from posagent.core.errors import PosagentError
from posagent.core.ledger import CounterSource, LedgerSource
from posagent.core.ports import Files

FORM = 1
UNKNOWN = 0
"""The format of what is not posagent's yet: a payment application that keeps its data elsewhere."""
BYTES_MAX = 1 << 20
_GENERATION = re.compile(r"g-([1-9][0-9]{0,8})")
RETIRED_MAX = 1
"""Old generations take room; what is in them is in a backup too."""
BACKUPS_MAX = 4
EARLIEST_S = 1_767_225_600.0
"""2026-01-01: this code is not older."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One whole copy of the data, and how what is in it is read."""

    name: str
    format: int
    ledger: LedgerSource = field(default=LedgerSource())
    counters: tuple[CounterSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """The copy that a version on trial works on. `source`: digest of the current generation when it was copied;
    `changed`: by migration steps."""

    generation: Generation
    slot: str
    version: str
    source: str
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What was current until `at`, seconds since 1970; `counters` are those of its successor at that moment."""

    generation: Generation
    at: float
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.generation.name


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupNote:
    """A sealed copy of `generation`, made for an update to `version`; `committed_at` is when that was confirmed."""

    name: str
    at: float
    update_id: str
    version: str
    sha256: str
    generation: Generation
    committed_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    current: Generation
    next: Next | None = None
    retired: tuple[Retired, ...] = ()
    backups: tuple[BackupNote, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of all generations that are kept."""
        trial = [self.next.generation.name] if self.next is not None else []
        return [self.current.name, *trial, *(one.name for one in self.retired)]

    def new_name(self) -> str:
        return f"g-{1 + max(number_of(name) or 0 for name in self.names)}"


def followed(found: Record, new: Generation, at: float, counters: Mapping[str, int]) -> Record:
    """`new`, which has got to those `counters`, is current; what was is retired, and kept only once."""
    old = Retired(generation=found.current, at=at, counters=counters)
    others = [one for one in found.retired if one.name not in (new.name, old.name)]
    return dataclasses.replace(found, current=new, next=None, retired=(*others, old))


def switched(found: Record, trial: Next, at: float, counters: Mapping[str, int]) -> Record:
    """The copy is current; the backup that was made for it is one of a committed update."""
    latest = max((one for one in found.backups if one.version == trial.version), key=lambda one: one.at, default=None)
    backups = [dataclasses.replace(one, committed_at=at) if one is latest else one for one in found.backups]
    return dataclasses.replace(followed(found, trial.generation, at, counters), backups=tuple(backups))


def without_old(found: Record, now: float, keep_s: float) -> Record:
    """Without backups and retired generations that had their time. What was kept since a moment that no clock of ours
    can have meant (a terminal that began in 1970) is kept from now on."""
    backups = [
        dataclasses.replace(one, committed_at=max(one.committed_at, now))
        if one.committed_at is not None and one.committed_at < EARLIEST_S <= now
        else one
        for one in found.backups
    ]
    retired = [dataclasses.replace(one, at=now) if one.at < EARLIEST_S <= now else one for one in found.retired]
    pending = [one for one in backups if one.committed_at is None]
    done = [one for one in backups if one.committed_at is not None and now - one.committed_at <= keep_s]
    return dataclasses.replace(
        found,
        backups=tuple(sorted([*done, *pending[-1:]], key=lambda one: one.at)[-BACKUPS_MAX:]),
        retired=tuple([one for one in retired if now - one.at <= keep_s][-RETIRED_MAX:]),
    )


def number_of(name: str) -> int | None:
    """7 of "g-7"; None of what is no generation's name."""
    found = _GENERATION.fullmatch(name)
    return int(found[1]) if found else None


def load(files: Files, path: str) -> Record | None:
    """The record, or None where there is none yet. Raises PosagentError `data_unreadable`, OSError."""
    size = files.size(path)
    if size is None:
        return None
    try:
        value = json.loads(files.read(path, 0, min(size, BYTES_MAX)))
        if value["v"] != FORM:
            raise ValueError(f"its form is {value['v']!r}")
        return _record(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise PosagentError("data_unreadable", f"{path}: {error}") from None


def store(files: Files, path: str, record: Record) -> None:
    """Durable when it returns. Raises OSError."""
    value = {
        "v": FORM,
        "current": dataclasses.asdict(record.current),
        "next": None if record.next is None else _flat(record.next),
        "retired": [dataclasses.asdict(one) for one in record.retired],
        "backups": [dataclasses.asdict(one) for one in record.backups],
    }
    durable.replace_json(files, path, value)


def _flat(trial: Next) -> dict[str, Any]:
    value = dataclasses.asdict(trial)
    return {**value.pop("generation"), **value}


def _record(value: Mapping[str, Any]) -> Record:
    trial = value["next"]
    return Record(
        current=_generation(value["current"]),
        next=None if trial is None else _known(Next, {**trial, "generation": _generation(trial)}),
        retired=tuple(
            _known(Retired, {**one, "generation": _generation(one["generation"]), "at": float(one["at"])})
            for one in value["retired"]
        ),
        backups=tuple(
            _known(BackupNote, {**one, "generation": _generation(one["generation"]), "at": float(one["at"])})
            for one in value["backups"]
        ),
    )


def _generation(value: Mapping[str, Any]) -> Generation:
    if number_of(value["name"]) is None:
        raise ValueError(f"{value['name']!r} is no generation")
    counters: Iterable[Mapping[str, Any]] = value["counters"]
    return Generation(
        name=value["name"],
        format=int(value["format"]),
        ledger=_known(LedgerSource, value["ledger"]),
        counters=tuple(_known(CounterSource, one) for one in counters),
    )


def _known(kind: type[T], value: Mapping[str, Any]) -> T:
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: part for name, part in value.items() if name in names})
