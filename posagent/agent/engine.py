"""The engine: event -> facts -> decide -> journal -> commands, one at a time, synchronously.

Owns: the order of things. An event that arrives while another is being decided waits its turn.
Rules: nothing is done before the decision is durable. When the journal cannot be written the error goes up: a person
who asked is told, otherwise the process ends and the next start recovers.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from posagent.agent import foretelling
from posagent.agent.conditions import Conditions, Supply
from posagent.agent.conditions import Progress as Progress
from posagent.agent.journal import Journal
from posagent.core import drift, estimate
from posagent.core.errors import PosagentError
from posagent.core.estimate import Forecast, Running
from posagent.core.machine import decide
from posagent.core.model import (
    Command,
    Decision,
    Event,
    Facts,
    Gate,
    Limits,
    Observation,
    Occurrence,
    Situation,
    State,
)
from posagent.core.ports import Clock, PowerReading
from posagent.core.recovery import recover
from posagent.core.states import SPECS
from posagent.core.window import Plan

PHASE_SECONDS_MAX = 3600.0
FORETELL_S = 10.0
JOURNALLED = (Command.FETCH, Command.INSTALL)
"""Work that goes on after a power cut where it was; of other work nothing is worth a decision on the way."""
MEASURED: Mapping[Event, State] = {
    Event.FETCHED: State.DOWNLOAD,
    Event.ACCEPTED: State.VERIFY,
    Event.SLOT_COMPLETE: State.INSTALL,
    Event.TESTS_PASSED: State.SELFTEST,
    Event.MARKED_GOOD: State.COMMIT,
}
TELL_S = 0.5
STEPS = 20
"""A download or install journals its progress this many times at most."""
STEP_BYTES = 16 << 20
"""As often is it journalled where nobody knows how long the whole is."""


class Actors(Protocol):
    """What carries out commands; see agent.actors."""

    def do(self, command: Command, after: Event, situation: Situation) -> None: ...


class Engine:
    """Holds the journal and the present observation; everything else is derived."""

    def __init__(
        self,
        *,
        journal: Journal,
        conditions: Conditions,
        clock: Clock,
        limits: Limits,
        on_change: Callable[[Decision], None],
        on_progress: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._conditions = conditions
        self._clock = clock
        self._limits = limits
        self._on_change = on_change
        self._on_progress = on_progress
        self._told_at = 0.0
        self._waiting: deque[Occurrence] = deque()
        self._deciding = False
        self._entered: tuple[State, float] | None = None
        self._held_at: float | None = None
        """Since when the present work waits for a gate."""
        self._working = False
        self._told: tuple[str, Forecast, tuple[str, str] | None] | None = None
        self._began = clock.monotonic()
        self._before = 0
        """Bytes that were done before this process went on with them."""
        self._whole = True
        self.problems: dict[str, PosagentError] = {}
        if journal.damage is not None:
            self.report_problem(PosagentError("journal_damaged", journal.damage))
        self.actors: Actors | None = None
        self.observation: Observation | None = None
        self.progress = Progress()
        self.quiesced = False  # the data is being read for a backup: no payment may begin

    @property
    def situation(self) -> Situation:
        return self._journal.situation

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def critical(self) -> bool:
        return SPECS[self.situation.state].critical

    @property
    def uninterruptible(self) -> bool:
        """Whether a stop or a shutdown has to wait; not while a write or the restart has yet to begin."""
        return self.critical and (self._working or self.situation.state not in (State.INSTALL, State.ACTIVATE))

    @property
    def waits_for(self) -> tuple[Gate, ...]:
        """The closed gates for which the present work waits; work that has begun waits for none."""
        if self._held_at is None:
            return ()
        return self._facts().closed_gates(self.situation.state)

    @property
    def waits_s(self) -> float:
        """Seconds for which a gate that the present work waits for stays closed for certain."""
        moments = [gate.opens_at for gate in self.waits_for if gate.opens_at is not None]
        return max((moment - self.now() for moment in moments), default=0.0)

    @property
    def waiting(self) -> tuple[Occurrence, ...]:
        """Events that wait for the decision under way."""
        return tuple(self._waiting)

    def report_problem(self, problem: PosagentError) -> None:
        """Trouble that belongs to no update; shown in the status until the process ends or it is solved."""
        self.problems[problem.code] = problem

    def quiesce(self, quiesced: bool) -> None:
        if quiesced is not self.quiesced:
            self.quiesced = quiesced
            self._on_progress()

    def now(self) -> float:
        return self._clock.wall()

    @property
    def power(self) -> PowerReading:
        """As it was when the gates were last asked."""
        return self._conditions.reading

    def supply(self) -> Supply:
        """Battery and charger, and what the update in hand, or one that would begin now, needs of them."""
        return self._conditions.supply(self.situation, self._running())

    @property
    def fetching(self) -> bool:
        """Whether the fetcher is at work for the update, or about to be."""
        return self.situation.state is State.DOWNLOAD and self._working

    def gates(self) -> tuple[Gate, ...]:
        return self._conditions.gates(self.situation, self.observation, self._running())

    def forecast(self, work: Mapping[str, float] | None = None) -> Forecast:
        """How long the update still takes; in `idle`, one with so much `work` (bytes) would."""
        return self._conditions.forecast(self.situation, self._running(), work)

    def forecast_back(self) -> Forecast:
        """How long going back to the other slot's version would take."""
        return self._ahead(dataclasses.replace(self.situation, state=State.READY, update=foretelling.GOING_BACK))

    def _ahead(self, situation: Situation) -> Forecast:
        return self._conditions.forecast(situation, Running(), None)

    def moved(self, forecast: Forecast) -> tuple[str, str] | None:
        """Why the estimate moved by more than a quarter since it was last told, in English and Chinese."""
        update = self.situation.update
        if update is None:
            return None
        if self._told is None or self._told[0] != update.id:
            self._told = (update.id, forecast, None)
        elif reason := drift.moved(self._told[1], forecast):
            self._told = (update.id, forecast, reason)
        return self._told[2]

    @property
    def clock_known(self) -> bool:
        """Whether the clock may be right."""
        return self._conditions.clock_known(self.situation)

    def plan(self) -> Plan | None:
        """When the installation begins, as far as the calendar decides."""
        return self._conditions.plan(self.situation, self._running())

    def since_s(self) -> float | None:
        """For how many seconds the present state has lasted, as far as this process has seen it."""
        if self._entered is None or self._entered[0] is not self.situation.state:
            return None
        return self._clock.monotonic() - self._began

    def look_again(self) -> None:
        """Something outside may have opened a gate: whoever waits for one looks at once."""
        if self._held_at is not None and not self._deciding:
            self.post(Occurrence(event=Event.DUE))

    def _running(self) -> Running:
        """How far the present phase is, without what it waited for gates."""
        if self._entered is None or self._entered[0] is not self.situation.state:
            return Running()
        until = self._clock.monotonic() if self._held_at is None else self._held_at
        update, told = self.situation.update, self.progress
        done, before = float(told.bytes_done), float(min(self._before, told.bytes_total) if update is not None else 0)
        if self.situation.state is State.INSTALL:
            done = estimate.of_both_passes(done, told.bytes_total, told.step == "read_back")
            before = estimate.of_both_passes(before, told.bytes_total, False)
        return Running(
            elapsed_s=max(until - self._entered[1], 0.0),
            units_done=done,
            units_total=told.bytes_total,
            units_before=before,
        )

    def start(self, seen: Observation) -> None:
        """Begin after a start of the process: the hardware has been looked at."""
        self.observation = seen
        occurrence = recover(self.situation, seen)
        if occurrence.event is Event.BOOTED_TARGET:
            occurrence = self._with_boot_time(occurrence)
        self.post(occurrence)

    def post(self, occurrence: Occurrence) -> Decision | None:
        """Decide, journal, act. Returns the decision, or None when it has to wait for one under way."""
        self._waiting.append(occurrence)
        if self._deciding:
            return None
        self._deciding = True
        first: Decision | None = None
        try:
            while self._waiting:
                decision = self._step(self._waiting.popleft())
                first = first or decision
        finally:
            self._deciding = False
        return first

    def would(self, occurrence: Occurrence) -> Decision:
        """What would follow from the event, without doing it."""
        return decide(self.situation, occurrence, self._facts())

    def _facts(self) -> Facts:
        return Facts(now=self.now(), gates=self.gates(), observation=self.observation, limits=self._limits)

    def _step(self, occurrence: Occurrence) -> Decision:
        before = self.situation
        told = foretelling.added(self._measured(occurrence), before, self._ahead)
        decision = decide(before, told, self._facts())
        if decision.record is not None:
            self._journal.append(decision.record)
        self._keep_time(occurrence.event, before.state, decision)
        self._on_change(decision)
        assert self.actors is not None
        for command in decision.commands:
            self.actors.do(command, occurrence.event, before if decision.situation.update is None else self.situation)
        if decision.record is not None and decision.situation.state is State.IDLE:
            self._journal.compact()
        return decision

    def _keep_time(self, event: Event, before: State, decision: Decision) -> None:
        """When the present state was entered. Waiting for a gate does not count: a row without a record at DUE."""
        now, state = self._clock.monotonic(), decision.situation.state
        if decision.commands:
            self._working = decision.commands != (Command.WATCH,)
        if state is not before:
            self._entered, self._held_at, self._began, self._before = (state, now), None, now, 0
            self.progress = Progress()
        elif event is Event.DUE and decision.record is None and decision.commands:
            self._held_at = now if self._held_at is None else self._held_at
        elif event is Event.DUE and self._held_at is not None:
            if self._entered is not None:
                self._entered = (state, self._entered[1] + now - self._held_at)
            self._held_at = None

    def report_progress(self, told: Progress, command: Command, *, whole: bool = True) -> None:
        """A worker got so far: shown at once, journalled in a few steps so that attempts count from there. What is done
        again, because a power cut took it, is no progress. Where it does not do the `whole` of the work, the
        announcement says how much that is, or nobody."""
        bytes_done, bytes_total = told.bytes_done, told.bytes_total
        if not whole:
            expected = self.situation.update.bytes_expected if self.situation.update is not None else 0
            bytes_total = max(bytes_total, expected) if expected else 0
        if self.progress.bytes_total == 0 and self.situation.attempts.get(command.value):
            self._before = bytes_done  # whoever goes on begins with what was there
        self.progress = dataclasses.replace(told, bytes_total=bytes_total)
        update = self.situation.update
        if command is Command.FETCH:
            self._conditions.downloaded(self.situation, bytes_done, anew=whole and not self._whole)
            self._whole = whole
            self._foretell_download()
        known = update.bytes_done if update is not None else 0
        step_bytes = bytes_total / STEPS if bytes_total else STEP_BYTES
        further = bytes_done - known > step_bytes or (bytes_total and bytes_done == bytes_total > known)
        if further and command in JOURNALLED:
            data = {
                "update": {"bytes_done": bytes_done, "bytes_total": bytes_total},
                "progressed": [command.value],
            }
            self.post(Occurrence(event=Event.PROGRESSED, data=data))
        elif self._clock.monotonic() - self._told_at >= TELL_S:
            self._told_at = self._clock.monotonic()
            self._on_progress()

    def _foretell_download(self) -> None:
        """After ten seconds the link has shown itself: what is foretold then is held against what it takes."""
        update, running = self.situation.update, self._running()
        if update is None or "download" in update.predicted or running.elapsed_s < FORETELL_S:
            return
        left = self.forecast().phases["download"]
        told = {"at": running.elapsed_s, "p50": running.elapsed_s + left.p50, "p90": running.elapsed_s + left.p90}
        changes = {"predicted": {**update.predicted, "download": foretelling.rounded(told)}}
        self.post(Occurrence(event=Event.PROGRESSED, data={"update": changes}))

    def _measured(self, occurrence: Occurrence) -> Occurrence:
        """Adds how long the phase took, for the estimate of the next update."""
        state = MEASURED.get(occurrence.event)
        if state is None or self._entered is None or self._entered[0] is not state:
            return occurrence
        seconds = round(self._clock.monotonic() - self._entered[1], 3)
        size = float(max(self.progress.bytes_total - self._before, 0))
        return self._with_time(occurrence, state, seconds, size)

    def _with_time(self, occurrence: Occurrence, state: State, seconds: float, size: float = 0.0) -> Occurrence:
        """With what the phase took, for the next estimate and to be held against the last one."""
        update, data = self.situation.update, dict(occurrence.data)
        data["measured"] = {state.value: {"seconds": seconds, "bytes": size}}
        if update is not None:
            data["update"] = {**data.get("update", {}), "took_s": {**update.took_s, state.value: seconds}}
        return Occurrence(event=occurrence.event, data=data)

    def _with_boot_time(self, occurrence: Occurrence) -> Occurrence:
        """Adds how long the restart took by the wall clock, where that is plausible."""
        update = self.situation.update
        if self.situation.state is not State.ACTIVATE or update is None or not update.armed_at:
            return occurrence
        seconds = self.now() - update.armed_at
        if not 0 < seconds < PHASE_SECONDS_MAX:
            return occurrence
        return self._with_time(occurrence, State.ACTIVATE, round(seconds, 3))
