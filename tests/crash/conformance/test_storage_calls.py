"""The model does what the processes do: a real update's system calls against the crash explorer's operations.

Every proof of the explorer is about the operations that the rooms ask of their ports. Here the production adapters,
the processes around them and fw_setenv are watched, and must ask the kernel for the same, in the same order.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from posagent.crash.medium import newer
from tests.crash.conformance import compare, model, reality
from tests.crash.conformance.compare import Order
from tests.crash.conformance.operations import PLACES, Operation
from tests.crash.conformance.reality import Seen

pytestmark = pytest.mark.real

OUTSIDE_THE_PORT = {
    ("agent", "write /data/agent/agent.lock 0+0"): "platform.storage.lock makes this empty file and never reads it: "
    "the lock is in memory, and where a power cut took the file it is made again",
    ("kernel", "flush a"): "the simulated kernel's debugfs syncs what it has only read",
    ("kernel", "flush b"): "the same, of the new slot",
}
"""Process and operation of what is not the model's, with the reason why no power cut can make a difference of it."""
EVIDENCE = re.compile(r"/audit[.-]|/\.write-rate\b")
"""The audit log and its seals: nothing is decided by them, so the model does without. What power cuts may do
to them is the matter of tests/agent/test_audit.py and tests/installer/test_notary.py, on the same medium.
The file by which self-tests measure the medium's speed: nobody reads it, and the next measurement removes what a power
cut has left of it."""
WRITERS = {
    "agent": {"agent"},
    "installer": {"installer"},
    "spool": {"fetcher"},
    "slot a": set[str](),
    "slot b": {"installer"},
    "environment": {"bootloader", "fw_setenv"},
}
SWITCHED = 'env write 1 b a {"a": 3, "b": 3}'
FIRST_BYTE = "flush b"  # before it looks at what is there
DUTIES = (
    ("the decision before the download", "record due>download synced", "make_dir /data/spool"),
    ("the bundle before its record", "sync_dir /data/spool", "record fetched>verify"),
    ("the decision before the slots change", "record due>install synced", "write /data/installer/slots.json.new 0+?"),
    ("out of service before the first byte", "sync_dir /data/installer", FIRST_BYTE),
    ("the data before the pointer", "flush b", "write /data/installer/slots.json.new 0+?"),
    ("the slot before its record", "sync_dir /data/installer", "record slot_complete>activate"),
    (
        "the decision before the trial marker",
        "record slot_complete>activate synced",
        "write /data/installer/trial-b.new 0+2",
    ),
    ("the slot's data before the switch", "flush b", SWITCHED),
    ("slot record and trial marker before the switch", "sync_dir /data/installer", SWITCHED),
    ("the switch before its record", "env sync 1", "record armed>activate"),
    ("the record before the restart", "record armed>activate synced", 'env write 0 b a {"a": 3, "b": 2}'),
    ("the tests before the commit", "record tests_passed>commit synced", SWITCHED),
    ("the tries before the good record", "env sync 1", "write /data/installer/slots.json.new 0+?"),
    ("the good slot before the outcome", "sync_dir /data/installer", "record marked_good>idle"),
    ("the outcome before the floor", "record marked_good>idle synced", "write /data/installer/floor.json.new 0+11"),
    ("the outcome before the bundle goes", "record marked_good>idle synced", "unlink /data/spool/ID.bundle"),
)
"""Some of the orders that are checked: they must be among them, or the check proves nothing."""
SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Traces:
    """`outside` and `evidence` are what reality does besides; `orders` are the model's."""

    model: list[Operation]
    real: list[Operation]
    outside: set[tuple[str, str]]
    orders: list[Order]
    seen: Seen
    evidence: list[Operation]


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    reality.need_strace()
    base = Path(tempfile.mkdtemp(prefix="calls-"))  # short: sockets lie in it
    try:
        made = reality.make(base)
        seen = reality.update(made, base / "trace")
        evidence, others = parted(seen.storage.operations)
        done = [((one.who, one.text) in OUTSIDE_THE_PORT, one) for one in others]
        outside = {(one.who, one.text) for besides, one in done if besides}
        modelled = model.update(made)
        real = [one for besides, one in done if not besides]
        yield Traces(modelled, real, outside, compare.orders(modelled), seen, evidence)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def parted(done: Sequence[Operation]) -> tuple[list[Operation], list[Operation]]:
    """What is evidence, with the directory that is synced for its sake, and all the rest."""
    evidence, others = list[Operation](), list[Operation]()
    after: dict[str, bool] = {}
    for one in done:
        named = EVIDENCE.search(one.text) is not None
        ours = named or (one.kind == "sync_dir" and after.get(one.who, False))
        after[one.who] = named
        (evidence if ours else others).append(one)
    return evidence, others


