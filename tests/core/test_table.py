"""The table is total: every state and event has a row or a reason to be ignored, and every guard set ends open."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.errors import CATALOGUE
from posagent.core.machine import decide
from posagent.core.model import (
    Command,
    Event,
    Facts,
    Gate,
    Limits,
    Observation,
    Occurrence,
    Situation,
    SlotView,
    State,
    Update,
    fold,
)
from posagent.core.ports import ResetCause
from posagent.core.recovery import RECOVERY, recover
from posagent.core.states import IGNORED, SPECS, TABLE

UPDATE = Update(id="u1", source="https://x/b", spool="s1", target="b", previous="a", version="2")
BEGINS = {"id": "u2", "source": "https://x/c", "spool": "s2", "target": "b", "previous": "a", "sha256": ""}
FAILURE = {"code": "slot_io", "detail": "EIO"}
BEGINNING = {Event.UPDATE_REQUESTED, Event.ROLLBACK_REQUESTED, Event.TRIAL_FOUND, Event.STRANDED, Event.FELL_BACK}
"""Events that may bring an update with them."""


def observation(booted: str = "a", order: str = "ab", tries: int = 3, unconfirmed: bool = False) -> Observation:
    slots = {
        "a": SlotView(state="good", version="1", tries_left=3),
        "b": SlotView(state="complete", version="2", tries_left=tries, unconfirmed=unconfirmed),
    }
    return Observation(booted=booted, order=tuple(order), slots=slots)


def gate(state: State, is_open: bool) -> Gate:
    return Gate(name="power", needed_for=state, open=is_open, reason="r", reason_zh="r")


def situation_in(state: State, **changes: object) -> Situation:
    return Situation(state=state, update=None if state is State.IDLE else UPDATE, **changes)  # type: ignore[arg-type]


def test_every_state_and_event_has_a_row_or_is_ignored_and_never_both() -> None:
    pairs = {(row.source, row.on) for row in TABLE}
    for state, event in itertools.product(State, Event):
        ignored = state in IGNORED.get(event, ())
        assert ((state, event) in pairs) != ignored, (state, event)


def test_the_last_row_of_every_state_and_event_has_no_guard() -> None:
    last = {(row.source, row.on): row for row in TABLE}
    assert [pair for pair, row in last.items() if row.when is not None] == []


def test_a_row_behind_one_without_a_guard_does_not_exist() -> None:
    closed: set[tuple[State, Event]] = set()
    for row in TABLE:
        assert (row.source, row.on) not in closed, row
        if row.when is None:
            closed.add((row.source, row.on))


def test_every_code_in_the_table_is_in_the_catalogue() -> None:
    assert {row.failure for row in TABLE if row.failure} | {row.refuse for row in TABLE if row.refuse} <= set(CATALOGUE)


def test_every_state_has_a_recovery_row() -> None:
    assert set(RECOVERY) == set(State)


def test_every_guard_says_in_words_what_it_asks() -> None:
    assert all(row.when.__doc__ for row in TABLE if row.when is not None)


@given(
    state=st.sampled_from(list(State)),
    event=st.sampled_from(list(Event)),
    gates_open=st.booleans(),
    started=st.integers(0, 30),
    seen=st.sampled_from([observation(), observation("b"), observation(order="ba"), observation(order="ba", tries=0)]),
    armed=st.booleans(),
)
def test_every_decision_is_made_and_its_record_folds_to_its_situation(
    state: State, event: Event, gates_open: bool, started: int, seen: Observation, armed: bool
) -> None:
    attempts = {command.value: started for command in Command}
    situation = situation_in(state, attempts=attempts)
    if situation.update is not None:
        situation = fold(situation, {"state": state.value, "update": {"armed": armed}})
    facts = Facts(
        gates=(gate(State.DOWNLOAD, gates_open), gate(State.INSTALL, gates_open)), observation=seen, limits=Limits()
    )
    data = {"failure": FAILURE, **({"begins": BEGINS} if event in BEGINNING else {})}
    decision = decide(situation, Occurrence(event=event, data=data), facts)
    if decision.record is not None:
        assert fold(situation, decision.record) == decision.situation
        assert (decision.situation.state is State.IDLE) == (decision.situation.update is None)
    assert decision.refusal is None or decision.situation == situation


@pytest.mark.parametrize("state", list(State))
def test_cancel_is_answered_in_every_state(state: State) -> None:
    decision = decide(situation_in(state), Occurrence(event=Event.CANCEL_REQUESTED), Facts())
    if SPECS[state].critical:
        assert decision.refusal == "critical_section" and decision.record is None and decision.commands == ()
    elif state is State.IDLE:
        assert decision.refusal == "nothing_to_cancel"
    else:
        assert decision.situation.state is State.IDLE
        assert decision.situation.last_outcome is not None
        assert decision.situation.last_outcome["outcome"] == "cancelled"
        assert decision.commands == (Command.STOP, Command.REFRESH)


def test_no_write_begins_with_a_closed_gate() -> None:
    closed = Facts(gates=(gate(State.INSTALL, False),), observation=observation())
    for state in (State.READY, State.INSTALL):
        decision = decide(situation_in(state), Occurrence(event=Event.DUE), closed)
        assert decision.commands == (Command.WATCH,) and decision.situation.state is state


def test_attempts_are_counted_when_they_start_and_bounded() -> None:
    situation, facts = situation_in(State.INSTALL), Facts(observation=observation(), limits=Limits())
    for _ in range(facts.limits.install_attempts_max):
        decision = decide(situation, Occurrence(event=Event.DUE), facts)
        assert decision.commands == (Command.INSTALL,)
        situation = decision.situation
    ended = decide(situation, Occurrence(event=Event.DUE), facts)
    assert ended.situation.last_outcome is not None and ended.situation.last_outcome["outcome"] == "failed"


def test_progress_lets_a_bad_link_try_again_for_ever() -> None:
    situation, facts = situation_in(State.DOWNLOAD), Facts(limits=Limits(fetch_attempts_max=2))
    for done in range(1, 10):
        situation = decide(situation, Occurrence(event=Event.DUE), facts).situation
        further = Occurrence(event=Event.PROGRESSED, data={"update": {"bytes_done": done}, "progressed": ["fetch"]})
        situation = decide(situation, further, facts).situation
    assert situation.state is State.DOWNLOAD


def test_a_failed_arming_with_nothing_ever_started_ends_as_failed_not_as_rolled_back() -> None:
    attempts = {"arm": 9}
    situation = situation_in(State.ACTIVATE, attempts=attempts, failure={"code": "boot_env_write", "detail": "full"})
    rolling = decide(situation, Occurrence(event=Event.DUE), Facts(observation=observation())).situation
    assert rolling.state is State.ROLLBACK
    ended = decide(rolling, Occurrence(event=Event.MARKED_BAD), Facts(observation=observation())).situation
    assert ended.last_outcome is not None
    assert (ended.last_outcome["outcome"], ended.last_outcome["code"]) == ("failed", "boot_env_write")


def test_trouble_on_the_way_back_does_not_hide_why_we_go_back() -> None:
    situation = situation_in(State.ROLLBACK, failure={"code": "selftest_failed", "detail": "payment"})
    trouble = Occurrence(event=Event.MARK_FAILED, data={"failure": {"code": "boot_env_write", "detail": "x"}})
    situation = decide(situation, trouble, Facts(observation=observation("b"))).situation
    assert situation.failure == {"code": "selftest_failed", "detail": "payment"}


def test_an_update_that_gives_way_to_another_ends_as_superseded() -> None:
    situation = situation_in(State.READY, attempts={"check": 1}, outcomes=({"id": "u0", "detail": ""},))
    decision = decide(situation, Occurrence(event=Event.UPDATE_REQUESTED, data={"begins": BEGINS}), Facts())
    assert decision.record is not None and decision.commands == (Command.STOP, Command.REFRESH)
    assert {"outcome", "begins"} <= decision.record.keys() and "failure" not in decision.record
    after = fold(situation, json.loads(json.dumps(decision.record)))
    assert after == decision.situation and after.state is State.DOWNLOAD
    assert after.update is not None and after.update.id == "u2" and (after.attempts, after.failure) == ({}, None)
    assert [(one["id"], one.get("outcome"), one.get("code")) for one in after.outcomes] == [
        ("u0", None, None),
        ("u1", "cancelled", "superseded"),
    ]


def test_a_record_of_a_version_that_wrote_no_outcome_for_it_folds_as_before() -> None:
    after = fold(situation_in(State.READY), {"event": "update_requested", "state": "download", "begins": BEGINS})
    assert after.update is not None and after.update.id == "u2" and after.outcomes == ()


@pytest.mark.parametrize(
    ("waiting", "asked", "refused"),
    [("", "", False), ("", "d", False), ("d", "", False), ("d", "e", False), ("d", "d", True)],
)
def test_only_an_announced_digest_says_that_it_is_the_same_bundle(waiting: str, asked: str, refused: bool) -> None:
    situation = Situation(state=State.READY, update=dataclasses.replace(UPDATE, sha256=waiting))
    begins = {**BEGINS, "source": UPDATE.source, "sha256": asked}
    decision = decide(situation, Occurrence(event=Event.UPDATE_REQUESTED, data={"begins": begins}), Facts())
    assert (decision.refusal == "same_bundle") == refused


class TestGoingBack:
    """An engineer asks for the version in the other slot."""

    ASKED = Occurrence(event=Event.ROLLBACK_REQUESTED, data={"begins": {**BEGINS, "source": "", "goes_back": True}})
    OPEN = (gate(State.INSTALL, True), gate(State.ACTIVATE, True))

    @staticmethod
    def seen(state: str = "good", counter: int = 5, running: int = 5, floor: int = 5) -> Observation:
        slots = {
            "a": SlotView(state="good", version="2", counter=running, tries_left=3),
            "b": SlotView(state=state, version="1", counter=counter, tries_left=3),
        }
        return Observation(booted="a", order=("a", "b"), slots=slots, floor=floor)

    def waiting(self, **changes: object) -> Situation:
        update = dataclasses.replace(UPDATE, source="", goes_back=True, **changes)  # type: ignore[arg-type]
        return Situation(state=State.READY, update=update)

    @pytest.mark.parametrize(
        ("seen", "code"),
        [
            (seen("bad"), "rollback_no_version"),
            (seen("writing"), "rollback_no_version"),
            (seen("complete"), "rollback_no_version"),
            (seen(counter=4), "rollback_floor"),
            # the floor is about to rise to what runs: a rollback in between must not slip through
            (seen(counter=4, floor=4), "rollback_floor"),
            (None, "rollback_no_version"),
        ],
    )
    def test_is_refused_where_the_other_version_is_not_good_or_below_the_floor(
        self, seen: Observation | None, code: str
    ) -> None:
        decision = decide(Situation(), self.ASKED, Facts(observation=seen))
        assert (decision.refusal, decision.record, decision.commands) == (code, None, ())

    @pytest.mark.parametrize("counter", [5, 6])
    def test_waits_in_ready_for_the_gates_and_leaves_it_for_the_restart_without_a_write(self, counter: int) -> None:
        facts = Facts(observation=self.seen(counter=counter), gates=(gate(State.INSTALL, False),))
        decision = decide(Situation(), self.ASKED, facts)
        assert (decision.situation.state, decision.commands) == (State.READY, (Command.REFRESH,))
        due = Occurrence(event=Event.DUE)
        waits = decide(decision.situation, due, facts)
        assert (waits.situation.state, waits.commands, waits.record) == (State.READY, (Command.WATCH,), None)
        goes = decide(decision.situation, due, dataclasses.replace(facts, gates=self.OPEN))
        assert (goes.situation.state, goes.commands) == (State.ACTIVATE, (Command.WATCH,))
        held = decide(goes.situation, due, dataclasses.replace(facts, gates=(gate(State.ACTIVATE, False),)))
        assert held.commands == (Command.WATCH,) and held.record is None
        arms = decide(goes.situation, due, dataclasses.replace(facts, gates=self.OPEN))
        assert arms.commands == (Command.ARM,)

    @pytest.mark.parametrize("state", [state for state in State if state is not State.IDLE])
    def test_is_refused_while_an_update_is_under_way(self, state: State) -> None:
        decision = decide(situation_in(state), self.ASKED, Facts(observation=self.seen()))
        assert decision.refusal == ("critical_section" if SPECS[state].critical else "busy")
        assert decision.record is None and decision.commands == ()

    def test_gives_way_to_no_update_and_may_be_cancelled(self) -> None:
        asked = Occurrence(event=Event.UPDATE_REQUESTED, data={"begins": BEGINS})
        assert decide(self.waiting(), asked, Facts(observation=self.seen())).refusal == "busy"
        ended = decide(self.waiting(), Occurrence(event=Event.CANCEL_REQUESTED), Facts(observation=self.seen()))
        outcome = ended.situation.last_outcome
        assert outcome is not None and (outcome["outcome"], outcome["kind"]) == ("cancelled", "rollback")

    def test_that_cannot_be_started_leaves_the_other_version_good(self) -> None:
        facts, due = Facts(observation=self.seen(), gates=self.OPEN), Occurrence(event=Event.DUE)
        trouble = {"code": "boot_env_write", "detail": "full"}
        situation = dataclasses.replace(
            self.waiting(), state=State.ACTIVATE, attempts={"arm": facts.limits.arm_attempts_max}, failure=trouble
        )
        decision = decide(situation, due, facts)
        assert (decision.situation.state, decision.commands) == (State.ROLLBACK, (Command.DISARM,))
        assert decide(decision.situation, due, facts).commands == (Command.DISARM,), "also after a power cut"
        ended = decide(decision.situation, Occurrence(event=Event.DISARMED), facts).situation
        assert ended.state is State.IDLE and ended.last_outcome is not None
        assert (ended.last_outcome["outcome"], ended.last_outcome["code"]) == ("failed", "boot_env_write")

    def test_to_a_version_that_was_started_and_failed_condemns_it(self) -> None:
        situation = dataclasses.replace(self.waiting(tried=True), state=State.SELFTEST)
        failed = Occurrence(event=Event.TESTS_FAILED, data={"failure": {"code": "selftest_failed", "detail": "x"}})
        decision = decide(situation, failed, Facts(observation=self.seen()))
        assert (decision.situation.state, decision.commands) == (State.ROLLBACK, (Command.MARK_BAD,))
        again = decide(decision.situation, Occurrence(event=Event.DUE), Facts(observation=self.seen()))
        assert again.commands == (Command.MARK_BAD,)


class TestRecovery:
    @pytest.mark.parametrize("state", list(State))
    @pytest.mark.parametrize("seen", [observation(), observation("b"), observation("b", unconfirmed=True)])
    def test_every_start_leads_to_an_event_the_table_knows(self, state: State, seen: Observation) -> None:
        occurrence = recover(situation_in(state), seen)
        assert state not in IGNORED.get(occurrence.event, ()), (state, occurrence.event)
        decide(situation_in(state), occurrence, Facts(observation=seen))

    def test_a_fall_back_of_the_bootloader_becomes_a_rollback(self) -> None:
        seen = observation(order="ba", tries=0)
        seen = dataclasses.replace(seen, reset=ResetCause.WATCHDOG, log=("watchdog: no keepalive",))
        situation = situation_in(State.ACTIVATE)
        decision = decide(situation, recover(situation, seen), Facts(observation=seen))
        assert decision.situation.state is State.ROLLBACK
        assert decision.situation.failure == {
            "code": "boot_failed",
            "detail": "hung, reset by the watchdog, last stage activate",
            "cause": "watchdog",
            "stage": "activate",
            "log": ["watchdog: no keepalive"],
        }

    @pytest.mark.parametrize("state", [State.ACTIVATE, State.SELFTEST])
    def test_tries_that_were_used_up_without_a_trace_are_given_again_but_not_for_ever(self, state: State) -> None:
        """Power that goes three times before the new version gets far enough to look."""
        seen = dataclasses.replace(observation(order="ba", tries=0), reset=ResetCause.REBOOT, traceless=True)
        update = dataclasses.replace(UPDATE, armed=True, boot_id="first")
        situation, times = Situation(state=state, update=update, attempts={"arm": 1, "reboot": 1}), 0
        while (decision := decide(situation, recover(situation, seen), Facts(observation=seen))).situation.state is (
            State.ACTIVATE
        ):
            situation, times = decision.situation, times + 1
            assert decide(situation, Occurrence(event=Event.DUE), Facts(observation=seen)).commands == (Command.ARM,)
            seen = dataclasses.replace(seen, boot_id=f"again-{times}")
        assert (decision.situation.state, times) == (State.ROLLBACK, Facts().limits.return_attempts_max)
        assert decision.situation.failure is not None and decision.situation.failure["cause"] == "unknown"

    def test_an_orderly_restart_of_the_new_version_itself_is_no_lost_power(self) -> None:
        seen, situation = observation(order="ba", tries=0), situation_in(State.ACTIVATE)
        seen = dataclasses.replace(seen, reset=ResetCause.REBOOT)
        decision = decide(situation, recover(situation, seen), Facts(observation=seen))
        assert decision.situation.state is State.ROLLBACK and decision.situation.failure is not None
        assert decision.situation.failure["cause"] == "reboot"

    @pytest.mark.parametrize("traceless", [True, False])
    def test_a_good_version_that_was_left_without_a_trace_is_returned_to(self, traceless: bool) -> None:
        seen = observation(order="ba", tries=0)
        slots = {**seen.slots, "b": dataclasses.replace(seen.slots["b"], state="good")}
        seen = dataclasses.replace(seen, slots=slots, reset=ResetCause.REBOOT, traceless=traceless)
        found = recover(Situation(), seen)
        assert found.event is (Event.STRANDED if traceless else Event.FELL_BACK)
        assert found.data["failure"]["cause"] == ("unknown" if traceless else "reboot")

    def test_an_armed_trial_that_did_not_restart_yet_is_restarted(self) -> None:
        seen, situation = observation(order="ba"), situation_in(State.ACTIVATE)
        situation = decide(situation, recover(situation, seen), Facts(observation=seen)).situation
        decision = decide(situation, Occurrence(event=Event.DUE), Facts(observation=seen))
        assert decision.commands == (Command.REBOOT,)

    def test_an_unarmed_trial_is_armed_again(self) -> None:
        seen, situation = observation(), situation_in(State.ACTIVATE)
        situation = decide(situation, recover(situation, seen), Facts(observation=seen)).situation
        decision = decide(situation, Occurrence(event=Event.DUE), Facts(observation=seen))
        assert decision.commands == (Command.ARM,)

    def test_an_unconfirmed_trial_without_a_journal_is_tested_not_trusted(self) -> None:
        seen = observation("b", order="ba", unconfirmed=True)
        decision = decide(Situation(), recover(Situation(), seen), Facts(observation=seen))
        assert decision.situation.state is State.SELFTEST and decision.commands == (Command.RUN_TESTS,)

    def test_a_foreign_change_of_slots_ends_the_update_and_keeps_the_booted_slot(self) -> None:
        seen, situation = observation("b"), situation_in(State.READY)
        decision = decide(situation, recover(situation, seen), Facts(observation=seen))
        assert decision.situation.last_outcome is not None
        assert decision.situation.last_outcome["code"] == "slot_changed"

    def test_the_agent_alone_may_start_again_before_a_good_version_gets_another_trial(self) -> None:
        """Power cuts have used up its tries; between that record and the arming the agent is killed."""
        seen = observation(order="ba", tries=0)
        seen = dataclasses.replace(seen, reset=ResetCause.POWER, boot_id="second")
        update = dataclasses.replace(UPDATE, armed=True, boot_id="first")
        situation = Situation(state=State.SELFTEST, update=update, attempts={"arm": 1, "reboot": 1})
        facts = Facts(observation=seen)
        for _ in range(3):
            situation = decide(situation, recover(situation, seen), facts).situation
            assert situation.state is State.ACTIVATE
        assert situation.update is not None and situation.update.power_cycles == 1, "it was one power cut"
        assert decide(situation, Occurrence(event=Event.DUE), facts).commands == (Command.ARM,)


class TestMarksThatCanNeverBeMade:
    NEVER = Occurrence(event=Event.MARK_FAILED, data={"failure": {"code": "slot_not_complete", "detail": "b is odd"}})
    AGAIN = Occurrence(event=Event.MARK_FAILED, data={"failure": {"code": "boot_env_write", "detail": "EIO"}})

    @pytest.mark.parametrize("state", [State.COMMIT, State.ROLLBACK])
    def test_what_may_yet_succeed_is_tried_again(self, state: State) -> None:
        decision = decide(situation_in(state), self.AGAIN, Facts(observation=observation("b")))
        assert (decision.situation.state, decision.commands) == (state, (Command.WATCH,))

    def test_a_version_that_can_never_be_confirmed_is_left(self) -> None:
        decision = decide(situation_in(State.COMMIT), self.NEVER, Facts(observation=observation("b")))
        assert (decision.situation.state, decision.commands) == (State.ROLLBACK, (Command.MARK_BAD,))
        assert decision.situation.failure == {"code": "slot_not_complete", "detail": "b is odd"}

    @pytest.mark.parametrize(
        ("booted", "outcome", "code", "does"),
        [
            ("a", "rolled_back", "selftest_failed", (Command.DISCARD, Command.SETTLE)),
            ("b", "failed", "no_way_back", (Command.DISCARD, Command.REFRESH)),
        ],
    )
    def test_a_rollback_that_can_never_be_finished_ends_with_what_runs(
        self, booted: str, outcome: str, code: str, does: tuple[Command, ...]
    ) -> None:
        why = {"code": "selftest_failed", "detail": "payment", "log": ["x"]}
        situation = Situation(state=State.ROLLBACK, update=dataclasses.replace(UPDATE, tried=True), failure=why)
        decision = decide(situation, self.NEVER, Facts(observation=observation(booted)))
        ended = decision.situation.last_outcome
        assert decision.situation.state is State.IDLE and decision.commands == does and ended is not None
        assert (ended["outcome"], ended["code"], ended["detail"]) == (outcome, code, "payment; b is odd")
        assert ended["log"] == ["x"], "with the evidence"
