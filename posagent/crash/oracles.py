"""What must hold in every execution: named rules about one terminal's life, whatever was cut and wherever.

Owns: the names and the checks; `World` is what the people around the terminal know and no power cut can take back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from posagent.core.energy import EnergyLimits
from posagent.core.ladder import wants_ticket
from posagent.core.model import Command, Decision, Limits, Observation, OutcomeKind, Situation, State, Update
from posagent.core.ports import PowerReading
from posagent.crash.stage import BLOCKS, CHECKPOINT_BYTES, FACTORY, SETS, Image

ORACLES: Mapping[str, str] = {
    "bootable": "some slot can always be started, and what is started is a whole, verified image",
    "verified": "nothing unverified or untested is ever committed",
    "tested": "an update is committed if and only if its self-test passed on a trial boot of it",
    "truth": "the reported outcome is what is running",
    "once": "an outcome that was reported stays, once, and never becomes another",
    "floor": "the rollback floor never rises before commit",
    "cancel": "an acknowledged cancel never installs; a refused one stays refused",
    "gate": "no critical write begins with a gate closed",
    "booted-slot": "never a write to the booted slot",
    "good-slot": "a good version is not condemned by power cuts",
    "idle": "without further cuts the terminal is idle, and in service, within a bounded number of steps and boots",
    "attempts": "attempts are bounded whatever the cuts",
    "refetch": "a power cut costs at most one checkpoint of bytes downloaded twice",
    "space": "interrupted attempts leave nothing behind",
    "watchdog": "the watchdog is petted in time while all is well, and no hang is petted over",
    "quiet": "after the outcome, five more reboots move nothing",
    "damage": "a power cut alone is never reported as damage",
    "parameters": "the payment application finds the newest confirmed set that it takes, or the one that comes",
    "money": "the payment application finds every acknowledged payment once, in its own format; no counter goes back",
    "crash": "no error of the programmer",
}

STEPS = 2 + BLOCKS
"""In which work can get further: the beginning, a bundle's tables, each block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What happened for good: outcomes that were reported (update id, kind, version), answers that were given, tests
    that passed (update id, version), bytes that were delivered of the last source, how often the present
    state's command was started since it last got further. Payments that were acknowledged, the last trace number."""

    outcomes: tuple[tuple[str, str, str], ...] = ()
    acknowledged: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    passed: frozenset[tuple[str, str]] = frozenset()
    delivered: tuple[str, int] = ("", 0)
    started: tuple[str, int] = ("", 0)
    cancel_asked: bool = False
    intruded: frozenset[str] = frozenset()
    paid: int = 0
    stan: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    oracle: str
    detail: str

    def __str__(self) -> str:
        return f"{self.oracle}: {self.detail}"


class Violated(BaseException):
    """An oracle failed; not an Exception, so that nothing under test survives it."""

    def __init__(self, oracle: str, detail: str) -> None:
        assert oracle in ORACLES
        super().__init__(f"{oracle}: {detail}")
        self.violation = Violation(oracle, detail)


def need(holds: bool, oracle: str, detail: str) -> None:
    if not holds:
        raise Violated(oracle, detail)


def need_ticket(outcome: Mapping[str, Any] | None, bundles: Collection[str]) -> None:
    """Whoever reads out the code of an update that failed is talking of a bundle that is there."""
    need(not wants_ticket(outcome), "truth", "an update that failed has no ticket")
    code = (outcome or {}).get("ticket", {}).get("code", "")
    need(any(code in name for name in bundles) or not code, "truth", f"the bundle {code} is not there")


