"""One whole terminal on the medium: the real rooms, three bootloaders, a kernel that may panic or hang, an operator.

Owns: one execution, from power-on until the operator has what was asked for and nothing moves any more. What is
replaced: time, the process boundary, the kernel, the network. Everything in memory is new at every start.
Long, because the whole of an execution stands in one place.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from posagent.agent.journal import Journal
from posagent.agent.support import KEPT_MAX
from posagent.config import SupportConfig
from posagent.core.errors import BootControlError, PosagentError
from posagent.core.model import Decision, OutcomeKind, State
from posagent.core.ports import Message, PowerReading, ResetCause, Worker
from posagent.core.spoken import code_of
from posagent.crash import bootloaders
from posagent.crash.medium import Medium
from posagent.crash.merchant import Merchant
from posagent.crash.oracles import Life, Violated, need, need_ticket
from posagent.crash.scenarios import BACK, Scenario
from posagent.crash.stage import (
    FACTORY,
    INSTALLER_DIR,
    KEPT,
    LIMITS,
    SETS,
    SLOT_BYTES,
    SPOOL_DIR,
    STATE_DIR,
    Image,
    Stage,
)
from posagent.crash.surroundings import Probes, Reply, Source, StandingClock, installer_ports
from posagent.fetcher.http import Answer, Asked
from posagent.fetcher.wanted import HEAD_BYTES
from posagent.platform.reset import LinuxResets
from posagent.sim.inprocess import Parts, VirtualTerminal

if TYPE_CHECKING:
    from posagent.crash.units import Chooser

BOOTS_MAX = 60
STEPS_MAX = 3000
WATCHDOG_S = 60.0
URL = "https://update.test/bundles/"
STICK, POWER_QUESTIONS_MAX = "/media/stick/", 4
SUPPORT_DIR = f"{STATE_DIR}/support"
SPOOL_DATA_BYTES = 60
"""Of a small spool: one operation and a part of the next."""


class Joined(BaseException):
    """From here on this execution goes on like one that was seen before."""


class CrashTerminal(VirtualTerminal):
    """One execution: `live` runs it. `tell` gets a line of the story for everything worth telling."""

    def __init__(
        self,
        stage: Stage,
        scenario: Scenario,
        medium: Medium,
        life: Life,
        chooser: Chooser,
        tell: Callable[[str], None] = lambda _: None,
        known: Callable[[Hashable], bool] = lambda _: False,
    ) -> None:
        self._known = known
        self.cause, self.boots = ResetCause.POWER, 0
        self._stage, self._scenario, self._medium, self._life = stage, scenario, medium, life
        self._chooser, self._tell = chooser, tell
        self._power_questions, self._nothing_there = 0, False
        self._state_told: State | None = None
        self._merchant: Merchant | None = None
        self._running = "bootloader"
        self.image = stage.images["1.0.0"]
        self.time = StandingClock()
        super().__init__(self._parts_for(self.image), self.time, step_s=0.0)

    def _parts_for(self, image: Image) -> Parts:
        medium, head_bytes = self._medium, HEAD_BYTES
        config = self._stage.config(image, self._scenario.tries_full)
        if self._scenario.tickets:
            config = dataclasses.replace(config, support=SupportConfig(vendor_key_file="vendor"))
        if self._scenario.small_spool:
            tables = self._stage.tables_bytes(self._scenario.goals[0])
            head_bytes = tables + SPOOL_DATA_BYTES // 2
            medium.files.free, medium.files.shared = tables + SPOOL_DATA_BYTES, True
        return Parts(
            config=config,
            files=medium.files,
            installer=installer_ports(medium, StandingClock(), self._resets(), SLOT_BYTES),
            power=self,
            probes=Probes(self.time, self._payment_answer),
            open_local=self._open_local,
            limits=LIMITS,
            client=self if self._scenario.over_http else None,
            journal_bytes_max=self._scenario.journal_bytes_max,
            head_bytes=head_bytes,
            room_bytes_min=SPOOL_DATA_BYTES,
        )

    @property
    def boot_id(self) -> str:
        """Another one at each start, in this execution and the ones before it."""
        return f"{self._life.cuts:016x}{self.boots:016x}"

    @property
    def stage_name(self) -> str:
        """Where the terminal is now: the agent's state, or what runs before the agent does."""
        return self._running or self.state.value

    # the world's side of the ports

    def _resets(self) -> LinuxResets:
        """The real one: the boot script says on the kernel's command line why it was started."""
        return LinuxResets(
            files=self._medium.files,
            state_dir=INSTALLER_DIR,
            cmdline_file=str(self._stage.root / f"cmdline-{self.cause.value}"),
            pstore_dirs=(),
            bootstatus="",
            boot_id_file=str(self._stage.boot_id_file(self.boot_id)),
        )

    def read(self) -> PowerReading:
        """core.ports.Power: full, or as fast-changing as the scenario has it."""
        percent = 90
        if self._scenario.power_changes and self._power_questions < POWER_QUESTIONS_MAX and self._deciding():
            self._power_questions += 1
            percent = (90, 20)[self._chooser.choose(f"battery in {self.state.value}", 2)]
        self._life.reading = PowerReading(battery_present=True, battery_percent=percent, charging=False, mains=False)
        return self._life.reading

    def _payment_answer(self) -> str | None:
        if self._merchant is not None and not self._merchant.test():
            return "the parameters are of no use"
        broke = self._scenario.broke_since and self.image.version == FACTORY
        return "Connection refused" if broke or self.image.behaviour == "test-fails" else None

    def _deciding(self) -> bool:
        return self.boots > 0 and self.state in (State.READY, State.INSTALL)

    def get(self, asked: Asked) -> Answer:
        """download.Client from memory."""
        content = self._stage.bundles[asked.url.removeprefix(URL)]
        return cast(Answer, Reply(asked, content, self._life))

    def _open_local(self, path: str) -> Source:
        return Source(path, self._stage.bundles[path.removeprefix(STICK)], self._life)

    def _make_bundle(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """Without a random key: two lives that went the same way are the same."""
        digest = hashlib.sha256(args["reason"].encode())
        told = {"code": code_of(digest.digest()), "sha256": digest.hexdigest(), "redacted": 0}
        yield {"result": {"file": "c2VhbGVk", **told}}

    # power-on to agent

    def _start_slot(self) -> bool:
        self.boots += 1
        self._running = "bootloader"
        need(self.boots <= BOOTS_MAX, "idle", f"{BOOTS_MAX} boots and no end, in {self._state_told}")
        try:
            slot = bootloaders.choose(self._scenario.bootloader, self._medium.boot, self._scenario.tries_full)
        except BootControlError as error:
            raise Violated("bootable", f"the bootloader finds no environment: {error}") from None
        if slot is None:
            self._tell("bootloader: no slot has a try left, all are refilled")
            return False
        self._medium.booted = slot
        image = self._stage.image_in(self._medium.slot(slot, SLOT_BYTES).pread(0, SLOT_BYTES))
        self.image = self._life.started(image, slot)
        self._parts = self._parts_for(self.image)
        self.silent.clear()
        return self._kernel(slot)

    def _kernel(self, slot: str) -> bool:
        behaviour = self.image.behaviour
        self._tell(f"boot {self.boots}: slot {slot}, {self.image.version}")
        if behaviour in ("panic", "hang"):
            self._tell(f"kernel: {behaviour}, the terminal is reset")
            self._reset()
            self.cause = ResetCause.PANIC if behaviour == "panic" else ResetCause.WATCHDOG
            return False
        if behaviour == "agent-dead":
            marked = self._medium.files.size(f"{INSTALLER_DIR}/trial-{slot}") is not None
            need(marked, "idle", "the agent cannot start and no trial timer restarts the terminal")
            self._tell("agent: does not start; the trial timer restarts the terminal")
            self._medium.flush_all()
            self.cause = ResetCause.WATCHDOG
            return False
        if behaviour == "test-hangs":
            self.silent.add("run")
        if self._scenario.payments:
            self._running = "data is selected"
            self._merchant = Merchant(self._medium, self._life, self.image, slot, self._goal)
        self._running = "agent starts"
        return True

    def _data(self) -> Worker | None:
        return None if self._merchant is None else self._worker(self._merchant.verbs)

    def _reset(self) -> None:
        """What was not flushed is lost as in a power cut, but nobody pulled a plug."""
        cut_at = self._medium.cut_at
        self._medium.restore(self._medium.crashed())
        self._medium.cut_at = cut_at

    def boot(self) -> None:
        if self._restart:
            self._medium.flush_all()
            self.cause = ResetCause.REBOOT
        super().boot()

    def _woken(self, journal: Journal) -> None:
        self._life.woken(journal.situation, journal.damage)

    # one execution

    def live(self) -> None:
        """Power on and run until everything asked for has ended and nothing moves any more."""
        self.boot()
        for _ in range(STEPS_MAX):
            self._meddle()
            need(self.healthy, "watchdog", f"the watchdog bites in {self.state.value}")
            if self._restart:
                self.boot()
            elif not self.time.step() and not self._restart:
                need(self.state is State.IDLE, "idle", f"nothing will ever happen again in {self.state.value}")
                if not self._next_goal():
                    return
        raise Violated("idle", f"not idle after {STEPS_MAX} steps, in {self.state.value}")

    def _goal(self) -> str:
        """What is asked for now, or will be next."""
        done = sum(not self._aside(one) for one in self._life.world.outcomes)
        return next(iter(self._scenario.goals[done:]), "")

    def _next_goal(self) -> bool:
        done = sum(not self._aside((one["id"], one["outcome"], "")) for one in self.situation.outcomes)
        if self._merchant is not None and self._merchant.may_pay and self._life.world.paid <= done:
            self._merchant.pay()
        if done >= len(self._scenario.goals):
            return False
        goal = self._scenario.goals[done]
        if goal == BACK:
            return self._goes_back()
        self._ask_for(goal)
        return True

    def _goes_back(self) -> bool:
        """Whether the engineer's wish was taken; not where there is nothing to go back to."""
        self._tell("engineer: rollback")
        try:
            self.ask("rollback")
        except PosagentError as error:
            last = self._life.world.outcomes[-1][1]
            need(error.code == "rollback_no_version", "good-slot", f"rollback refused: {error}")
            need(last != OutcomeKind.COMMITTED, "good-slot", f"nothing to go back to after an update {last}")
            self._nothing_there = True
            return False
        return True

    def _aside(self, outcome: tuple[str, str, str]) -> bool:
        """An outcome of something else than a goal: found in the slots, or superseded by who meddled."""
        name, kind, _ = outcome
        return name.startswith("found") or (self._scenario.intrudes and kind == OutcomeKind.CANCELLED)

    def _ask_for(self, version: str) -> None:
        source = (URL if self._scenario.over_http else STICK) + version
        self._tell(f"operator: update to {version}")
        self.ask("update", source=source)

    def _meddle(self) -> None:
        """The operator does what nobody should, at any moment."""
        state = self.state
        if self._scenario.intrudes and state is not State.IDLE and state.value not in self._life.world.intruded:
            self._life.intruded(state)
            self._intrude(state)
        may = self._scenario.cancels and state in (State.VERIFY, State.READY, State.INSTALL)
        if may and not self._life.world.cancel_asked and self._chooser.choose(f"cancel in {state.value}", 2):
            self._cancel()

    def _intrude(self, state: State) -> None:
        before = self.situation.update
        try:
            self.ask("update", source=STICK + "2.1.0")
        except PosagentError as error:
            need(error.code == "busy", "idle", f"a second request in {state.value}: {error}")
            need(self.situation.update == before, "idle", "a refused request changed the update")
        else:
            need(state is State.READY, "idle", f"a second request was taken in {state.value}")

    def _cancel(self) -> None:
        update = self.situation.update
        assert update is not None
        self._life.asks_cancel()
        try:
            self.ask("cancel")
        except PosagentError as error:
            need(error.code == "critical_section", "cancel", f"refused with {error.code}")
            self._life.cancel_answered(update.id, acknowledged=False)
        else:
            self._life.cancel_answered(update.id, acknowledged=True)

    def _decided(self, decision: Decision) -> None:
        self._running = ""
        self._life.decided(decision)
        if self._engine.observation is not None:
            self._life.observed(self._engine.observation)
            if decision.record is not None and "outcome" in decision.record:
                self._life.seen_at_the_end(decision.record["outcome"], self._engine.observation)
        if decision.record is not None and self._known(self._moment(decision)):
            raise Joined
        if decision.record is not None and decision.situation.state is not self._state_told:
            self._state_told = decision.situation.state
            self._tell(f"agent: {decision.record['event']} -> {self._state_told.value}")
        super()._decided(decision)

    def _moment(self, decision: Decision) -> Hashable:
        """What the rest of this execution depends on, besides the durable state and the world: at a decision nothing
        else is under way than what the decision itself begins."""
        others = len(self._engine.waiting) + self._support.busy
        return decision.commands, self.image.version, self.cause, self._power_questions, tuple(self.silent), others

    # at rest

    def check_ends(self) -> None:
        """Every goal has ended, as it should or as the power cuts so far excuse; and that is what runs."""
        ends, cuts = self._scenario.ends[: -1 if self._nothing_there else None], self._life.cuts
        told = self._life.world.outcomes
        outcomes = [one for one in told if not self._aside(one)]
        need(len(outcomes) == len(ends), "idle", f"ended with {outcomes}, wanted {ends}")
        for goal, end, (_, kind, _) in zip(self._scenario.goals, ends, outcomes, strict=False):
            excused = (
                (kind == OutcomeKind.FAILED and cuts >= LIMITS.fetch_attempts_max)
                or (kind == OutcomeKind.ROLLED_BACK and cuts > LIMITS.power_cycles_max)
                or (kind == OutcomeKind.CANCELLED and self._scenario.cancels)
            )
            need(kind == end or excused, "good-slot", f"{goal} {kind} after {cuts} power cuts, wanted {end}")
        if self._merchant is not None:
            older = "data_newer" in self._engine.problems and any(name.startswith("found") for name, _, _ in told)
            need(self._merchant.may_pay or older, "money", f"{self.image.version} takes no payments at rest")
            self._merchant.look_at_rest()
        if self._scenario.tickets:
            need_ticket(self.situation.last_outcome, self._medium.files.names(SUPPORT_DIR))
        runs = [FACTORY]
        for name, kind, version in told:
            if kind == OutcomeKind.COMMITTED and version not in SETS:
                runs.append(version)
            elif name.startswith("found"):
                need(cuts > LIMITS.return_attempts_max, "good-slot", f"{version} given up after {cuts} power cuts")
                del runs[len(runs) - 1 - runs[::-1].index(version)]
        need(self.image.version == runs[-1], "truth", f"{self.image.version} runs, {runs[-1]} was committed last")

    def check_space(self) -> None:
        """Nothing is left of what was interrupted, but temporary files of fixed names."""
        left = {
            f"{path}/{name}"
            for path in (STATE_DIR, INSTALLER_DIR, f"{INSTALLER_DIR}/trust", SPOOL_DIR)
            for name in self._medium.files.names(path)
        }
        extra = {path for path in left - KEPT if not path.endswith(".new")}
        reports = self._medium.files.names(SUPPORT_DIR)
        need(len(reports) <= KEPT_MAX, "space", f"{len(reports)} support bundles")
        extra -= {SUPPORT_DIR}
        if any(kind in (OutcomeKind.FAILED, OutcomeKind.CANCELLED) for _, kind, _ in self._life.world.outcomes):
            extra = {path for path in extra if not path.startswith(SPOOL_DIR)}  # for the next request to resume
        need(not extra, "space", f"left behind: {', '.join(sorted(extra))}")

    def power_cycle(self) -> None:
        """Off and on again at rest."""
        self._reset()
        self.cause = ResetCause.POWER
        self.live()
