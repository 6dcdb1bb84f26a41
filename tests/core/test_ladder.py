"""The ladder of help as a function: which trouble leads where, in words for both languages."""

from __future__ import annotations

from typing import Any

import pytest

from posagent.core import ladder
from posagent.core.errors import CATALOGUE, Retry
from posagent.core.ladder import LINK, STALE, Step, climbed, help_on, step
from posagent.core.machine import decide
from posagent.core.model import Command, Event, Facts, Limits, Occurrence, Situation, State, Update

UPDATE = Update(id="u1", source="https://x/b", spool="s1", target="b", previous="a", bytes_fetched=1000)


def fails(situation: Situation, code: str) -> Situation:
    occurrence = Occurrence(event=Event.FETCH_FAILED, data={"failure": {"code": code, "detail": "d"}})
    return decide(situation, occurrence, Facts()).situation


def due(situation: Situation) -> Situation:
    return decide(situation, Occurrence(event=Event.DUE), Facts(limits=Limits(fetch_attempts_max=20))).situation


def downloading(**changes: Any) -> Situation:
    return due(Situation(state=State.DOWNLOAD, update=UPDATE, **changes))


@pytest.mark.parametrize("code", sorted(LINK))
def test_trouble_on_the_way_climbs_from_the_network_to_another_way(code: str) -> None:
    situation, steps = downloading(), list[str]()
    for _ in range(8):
        situation = fails(situation, code)
        assert situation.failure is not None and situation.update is not None
        steps.append(situation.failure["step"])
        situation = due(situation)
    assert steps == ["network", *["resume"] * 3, *["other_way"] * 4]
    assert situation.update is not None and situation.update.steps == ("network", "resume", "other_way")
    assert situation.update.downloads == 0, "what was fetched over a bad link is good"


def test_a_download_that_gets_on_is_on_no_step_and_begins_below_again() -> None:
    situation = downloading()
    for _ in range(6):
        situation = due(fails(situation, "fetch_network"))
    further = Occurrence(event=Event.PROGRESSED, data={"update": {"bytes_done": 1}, "progressed": ["fetch"]})
    situation = decide(situation, further, Facts()).situation
    assert situation.failure is None and ladder.under_way(situation.failure, "") is None
    situation = fails(situation, "fetch_stalled")
    assert situation.failure is not None and situation.failure["step"] == "network"
    assert situation.update is not None and situation.update.steps == ("resume", "other_way", "network")


@pytest.mark.parametrize("code", sorted(STALE))
def test_bytes_that_do_not_come_right_by_resuming_are_given_up_once(code: str) -> None:
    situation, steps, kept = downloading(), list[str](), list[int]()
    for _ in range(7):
        situation = fails(situation, code)
        assert situation.failure is not None and situation.update is not None
        steps.append(situation.failure["step"])
        kept.append(situation.update.downloads)
        situation = due(situation)
    assert steps == ["resume", "resume", "again", "resume", "other_way", "other_way", "other_way"]
    assert kept == [0, 0, 1, 1, 1, 1, 1]
    assert situation.update is not None and situation.update.bytes_lost == 1000


@pytest.mark.parametrize("code", ["payload_corrupt", "bundle_unreadable"])
@pytest.mark.parametrize(("state", "event"), [(State.DOWNLOAD, Event.FETCH_FAILED), (State.VERIFY, Event.REJECTED)])
def test_a_corrupt_bundle_is_fetched_again_at_once_and_then_given_up(code: str, state: State, event: Event) -> None:
    situation = Situation(state=state, update=UPDATE)
    occurrence = Occurrence(event=event, data={"failure": {"code": code, "detail": "d"}})
    first = decide(situation, occurrence, Facts())
    assert first.situation.state is State.DOWNLOAD and Command.DISCARD in first.commands
    assert first.situation.failure is not None and first.situation.failure["step"] == "again"
    again = Situation(state=state, update=first.situation.update)
    ended = decide(again, occurrence, Facts()).situation
    assert ended.last_outcome is not None and ended.state is State.IDLE
    assert (ended.last_outcome["code"], ended.last_outcome["steps"]) == (code, ["again"])
    told = ladder.ended(ended.last_outcome)
    assert told is not None and (told.step, told.name, told.who) == (5, "ticket", "service")


