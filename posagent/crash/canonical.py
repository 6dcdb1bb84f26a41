"""When are two crash states one: the durable state without what no decision depends on.

Left out are the journal's sequence numbers and hashes (a record counts for what it says), counters of starts that
cannot matter any more, bytes counted for statistics, and the environment's write counter (which copy is newer stays).
What is left in decides everything that recovery can see, so equal keys have equal futures.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

from posagent.agent.journal import BLOCK_BYTES, decode
from posagent.core import model
from posagent.core.model import Command, Situation, State
from posagent.crash.files import NEVER_READ, FileFates, Listing
from posagent.crash.medium import Copy, CopyFates, Crashed, newer
from posagent.crash.stage import INSTALLER_DIR, LIMITS, SPOOL_DIR, STATE_DIR
from posagent.installer.slots import SlotState
from posagent.platform.reset import FINDING

JOURNAL = f"{STATE_DIR}/journal"
TORN = "torn"
RESET = f"{INSTALLER_DIR}/{FINDING}"
_TRIAL = frozenset({Command.ARM, Command.REBOOT, Command.RUN_TESTS})
_COUNTS: Mapping[State, frozenset[str]] = {
    State.IDLE: frozenset({Command.RETURN}),
    State.DOWNLOAD: frozenset({Command.RETURN, Command.FETCH}),
    State.VERIFY: frozenset({Command.RETURN, Command.CHECK}),
    State.READY: frozenset({Command.RETURN}),
    State.INSTALL: frozenset({Command.RETURN, Command.INSTALL}),
    State.ACTIVATE: _TRIAL,
    State.SELFTEST: frozenset({Command.RUN_TESTS}),
    State.COMMIT: frozenset(),
    State.ROLLBACK: frozenset(),
}
"""Which counters of starts a guard may still look at in this state or a later one; the others only set the time to
wait before the next attempt."""


def key(crashed: Crashed, block_bytes: int) -> Hashable:
    """Equal for states that no future can tell apart; blocks of files have `block_bytes`."""
    dirs = tuple(_directory(path, listings, block_bytes) for path, listings in crashed.dirs)
    copies = _read(crashed.boot) or [one for copy in crashed.boot for one in copy if one is not None]
    started = {name for copy in copies for name in copy.order}
    written = _to_be_written(dict(crashed.dirs).get(INSTALLER_DIR, ())) - started
    slots = tuple(() if name in written else fates for name, _, fates in crashed.slots)
    return dirs, slots, _boot(crashed.boot)


def _to_be_written(listings: tuple[Listing, ...]) -> frozenset[str]:
    """Slots whose content nobody relies on: whatever it is, it is compared with the image and written."""
    found = [dict(listing).get("slots.json") for listing in listings]
    records = [_unfinished(fates) if fates is not None else frozenset() for fates in found]
    return frozenset.intersection(*records) if records else frozenset()


@lru_cache(maxsize=1 << 10)
def _unfinished(fates: FileFates) -> frozenset[str]:
    record = _sure(fates)
    slots = record.get("slots", {}).items() if record is not None else ()
    return frozenset(name for name, one in slots if one["state"] in (SlotState.WRITING, SlotState.BAD))


def _sure(fates: FileFates) -> dict[str, Any] | None:
    """The JSON in a file of which everything is certain."""
    if len(fates.sizes) > 1 or any(len(some) > 1 for _, some in fates.blocks):
        return None
    try:
        found = json.loads(b"".join(some[0].ljust(fates.step, b"\0") for _, some in fates.blocks)[: fates.sizes[0]])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _directory(path: str, listings: tuple[Listing, ...], block_bytes: int) -> Hashable:
    """Told by identity: hashing a directory's content again for every operation costs more than everything else."""
    known = _DIRECTORIES.get(id(listings))
    if known is None or known[0] is not listings:
        if len(_DIRECTORIES) > DIRECTORIES_MAX:
            _DIRECTORIES.clear()
        canonical = path, tuple(dict.fromkeys(_listing(path, one, block_bytes) for one in listings))
        digest = hashlib.blake2b(repr(canonical).encode(), digest_size=16).digest()
        known = _DIRECTORIES[id(listings)] = (listings, digest)
    return known[1]


DIRECTORIES_MAX = 50_000
_DIRECTORIES: dict[int, tuple[tuple[Listing, ...], bytes]] = {}


def _listing(path: str, listing: Listing, block_bytes: int) -> Hashable:
    """Temporary files are left out: each is removed before it is written again, and never read."""
    shown = [(name, fates) for name, fates in listing if not name.endswith(".new")]
    if path == SPOOL_DIR:
        shown = [(name, _fetched(name, fates, dict(listing))) for name, fates in shown]
    return tuple((name, _file(f"{path}/{name}", fates, block_bytes)) for name, fates in shown)