@dataclass(slots=True, kw_only=True)
class Life:
    """The oracles along one execution; `world` goes on from what was known before, `cuts` of the power ago."""

    world: World
    images: Mapping[str, Image]
    limits: Limits
    cuts: int = 0
    booted: Image | None = None
    reading: PowerReading = field(default_factory=PowerReading)
    power_floor_percent: int = EnergyLimits().install_percent_min

    def started(self, image: Image | None, slot: str) -> Image:
        """The bootloader started a slot with this content."""
        need(image is not None, "bootable", f"slot {slot} was started, but holds no whole image")
        assert image is not None
        self.booted = image
        return image

    def woken(self, situation: Situation, damage: str | None) -> None:
        """The agent has read its journal. What it has may be more than was reported: a cut kept it from being told."""
        need(damage is None, "damage", str(damage))
        known = tuple((str(one["id"]), str(one["outcome"]), str(one["version"])) for one in situation.outcomes)
        reported = self.world.outcomes
        need(known[: len(reported)] == reported, "once", f"reported {reported}, the journal has {known}")
        need(len({name for name, _, _ in known}) == len(known), "once", f"the journal has {known}")
        if known != reported:
            self._change(outcomes=known, passed=frozenset(), delivered=("", 0), started=("", 0))
        if situation.state not in (State.IDLE, State.DOWNLOAD):
            self._change(delivered=("", 0))
        if situation.state is State.COMMIT and situation.update is not None:
            self._passed(situation.update)

    @property
    def sets_kept(self) -> list[str]:
        """Sets of parameters that were confirmed, alone or with an image, oldest first."""
        committed = [version for _, kind, version in self.world.outcomes if kind == OutcomeKind.COMMITTED]
        found = [name if name in SETS else self.images[name].parameters for name in committed]
        return [name for name in found if name]

    def _passed(self, update: Update) -> None:
        """The journal says that its tests passed: they ran on the trial boot that ended, or goes on."""
        self._change(passed=self.world.passed | {(update.id, update.version)})

    def decided(self, decision: Decision) -> None:
        """A decision was journalled; its commands come next."""
        record, situation = decision.record, decision.situation
        if record is None:
            return
        update = situation.update
        if Command.INSTALL in decision.commands:
            assert update is not None
            self._needs_power("install")
            need(update.id not in self.world.acknowledged, "cancel", f"{update.id} is installed after its cancel")
        leaves_ready = record["event"] == "due" and situation.state is State.ACTIVATE and "commands" not in record
        if update is not None and update.goes_back and leaves_ready:
            self._needs_power("going back")
            need(update.id not in self.world.acknowledged, "cancel", f"{update.id} goes back after its cancel")
        if record["event"] == "fetched":
            self._change(delivered=("", 0))
        if record["event"] == "tests_passed":
            assert update is not None and self.booted is not None
            need(
                update.only_parameters or update.version == self.booted.version,
                "tested",
                f"{self.booted.version} was tested for {update.version}",
            )
            self._passed(update)
        self._count(record, situation.attempts)
        if "outcome" in record:
            self._ended(record["outcome"])

    def _needs_power(self, what: str) -> None:
        percent = self.reading.battery_percent
        need(percent is not None and percent >= self.power_floor_percent, "gate", f"{what} at {percent} %")

    def _count(self, record: Mapping[str, Any], attempts: Mapping[str, int]) -> None:
        """Starts of this state's command, as the decisions have it: the journal's own count is what is under test. (It
        is believed of the commands around the trial boot, whose every history would be a state of its own.) A record
        of progress may survive the cut that keeps it from being heard of here: then the journal counts anew."""
        limits, name = self.limits, record["state"]
        command, most = {
            State.DOWNLOAD: (Command.FETCH, limits.fetch_attempts_max),
            State.VERIFY: (Command.CHECK, limits.check_attempts_max),
            State.INSTALL: (Command.INSTALL, limits.install_attempts_max),
        }.get(name, (None, 0))
        state, count = self.world.started
        anew = state != name or "begins" in record or command in record.get("progressed", ())
        count = 0 if anew else count
        count += command in record.get("commands", ())
        need(count <= most * STEPS, "attempts", f"{command} for the {count}th time")
        self._change(started=(name if count else "", count))
        for again, limit in {
            Command.ARM: limits.arm_attempts_max + limits.power_cycles_max,
            Command.REBOOT: limits.reboot_attempts_max + limits.power_cycles_max + 1,
            Command.RUN_TESTS: limits.selftest_attempts_max + limits.power_cycles_max,
            Command.RETURN: limits.return_attempts_max,
        }.items():
            need(attempts.get(again, 0) <= limit, "attempts", f"{again}: {attempts.get(again, 0)} > {limit}")

    def _ended(self, outcome: Mapping[str, Any]) -> None:
        kind, name = str(outcome["outcome"]), str(outcome["id"])
        need(
            (outcome["code"] == "ok") is (kind == OutcomeKind.COMMITTED),
            "truth",
            f"{kind} because of {outcome['code']}",
        )
        known = {one for one, _, _ in self.world.outcomes}
        need(name not in known, "once", f"{name} ends a second time: {kind}")
        assert self.booted is not None
        if outcome["version"] in SETS:
            self._parameters_ended(kind, name, str(outcome["version"]))
            return
        wanted = outcome["version"] if kind == OutcomeKind.COMMITTED else outcome["from_version"]
        stays = not wanted or wanted == self.booted.version or outcome["code"] == "slot_changed"  # which says just that
        need(stays, "truth", f"{kind}, but {self.booted.version} runs")
        if kind == OutcomeKind.COMMITTED:
            tested = (name, self.booted.version) in self.world.passed
            need(tested, "tested", f"{name} is committed, its tests never passed")
            need(self.booted.behaviour == "good", "verified", f"{self.booted.version} is committed")
        if kind == OutcomeKind.CANCELLED:
            asked = self.world.cancel_asked or outcome["code"] == "superseded"
            need(asked, "cancel", "cancelled, although nobody asked")
        self._report(name, kind, str(outcome["version"]))

    def _parameters_ended(self, kind: str, name: str, version: str) -> None:
        if kind == OutcomeKind.COMMITTED:
            need((name, version) in self.world.passed, "tested", f"{name} is committed, its tests never passed")
            need(SETS[version].good, "verified", f"{version} is committed")
        self._report(name, kind, version)

    def _report(self, name: str, kind: str, version: str) -> None:
        self._change(outcomes=(*self.world.outcomes, (name, kind, version)))
        self._change(passed=frozenset(), delivered=("", 0))

    def observed(self, seen: Observation) -> None:
        """What the installer says of the slots and the floor."""
        ended = {version for _, kind, version in self.world.outcomes if kind == OutcomeKind.COMMITTED}
        committed = {FACTORY, *(ended & self.images.keys())}
        tested = {*committed, *(version for _, version in self.world.passed)}
        most = max(self.images[version].counter for version in committed)
        need(seen.floor <= most, "floor", f"{seen.floor} is above {most}, the most that was committed")
        for name, view in seen.slots.items():
            good = view.state == "good" and view.version
            need(not good or view.version in tested, "verified", f"slot {name}: {view.version} is good, never tested")

    def seen_at_the_end(self, outcome: Mapping[str, Any], seen: Observation) -> None:
        """What an engineer's way back that never began leaves behind."""
        begun = outcome["outcome"] != OutcomeKind.FAILED or outcome["code"] == "slot_changed"
        if outcome.get("kind") == "rollback" and not begun:
            state = seen.slots[seen.spare].state
            need(state == "good", "good-slot", f"slot {seen.spare} was good, was never started, and is {state}")

    def asks_cancel(self) -> None:
        self._change(cancel_asked=True)

    def cancel_answered(self, name: str, acknowledged: bool) -> None:
        if acknowledged:
            need(name not in self.world.refused, "cancel", f"{name}: refused before, acknowledged now")
            self._change(acknowledged=self.world.acknowledged | {name})
        else:
            self._change(refused=self.world.refused | {name})

    def intruded(self, state: State) -> None:
        self._change(intruded=self.world.intruded | {state.value})

    def paid(self, count: int) -> None:
        self._change(paid=count)

    def used(self, stan: int) -> None:
        self._change(stan=stan)

    def delivering(self, source: str, offset: int) -> None:
        """The source is asked for bytes from here on."""
        known, end = self.world.delivered
        if known == source:
            need(offset >= end - CHECKPOINT_BYTES, "refetch", f"asked from byte {offset}, {end} had been delivered")

    def delivered(self, source: str, end: int) -> None:
        if self.world.delivered[0] != source or end > self.world.delivered[1]:
            self._change(delivered=(source, end))

    def _change(self, **changes: Any) -> None:
        self.world = dataclasses.replace(self.world, **changes)
