"""Measurements in the journal: the last few of each phase, from records that older releases understand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.measured import BYTES_MAX, KEPT_MAX, PHASES_MAX, added, restored
from posagent.core.model import Situation, fold, snapshot

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=40), inner, max_size=4),
    max_leaves=12,
)


def record(seconds: Any, size: Any = 0.0, phase: str = "install") -> dict[str, Any]:
    return {"state": "idle", "measured": {phase: {"seconds": seconds, "bytes": size}}}


def through_json(situation: Situation) -> Situation:
    return fold(Situation(), json.loads(json.dumps(snapshot(situation))))


def test_the_last_eight_of_a_phase_are_kept_and_survive_compaction() -> None:
    situation = Situation()
    for number in range(1, 12):
        situation = fold(situation, record(float(number), 100.0 * number))
    assert situation.measurements["install"] == tuple((float(n), 100.0 * n) for n in range(4, 12))
    assert len(situation.measurements["install"]) == KEPT_MAX
    assert situation.measured["install"] == {"seconds": 11.0, "bytes": 1100.0}, "what older releases go on with"
    assert through_json(situation).measurements == situation.measurements


def test_a_phase_without_bytes_is_measured_too() -> None:
    situation = fold(Situation(), {"state": "idle", "measured": {"activate": {"seconds": 41.5}}})
    assert situation.measurements == {"activate": ((41.5, 0.0),)}


def test_the_snapshot_of_an_older_release_gives_its_last_measurements() -> None:
    old = {"snapshot": {"state": "idle", "measured": {"install": {"seconds": 30.0, "bytes": 9.0}}}, "state": "idle"}
    assert fold(Situation(), old).measurements == {"install": ((30.0, 9.0),)}


def test_an_older_release_reads_a_snapshot_as_before() -> None:
    """It takes the fields that it knows, and `measured` has not changed."""
    data = snapshot(fold(Situation(), record(30.0, 9.0)))["snapshot"]
    assert data["measured"] == {"install": {"seconds": 30.0, "bytes": 9.0}}


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "3", None, True, 1e9, 10**400])
def test_what_is_no_duration_is_left_out(seconds: Any) -> None:
    assert fold(Situation(), record(seconds)).measurements == {}


@pytest.mark.parametrize("size", [-1, float("nan"), "3", None, False, 2 * BYTES_MAX, 10**400])
def test_what_is_no_size_is_left_out(size: Any) -> None:
    assert fold(Situation(), record(3.0, size)).measurements == {}


def test_the_number_of_phases_is_bounded() -> None:
    situation = Situation()
    for number in range(3 * PHASES_MAX):
        situation = fold(situation, record(1.0, phase=f"phase{number}"))
    assert len(situation.measurements) == PHASES_MAX
    crowd = {f"phase{number}": [[1.0, 1.0]] * 50 for number in range(3 * PHASES_MAX)}
    assert len(restored(crowd, None)) == PHASES_MAX
    assert {len(several) for several in restored(crowd, None).values()} == {KEPT_MAX}


@given(JSON, JSON)
def test_whatever_a_journal_holds_is_read_within_bounds(data: Any, measured: Any) -> None:
    kept = added(restored(data, measured), measured)
    assert len(kept) <= PHASES_MAX and all(0 < len(several) <= KEPT_MAX for several in kept.values())
    assert restored(json.loads(json.dumps(kept)), None) == kept
