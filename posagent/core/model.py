"""The words of an update as frozen values: states, events, commands, situation, facts, decision.

Owns: what a journal record means (`fold`). The situation is the fold of the journal; nothing else is state.
Rules: `fold` is total over what any release wrote: unknown fields are ignored, missing ones have defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from posagent.core import measured as measuring
from posagent.core.manifest import PARAMETERS
from posagent.core.ports import ResetCause
from posagent.core.words import Command as Command
from posagent.core.words import Event as Event
from posagent.core.words import OutcomeKind as OutcomeKind
from posagent.core.words import State as State

HISTORY_MAX = 20
DETAIL_CHARACTERS_MAX = 300
EVIDENCE = ("checks", "log")
"""Parts of a failure that only the last outcome keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The update under way. `source` is a URL or a local path; `spool` names its files in the spool; `bytes_done` is as
    far as the present state's work ever got, `bytes_expected` what has to be fetched here, as announced, or 0.

    `kind` is of the payload that is used, `delta` or `full`, or `parameters` where it brings nothing else (then the
    slots stay as they are, and nothing is restarted); `refused` is why a delta cannot be used here; `streamed`
    says that there was no room to fetch all of it before parts were put into the slot; `downloads` counts those given
    up because they were corrupt, in which `bytes_lost`; the last one has `bytes_fetched`, and `bytes_refetched` came
    more than once in all. Of the image, `bytes_large` and `bytes_small` are made of large and of small operations
    (core.packing).

    From the signed metadata: `conditions`, `not_after`, `contents`, `reason`, `profile` (core.manifest). What people
    said: `at_once` asks for no window, `consent_by` agreed, `deferred_until` is when it may go on, after so many
    `deferrals`. What was foretold of its phases, `predicted` (core.drift.Prediction), and what they took. The
    `steps` of help that were tried (core.ladder), and what was `found` to be wrong with the network.

    `baseline` has figures of the old version, taken just before it was replaced: what the new one is held against.

    Of the merchant's data: the name of the `backup`, and the formats between which it was `migrated`, as in "1>2"; the
    version of the `parameters` that the new version found.

    `goes_back` is an engineer's return to the version in the other slot: nothing is fetched and nothing written.
    `action` is what of the fleet server's wishes it fulfils (core.fleet), or nothing.

    For its record (core.update_record): the seconds of each of the `phases` so far, the present one `entered_at`; gates
    for which it `waited`; `deferred_by`; the `measures` of the self-test.

    From the trial on: `boot_id` is of the start that the journal last heard of, `power_cycles` counts starts that were
    necessary because the power had gone away.
    """

    id: str
    source: str
    spool: str
    target: str
    previous: str
    version: str = ""
    from_version: str = ""
    length: int | None = None
    bytes_expected: int = 0
    sha256: str = ""
    bundle: str = ""
    kind: str = ""
    refused: str = ""
    streamed: bool = False
    downloads: int = 0
    bytes_fetched: int = 0
    bytes_lost: int = 0
    bytes_refetched: int = 0
    bytes_large: int = 0
    bytes_small: int = 0
    digest: str = ""
    image_size: int = 0
    requested_at: float = 0.0
    requested_by: str = ""
    goes_back: bool = False
    action: str = ""
    backup: str = ""
    migrated: str = ""
    parameters: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    conditions: tuple[str, ...] = ()
    not_after: float = 0.0
    contents: tuple[str, ...] = ()
    reason: str = ""
    profile: Mapping[str, int] = field(default_factory=dict)
    at_once: bool = False
    consent_by: str = ""
    consent_at: float = 0.0
    deferred_until: float = 0.0
    deferrals: int = 0
    deferred_by: str = ""
    predicted: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    took_s: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    found: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    entered_at: float = 0.0
    waited: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measures: tuple[Mapping[str, Any], ...] = ()
    baseline: Mapping[str, float] = field(default_factory=dict)
    armed: bool = False
    armed_at: float = 0.0
    tried: bool = False
    boot_id: str = ""
    power_cycles: int = 0

    @property
    def only_parameters(self) -> bool:
        return self.kind == PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where the update stands: the fold of the journal.

    `attempts` counts how often each command was started for this update since it last made progress; `failure` is
    the latest trouble `{code, detail, …}` since then; outcomes are newest last, and so are each phase's last
    `measurements` (seconds, bytes). `measured` has the last one only: releases before there were several go on with it.
    """

    state: State = State.IDLE
    update: Update | None = None
    attempts: Mapping[str, int] = field(default_factory=dict)
    failure: Mapping[str, Any] | None = None
    outcomes: tuple[Mapping[str, Any], ...] = ()
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measurements: measuring.Measurements = field(default_factory=dict)

    @property
    def resumable(self) -> bool:
        """The last download may still be of use: the next request goes on with it."""
        last = self.last_outcome
        return last is not None and last["outcome"] in (OutcomeKind.FAILED, OutcomeKind.CANCELLED)

    @property
    def last_outcome(self) -> Mapping[str, Any] | None:
        return self.outcomes[-1] if self.outcomes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """One slot as the installer reports it; `state` is good, bad, writing or complete."""

    state: str
    version: str = ""
    digest: str = ""
    counter: int = 0
    tries_left: int = 0
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the hardware says: the slots, and why this start was necessary (as in core.ports.ResetReport)."""

    booted: str
    order: tuple[str, ...]
    slots: Mapping[str, SlotView]
    floor: int = 0
    contradictions: tuple[str, ...] = ()
    reset: ResetCause = ResetCause.UNKNOWN
    traceless: bool = False
    boot_id: str = ""
    log: tuple[str, ...] = ()

    @property
    def lost_power(self) -> bool:
        return self.reset in (ResetCause.POWER, ResetCause.BROWN_OUT)

    def same_start(self, boot_id: str) -> bool:
        """This is still the start of that id: at most the agent was started again."""
        return self.boot_id == boot_id != ""

    @property
    def spare(self) -> str:
        """The slot an update goes to."""
        return next(name for name in sorted(self.slots) if name != self.booted)

    def armed(self, slot: str) -> bool:
        """The bootloader will try this slot next."""
        return self.order[:1] == (slot,) and self.slots[slot].tries_left > 0

    def spent(self, slot: str) -> bool:
        """The bootloader tried this slot until no try was left."""
        return self.order[:1] == (slot,) and self.slots[slot].tries_left == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition for starting: `reason` and `remedy` are for the person there, in English and Chinese. `opens_at` is
    the moment, where it is known, before which it stays closed."""

    name: str
    needed_for: State
    open: bool
    reason: str
    reason_zh: str
    remedy: str = ""
    remedy_zh: str = ""
    opens_at: float | None = None