def test_the_network_is_looked_at_on_the_first_step_and_before_somebody_is_sent_for_another_way() -> None:
    for code in LINK:
        asked = [ladder.checks_network({"code": code, "step": one.value}) for one in Step]
        assert asked == [True, False, False, True, False]
    assert not ladder.checks_network({"code": "fetch_metered", "step": "other_way"})
    assert not ladder.checks_network(None)


def test_whoever_pays_by_the_byte_is_told_of_another_way_at_once() -> None:
    assert step("fetch_metered", 1, 0) is Step.OTHER_WAY


@pytest.mark.parametrize(
    "code", sorted(set(CATALOGUE) - LINK - STALE - {"payload_corrupt", "bundle_unreadable", "fetch_metered"})
)
def test_other_trouble_has_its_own_remedy(code: str) -> None:
    assert all(step(code, attempts, downloads) is None for attempts in range(9) for downloads in range(2))


def test_only_trouble_that_is_tried_again_climbs() -> None:
    for code in LINK | STALE | ladder.DEAR:
        assert CATALOGUE[code].retry is not Retry.NEVER, code
    assert not (ladder.BY_HAND | ladder.CORRUPT) - CATALOGUE.keys()


def test_every_step_is_said_in_both_languages_and_who_acts() -> None:
    for number, one in enumerate(Step, 1):
        told = help_on(one, "7K3M-Q2XA", "dns: no answer")
        assert (told.step, told.of) == (number, 5) and told.who in ("terminal", "merchant", "service")
        assert told.text.isascii() and not told.text_zh.isascii()
        assert ("7K3M-Q2XA" in told.text) == ("7K3M-Q2XA" in told.text_zh) == (one is Step.TICKET)
        assert ("no answer" in told.text) == ("no answer" in told.text_zh)
    assert "(" not in help_on(Step.AGAIN, found="dns: no answer").text
    for lang in ("en", "zh"):
        assert len(set(ladder.step_names([*Step, "unknown"], lang))) == 5


def test_steps_are_remembered_once_each_the_last_one_last() -> None:
    assert climbed(("network", "resume"), Step.NETWORK) == ("resume", "network")


@pytest.mark.parametrize(
    ("outcome", "code", "wanted"),
    [
        *(("failed", code, True) for code in ("fetch_network", "slot_io", "signature_invalid", "interrupted")),
        *(("rolled_back", code, True) for code in ("selftest_failed", "boot_failed")),
        *(("failed", code, False) for code in ("bundle_partial", "fetch_source", "slot_changed")),
        *(("cancelled", code, False) for code in ("cancelled", "superseded")),
        ("committed", "ok", False),
    ],
)
def test_service_hears_of_what_nobody_there_can_mend(outcome: str, code: str, wanted: bool) -> None:
    told = {"outcome": outcome, "code": code, "id": "u1"}
    assert ladder.wants_ticket(told) is wanted
    assert (ladder.ended(told) is not None) is wanted
    ticketed = {**told, "ticket": {"code": "7K3M-Q2XA"}}
    assert not ladder.wants_ticket(ticketed)
    shown = ladder.ended(ticketed)
    assert shown is not None and "7K3M-Q2XA" in shown.text


def test_a_ticket_belongs_to_the_update_that_it_names() -> None:
    ended = tuple({"id": name, "outcome": "failed", "code": "slot_io", "version": "2"} for name in ("u1", "u2"))
    ticket = {"id": "u1", "code": "7K3M-Q2XA", "at": 1.0, "reason": "slot_io"}
    for state in State:
        update = None if state is State.IDLE else UPDATE
        before = Situation(state=state, update=update, outcomes=ended, failure={"code": "x"})
        decision = decide(before, Occurrence(event=Event.TICKETED, data={"ticket": ticket}), Facts())
        first, second = decision.situation.outcomes
        assert first["ticket"] == ticket and "ticket" not in second and decision.commands == ()
        assert decision.situation.update == update and decision.situation.failure == before.failure
        strange = {**ticket, "id": "u9"}
        other = decide(before, Occurrence(event=Event.TICKETED, data={"ticket": strange}), Facts()).situation
        assert other == before