def _fetched(name: str, fates: FileFates, listing: Mapping[str, FileFates]) -> FileFates:
    """A bundle without what lies beyond the last checkpoint, and is fetched again whatever it is."""
    if not name.endswith(".bundle"):
        return fates
    record = listing.get(name.removesuffix(".bundle") + ".json")
    known = {"pieces": []} if record is None else _sure(record)
    if known is None:
        return fates
    kept = sum(length for _, length in known["pieces"])
    sizes = tuple(sorted({min(size, kept + 1) for size in fates.sizes}))
    return FileFates(fates.step, sizes, tuple(one for one in fates.blocks if one[0] * fates.step < kept))


@lru_cache(maxsize=1 << 16)
def _file(path: str, fates: FileFates, block_bytes: int) -> Hashable:
    if path == RESET:
        return "of an earlier start"  # no start believes another's finding
    if path.endswith(NEVER_READ):
        return fates.sizes
    if path == JOURNAL:
        return _journal(fates, block_bytes)
    if path.startswith(SPOOL_DIR) and ".json" in path:
        blocks = tuple((at, tuple(map(_spool_record, some))) for at, some in fates.blocks)
        return "spool", len(fates.sizes), blocks
    return fates


def _spool_record(data: bytes) -> Hashable:
    try:
        record = json.loads(data)
        record.pop("bytes_refetched", None)
    except (ValueError, AttributeError):
        return data
    return json.dumps(record, sort_keys=True)


def _journal(fates: FileFates, block_bytes: int) -> Hashable:
    """What the certain records say, and what the first uncertain one may: nothing, or TORN, which will be cut off."""
    blocks, parts = dict(fates.blocks), BLOCK_BYTES // block_bytes
    situation, record = Situation(), 0
    while max(fates.sizes) > record * BLOCK_BYTES:
        found = [blocks.get(at, (b"",)) for at in range(record * parts, (record + 1) * parts)]
        lines = {b"".join(one.ljust(block_bytes, b"\0") for one in some) for some in itertools.product(*found)}
        known = [decode(line.partition(b"\n")[0]) for line in lines]
        length = max(len(line.rstrip(b"\0")) for line in lines)
        sure = min(fates.sizes) >= record * BLOCK_BYTES + length
        if len(known) > 1 or not sure or known[0] is None:
            said = {TORN if one is None else _said(one) for one in known} | (set() if sure else {"", TORN})
            return "journal", _situation(situation), tuple(sorted(said))
        situation = model.fold(situation, known[0])
        record += 1
    return "journal", _situation(situation), ("",)


def _said(record: Mapping[str, Any]) -> str:
    """A record without number and hash."""
    told = ("seq", "prev", "failure", "measured")
    kept = {name: value for name, value in record.items() if name not in told}
    if isinstance(kept.get("update"), dict):
        kept["update"] = {name: value for name, value in kept["update"].items() if name not in _ONLY_TOLD}
    if isinstance(kept.get("outcome"), dict):
        kept["outcome"] = {name: one for name, one in kept["outcome"].items() if name not in ("estimates", "record")}
    return json.dumps(kept, sort_keys=True)


_ONLY_TOLD = (
    *("boot_id", "armed_at", "requested_at", "bytes_refetched", "bytes_fetched", "bytes_lost"),
    *("bytes_large", "bytes_small", "parameters"),
    *("predicted", "took_s", "steps", "found", "phases", "entered_at", "waited", "measures", "deferred_by"),
)
"""Of an update: people hear of it, and nothing is decided by it. The boot id is, but only by being another one."""


def _situation(situation: Situation) -> str:
    value: dict[str, Any] = model.snapshot(situation)["snapshot"]
    counted = _COUNTS[situation.state]
    value.pop("measured")  # for the estimate, and for the kind of operations; these images have one kind
    value.pop("measurements")
    value.pop("failure")  # as the reason in an outcome, it is told, and decides nothing
    value["outcomes"] = [[one["id"], one["outcome"], one["version"], "ticket" in one] for one in value["outcomes"]]
    if value["update"] is not None:
        for told in _ONLY_TOLD:
            value["update"].pop(told)
        if situation.state is State.ROLLBACK:
            value["update"]["armed"] = value["update"]["power_cycles"] = 0
        value["update"]["power_cycles"] = min(value["update"]["power_cycles"], LIMITS.power_cycles_max + 1)
    value["attempts"] = {name: count for name, count in situation.attempts.items() if name in counted}
    return json.dumps(value, sort_keys=True)


@lru_cache(maxsize=1 << 16)
def _boot(copies: tuple[CopyFates, ...]) -> Hashable:
    found = _read(copies)
    return copies if found is None else tuple(one[1:] for one in found)


@lru_cache(maxsize=1 << 16)
def _read(copies: tuple[CopyFates, ...]) -> tuple[Copy, ...] | None:
    """The newest copy that is surely valid, then what of the others may be newer: what is older is never read again.
    None where no copy is sure."""
    sure = [copy[0] for copy in copies if len(copy) == 1 and copy[0] is not None]
    if not sure:
        return None
    current = sure[0]
    for one in sure[1:]:
        if newer(one.counter, current.counter):
            current = one
    maybe = {one for copy in copies for one in copy if one is not None and newer(one.counter, current.counter)}
    return (current, *sorted(maybe))
