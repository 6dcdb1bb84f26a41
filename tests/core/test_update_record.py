"""The record of an update: what is kept of it while it goes on, how small it stays, and what never stands in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posagent.core import update_record
from posagent.core.audit import LINE_BYTES_MAX, line_of, plain
from posagent.core.machine import decide
from posagent.core.model import (
    Event,
    Facts,
    Observation,
    Occurrence,
    Situation,
    SlotView,
    State,
    Update,
    fold,
    snapshot,
)
from posagent.core.update_record import RECORD_BYTES_MAX, shown
from tests.records import COMMITTED, ROLLED_BACK, Outcome, any_outcome, outcomes_with_secrets, secrets_in

BEGINS = {"id": "u1", "source": "https://x/b", "spool": "s1", "target": "b", "previous": "a", "version": "2"}
WINDOW = {"window": {"s": 60.0, "why": "the maintenance window"}}


class Story:
    """An update decided event by event, at given moments."""

    def __init__(self, situation: Situation | None = None) -> None:
        self.situation = situation or Situation()
        self.records: list[Mapping[str, Any]] = []

    def hear(self, event: Event, at: float, waited: Mapping[str, Mapping[str, Any]] | None = None, **data: Any) -> None:
        seen = Observation(
            booted="b", order=("b", "a"), slots={"a": SlotView(state="good"), "b": SlotView(state="good", digest="cd")}
        )
        facts = Facts(now=at, observation=seen, waited=waited or {})
        decision = decide(self.situation, Occurrence(event=event, data=data), facts)
        assert decision.record is not None
        self.records.append(json.loads(json.dumps(decision.record)))
        self.situation = decision.situation

    @property
    def last(self) -> dict[str, Any]:
        assert self.situation.last_outcome is not None
        return shown(self.situation.last_outcome, "pos-1")


def ended(begun: Story | None = None) -> Story:
    story = begun or Story()
    story.hear(Event.UPDATE_REQUESTED, 1000.0, begins={**BEGINS, "requested_by": "uid 7", "requested_at": 1000.0})
    story.hear(Event.FETCHED, 1040.0, update={"sha256": "ab"})
    story.hear(Event.ACCEPTED, 1042.0, update={"digest": "cd", "kind": "delta"})
    story.hear(Event.DEFER_REQUESTED, 1050.0, WINDOW, update={"deferrals": 1, "deferred_by": "uid 8"})
    story.hear(Event.CONSENT_GIVEN, 1100.0, update={"consent_by": "uid 9", "consent_at": 1100.0})
    story.hear(Event.DUE, 1200.0, {**WINDOW, "payment": {"s": 5.0, "why": "acme-pay: a card is in the reader"}})
    story.hear(Event.SLOT_COMPLETE, 1230.0)
    story.hear(Event.BOOTED_TARGET, 1260.0)
    story.hear(Event.TESTS_PASSED, 1268.0)
    story.hear(Event.MARKED_GOOD, 1269.0)
    return story


def test_an_update_ends_with_its_phases_gates_people_and_digests() -> None:
    told = ended().last
    assert (told["outcome"], told["code"], told["result"], told["terminal"]) == ("committed", "ok", "SUCC", "pos-1")
    assert told["phases"] == {
        "download": 40.0,
        "verify": 2.0,
        "ready": 158.0,
        "install": 30.0,
        "activate": 30.0,
        "selftest": 8.0,
        "commit": 1.0,
    }
    assert sum(told["phases"].values()) == told["ended"] - told["began"], "nothing is between the phases"
    assert told["gates"] == [
        {"gate": "window", "seconds": 120.0, "why": "the maintenance window"},
        {"gate": "payment", "seconds": 5.0, "why": "acme-pay: a card is in the reader"},
    ]
    assert (told["by"], told["consent"]) == ("uid 7", {"by": "uid 9", "at": 1100.0})
    assert (told["deferrals"], told["deferred_by"]) == (1, "uid 8")
    assert told["digests"] == {"bundle": "ab", "image": "cd", "slot": "cd"}
    assert update_record.outage_s(told) == 39.0
    held = [{"gate": "payment_restart", "seconds": 25.0}, {"gate": "power_restart", "seconds": 9.0}]
    assert update_record.outage_s({**told, "gates": held}) == 14.0, "payments went on meanwhile"


def test_a_record_survives_a_restart_in_the_middle_and_the_compaction_of_the_journal() -> None:
    story = ended()
    situation = Situation()
    for record in story.records[:5]:
        situation = fold(situation, record)
    situation = fold(Situation(), json.loads(json.dumps(snapshot(situation))))
    for record in story.records[5:]:
        situation = fold(situation, record)
    assert situation.last_outcome is not None
    assert shown(situation.last_outcome, "pos-1") == story.last


def test_an_older_release_reads_the_journal_as_before() -> None:
    """It leaves out what it does not know: from all records, what it knows is the same."""
    unknown = {"phases", "entered_at", "waited", "measures", "deferred_by"}

    def older(record: Mapping[str, Any]) -> dict[str, Any]:
        parts = {name: record[name] for name in ("begins", "update") if name in record}
        known = {part: {k: v for k, v in told.items() if k not in unknown} for part, told in parts.items()}
        return {**record, **known}

    with_all, without = Situation(), Situation()
    for record in ended().records[:-1]:
        with_all, without = fold(with_all, record), fold(without, older(record))
    assert with_all.update is not None and without.update is not None
    forgotten: dict[str, Any] = {name: getattr(without.update, name) for name in unknown}
    assert dataclasses.replace(with_all, update=dataclasses.replace(with_all.update, **forgotten)) == without


def test_what_an_older_release_began_has_the_phases_that_were_measured() -> None:
    begun = Update(**{**BEGINS, "took_s": {"activate": 21.5}, "requested_at": 1000.0})  # type: ignore[arg-type]
    story = Story(Situation(state=State.ACTIVATE, update=begun))
    story.hear(Event.BOOTED_TARGET, 1260.0)
    story.hear(Event.TESTS_PASSED, 1268.0)
    story.hear(Event.MARKED_GOOD, 1269.0)
    assert story.last["phases"] == {"activate": 21.5, "selftest": 8.0, "commit": 1.0}


def test_where_the_clock_was_set_the_measured_time_counts() -> None:
    story = Story()
    story.hear(Event.UPDATE_REQUESTED, 5000.0, begins=BEGINS)
    story.hear(Event.FETCHED, 10.0, update={"took_s": {"download": 33.0}})
    story.hear(Event.CANCEL_REQUESTED, 9.0)
    assert story.last["phases"] == {"download": 33.0}, "of the rest nothing is known"


def test_the_one_that_takes_another_ones_place_begins_anew() -> None:
    story = Story()
    story.hear(Event.UPDATE_REQUESTED, 1000.0, begins=BEGINS)
    story.hear(Event.FETCHED, 1010.0)
    story.hear(Event.ACCEPTED, 1020.0)
    story.hear(Event.UPDATE_REQUESTED, 1080.0, WINDOW, begins={**BEGINS, "id": "u2", "sha256": "ef"})
    assert story.last["gates"][0]["seconds"] == 60.0 and story.last["phases"]["ready"] == 60.0
    assert story.situation.update is not None
    assert (story.situation.update.waited, story.situation.update.phases) == ({}, {})
    assert story.situation.update.entered_at == 1080.0


def test_failed_tests_stand_in_the_record_of_what_was_rolled_back() -> None:
    story = Story()
    story.hear(Event.UPDATE_REQUESTED, 1000.0, begins={**BEGINS, "sha256": "x"})
    story.situation = dataclasses.replace(story.situation, state=State.SELFTEST)
    checks = [
        {"name": "payment", "passed": True, "seconds": 0.2},
        {"name": "printer", "passed": False, "detail": "dead"},
    ]
    story.hear(Event.TESTS_FAILED, 1010.0, failure={"code": "selftest_failed", "checks": checks})
    assert story.situation.failure is not None
    record = update_record.of(story.situation.update, State.ROLLBACK, 1.0, Facts(), story.situation.failure)  # type: ignore[arg-type]
    assert [(one["name"], one["passed"]) for one in record["measures"]] == [("payment", True), ("printer", False)]
    assert [one["detail"] for one in shown(ROLLED_BACK, "t")["measures"]] == ["", "no answer"]
    of_old = {name: value for name, value in ROLLED_BACK.items() if name != "checks"}
    assert [one["passed"] for one in shown(of_old, "t")["measures"]] == [True, False], "evidence of old ones goes"


def test_what_became_of_the_merchants_data_is_on_record() -> None:
    story = Story()
    story.hear(Event.UPDATE_REQUESTED, 1000.0, begins=BEGINS)
    story.hear(Event.FETCHED, 1010.0, update={"backup": "20261129-2.0.0", "migrated": "1>2"})
    story.hear(Event.CANCEL_REQUESTED, 1020.0)
    assert (story.last["backup"], story.last["migrated"]) == ("20261129-2.0.0", "1>2")


def test_a_measure_is_shown_with_its_figure_and_its_limit() -> None:
    slow = {"name": "payment", "passed": False, "measure": "p95_ms", "value": 912.25, "limit": 600, "detail": "slow"}
    (told,) = shown({**ROLLED_BACK, "checks": [slow]}, "t")["measures"]
    assert told == {**slow, "seconds": 0}
    numbers = {"value": 4222222222222, "limit": "4222222222222", "measure": True}
    (told,) = shown({**ROLLED_BACK, "checks": [{**slow, **numbers}]}, "t")["measures"]
    assert (told["value"], told["limit"], told["measure"]) == (0, "[card]", ""), "no number is as long as a card's"


def test_warnings_say_why_a_success_is_not_plain() -> None:
    told = shown({**COMMITTED, "record": {"refused": "codec_differs", "downloads": 1, "power_cycles": 2}}, "t")
    assert (told["result"], told["warnings"]) == ("WARN", ["delta_refused", "fetched_again", "power_cycles"])


_texts = st.text(max_size=200)


@given(
    st.dictionaries(_texts, st.fixed_dictionaries({"s": st.floats(0, 1e6), "why": _texts}), max_size=30),
    st.lists(
        st.fixed_dictionaries({"name": _texts, "passed": st.booleans(), "seconds": st.floats(0, 100)}), max_size=40
    ),
    _texts,
)
def test_a_record_stays_small_whatever_was_said(waited: Any, measures: Any, said: str) -> None:
    update = Update(**BEGINS, requested_by=said * 30, reason=said, measures=tuple(measures), phases={"ready": 5.0})  # type: ignore[arg-type]
    record = update_record.of(update, State.READY, 0.0, Facts(waited=waited), {})
    assert len(json.dumps(record)) <= RECORD_BYTES_MAX
    assert record["phases"] == {"ready": 5.0}, "what is needed most stays"


@given(outcomes_with_secrets())
def test_no_card_number_track_or_key_stands_in_a_record(outcome: Outcome) -> None:
    told = json.dumps(shown(outcome, "pos-1"), ensure_ascii=False)
    assert secrets_in(told) == []
    assert secrets_in(json.dumps(update_record.for_audit(outcome))) == []


@given(any_outcome)
def test_a_record_is_total_over_whatever_a_journal_holds(outcome: Outcome) -> None:
    told = shown(outcome, "pos-1")
    assert json.loads(json.dumps(told)) == told
    assert told.keys() == shown(ROLLED_BACK, "pos-1").keys()


@given(outcomes_with_secrets() | any_outcome)
def test_the_line_in_the_audit_log_is_never_cut(outcome: Outcome) -> None:
    fields = {name: plain(value) for name, value in update_record.for_audit(outcome).items()}
    assert b'"cut"' not in line_of(0, "0" * 64, {"at": 1.0, "event": "update_ended", **fields})
    assert LINE_BYTES_MAX >= 2048