def closed(gates: Iterable[Gate], state: State) -> tuple[Gate, ...]:
    """Those that keep the work of that state from beginning; `ready` waits for what the installation needs."""
    work = State.INSTALL if state is State.READY else state
    return tuple(gate for gate in gates if gate.needed_for is work and not gate.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often things are tried, and how long the agent waits between; from the configuration."""

    fetch_attempts_max: int = 20
    install_attempts_max: int = 10
    selftest_attempts_max: int = 3
    check_attempts_max: int = 10
    arm_attempts_max: int = 3
    reboot_attempts_max: int = 5
    return_attempts_max: int = 3
    power_cycles_max: int = 10
    deferrals_max: int = 3
    fetch_backoff_s: float = 5.0
    fetch_backoff_s_max: float = 900.0
    install_backoff_s: float = 5.0
    gate_recheck_s: float = 30.0
    reboot_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What guards may see besides the situation and the event. `now` is seconds since 1970. For the record only: the
    gates for which the work has `waited` since the last one, `{name: {s, why}}`."""

    now: float = 0.0
    gates: tuple[Gate, ...] = ()
    observation: Observation | None = None
    limits: Limits = Limits()
    waited: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def closed_gates(self, state: State) -> tuple[Gate, ...]:
        return closed(self.gates, state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """An event with its data, as it reaches `decide`."""

    event: Event
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from an event.

    `record` is journalled before `commands` run (None: nothing changed); `refusal` is a code of the error catalogue
    for whoever asked.
    """

    situation: Situation
    record: Mapping[str, Any] | None = None
    commands: tuple[Command, ...] = ()
    refusal: str | None = None


def _fields(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in dataclasses.fields(kind)}
    return {key: value for key, value in data.items() if key in known}


def _fold_update(update: Update | None, data: Mapping[str, Any]) -> Update | None:
    fields: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in _fields(Update, data).items()
    }
    if update is None:
        needed = ("id", "source", "spool", "target", "previous")
        return Update(**fields) if all(name in data for name in needed) else None
    return dataclasses.replace(update, **fields)


def _remembered(outcome: Mapping[str, Any]) -> Mapping[str, Any]:
    """An outcome that is not the last: its evidence goes, so that the history stays small."""
    kept = {key: value for key, value in outcome.items() if key not in EVIDENCE}
    return {**kept, "detail": str(kept.get("detail", ""))[:DETAIL_CHARACTERS_MAX]}


def _ticketed(outcome: Mapping[str, Any], ticket: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**outcome, "ticket": dict(ticket)} if outcome.get("id") == ticket["id"] else outcome


def fold(situation: Situation, record: Mapping[str, Any]) -> Situation:
    """The situation after a journal record `{state, begins?, update?, failure?, outcome?, …}` or `{snapshot}`."""
    if "snapshot" in record:
        return _restore(record["snapshot"])
    state = State(record["state"])
    update, attempts, failure = situation.update, dict(situation.attempts), situation.failure
    if "begins" in record:
        update, attempts, failure = _fold_update(None, record["begins"]), {}, None
    if update is not None and state is not situation.state:
        update = dataclasses.replace(update, bytes_done=0, bytes_total=0)
    if "update" in record:
        update = _fold_update(update, record["update"])
    for name in record.get("progressed", ()):
        attempts.pop(name, None)
    for name in record.get("commands", ()):
        attempts[name] = attempts.get(name, 0) + 1
    got_on = state is State.DOWNLOAD and bool(record.get("progressed"))  # elsewhere it may be what all this is about
    over = state is not situation.state or got_on
    failure = record.get("failure", None if over else failure)
    measured = {**situation.measured, **record.get("measured", {})}
    outcomes = situation.outcomes
    if "ticket" in record:
        outcomes = tuple(_ticketed(outcome, record["ticket"]) for outcome in outcomes)
    if "outcome" in record:
        outcomes = (*map(_remembered, outcomes), record["outcome"])[-HISTORY_MAX:]
        if "begins" not in record:  # otherwise one update ended and another took its place
            update, attempts, failure = None, {}, None
    return Situation(
        state=state,
        update=update,
        attempts=attempts,
        failure=failure,
        outcomes=outcomes,
        measured=measured,
        measurements=measuring.added(situation.measurements, record.get("measured")),
    )


def snapshot(situation: Situation) -> dict[str, Any]:
    """The record that stands for the whole situation: what compaction keeps."""
    return {"snapshot": dataclasses.asdict(situation), "state": situation.state.value}


def _restore(data: Mapping[str, Any]) -> Situation:
    values = _fields(Situation, data)
    values["state"] = State(values.get("state", State.IDLE))
    values["update"] = _fold_update(None, values["update"]) if values.get("update") else None
    values["outcomes"] = tuple(values.get("outcomes", ()))
    values["measurements"] = measuring.restored(values.get("measurements"), values.get("measured"))
    return Situation(**values)