def test_the_update_was_a_whole_one(traces: Traces) -> None:
    assert traces.seen.outcome["outcome"] == "committed"
    started = {line.partition(":")[0] for line in traces.seen.storage.commands}
    assert {"agent", "installer", "fetcher", "selftest", "bootloader", "fw_setenv"} <= started


@pytest.mark.parametrize("place", PLACES)
def test_the_same_operations_in_the_same_order(traces: Traces, place: str) -> None:
    differs = compare.difference(compare.at(place, traces.model), compare.at(place, traces.real))
    assert differs is None, f"{place}:\n{differs}"


def test_nothing_is_written_before_the_flush_that_it_relies_on(traces: Traces) -> None:
    broken = compare.broken(traces.model, traces.real, traces.orders)
    assert broken == [], "\n".join(broken)


@pytest.mark.parametrize(("duty", "flush", "then"), DUTIES, ids=[duty for duty, _, _ in DUTIES])
def test_the_orders_that_matter_are_among_those_checked(traces: Traces, duty: str, flush: str, then: str) -> None:
    words = compare.told(traces.model)
    assert (flush, then) in {(words[one.flush], words[one.then]) for one in traces.orders}, duty


def test_each_audit_record_is_synced_before_the_agent_goes_on(traces: Traces) -> None:
    agents = [one for one in traces.evidence if one.who == "agent"]
    assert [one.kind for one in agents[:3]] == ["write", "sync", "sync_dir"], "it is made once"
    assert len(agents) >= 3 + 2 * 2, "the update's beginning and its end"
    assert [one.kind for one in agents[3:]] == ["write", "sync"] * (len(agents[3:]) // 2)


def test_nothing_else_persists_anything(traces: Traces) -> None:
    assert traces.seen.storage.unexplained == []
    assert traces.outside == set(OUTSIDE_THE_PORT), "what the model leaves out, and only that"


@pytest.mark.parametrize("place", PLACES)
def test_each_place_is_written_by_its_own_process_only(traces: Traces, place: str) -> None:
    assert {one.who for one in compare.at(place, traces.real)} == WRITERS[place]


def test_what_goes_past_the_page_cache_is_flushed_before_the_next_record(traces: Traces) -> None:
    """O_DIRECT is not durable: the device's own cache may still hold it."""
    assert traces.seen.storage.direct_refused or all(one.direct for one in traces.real if one.kind == "pwrite")
    for number, one in enumerate(traces.real):
        if one.kind == "pwrite":
            later = traces.real[number + 1 :]
            flush = next(after for after in later if after.text == "flush b")
            record = next(after for after in later if after.place == "installer")
            assert flush.end < record.begin, f"{one.text}: {record.text} came before the flush"


def test_fw_setenv_writes_the_copy_that_is_not_in_use_and_syncs_it_before_it_ends(traces: Traces) -> None:
    environment = compare.at("environment", traces.real)
    assert [one.kind for one in environment] == ["env write", "env sync"] * (len(environment) // 2)
    counters = [one.counter for one in model.copies_in(traces.seen.made.environment)]
    for write, sync in _pairs(environment):
        copy = int(write.text.split()[2])
        in_use = int(newer(counters[1], counters[0]))
        assert copy != in_use, f"line {write.begin}: copy {copy} is in use, counters {counters}"
        assert sync.text == f"env sync {copy}" and sync.who == write.who
        counters[copy] = (counters[in_use] + 1) % 256
    left = model.copies_in(traces.seen.made.layout.env.read_bytes())
    assert [one.counter for one in left] == counters, "libubootenv counts otherwise"
    assert counters[0] < reality.COUNTER, "the counter did not wrap"


def _pairs(done: Sequence[Operation]) -> Iterator[tuple[Operation, Operation]]:
    return zip(done[::2], done[1::2], strict=True)


def test_a_flush_that_is_missing_would_be_found(traces: Traces) -> None:
    """The check is checked: without any one of its flushes, a trace differs from itself."""
    flushes = [number for number, one in enumerate(traces.model) if one.flush]
    assert len(flushes) > 50
    for number in flushes:
        place, without = traces.model[number].place, [*traces.model[:number], *traces.model[number + 1 :]]
        assert compare.difference(compare.at(place, traces.model), compare.at(place, without)) is not None


@pytest.mark.parametrize("part", range(SAMPLE))
def test_a_write_that_does_not_wait_for_its_flush_would_be_found(traces: Traces, part: int) -> None:
    """Though each place for itself has its operations in order."""
    order = traces.orders[part * len(traces.orders) // SAMPLE]
    late = list(traces.model)
    late[order.flush] = dataclasses.replace(late[order.flush], end=late[order.then].begin + 1)
    assert compare.broken(traces.model, traces.model, traces.orders) == []
    assert compare.broken(traces.model, late, traces.orders) != []
