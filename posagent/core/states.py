"""How an update proceeds: the table that every decision comes from.

An update is asked for in `idle` and moves through `download`, `verify` and `ready`. So far nothing but the spool was
touched and a person may cancel at any time. When all gates are open it enters `install`, and from there to its end
it is *critical*: cancelling, ^C, a shutdown request are refused with the reason and the seconds it will still take,
because a half-written slot or a half-made switch is worse than waiting. `activate` arms a trial boot and restarts;
the new system wakes in `selftest` and ends in `commit` or `rollback`; both end in `idle` with an outcome.

DUE means "do this state's work now": it is raised by a timer and at every start of the agent, so that a power cut
and a retry take the same way. Attempts are counted when they start and bounded by guards. The first row whose guard
holds is taken; the last row of every (state, event) has no guard.

docs/states.md is drawn from this table. Who wants another behaviour changes a row here, nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posagent.core.errors import CATALOGUE, Retry
from posagent.core.model import Command, Event, Facts, Occurrence, OutcomeKind, Situation, State

Guard = Callable[[Situation, Occurrence, Facts], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpec:
    critical: bool
    meaning: str
    meaning_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One transition. `outcome` ends the update; `failure` is the code it is blamed on unless the event brings one;
    `refuse` answers whoever asked with that code; `durable=False` marks rows that change nothing worth a record."""

    on: Event
    source: State
    to: State
    do: tuple[Command, ...] = ()
    when: Guard | None = None
    outcome: OutcomeKind | None = None
    failure: str | None = None
    refuse: str | None = None
    durable: bool = True


SPECS: Mapping[State, StateSpec] = {
    State.IDLE: StateSpec(critical=False, meaning="no update under way", meaning_zh="无升级任务"),
    State.DOWNLOAD: StateSpec(critical=False, meaning="fetching the bundle", meaning_zh="正在下载"),
    State.VERIFY: StateSpec(critical=False, meaning="checking signatures and content", meaning_zh="正在校验"),
    State.READY: StateSpec(critical=False, meaning="waiting for the gates to open", meaning_zh="等待安装条件"),
    State.INSTALL: StateSpec(critical=True, meaning="writing the spare slot", meaning_zh="正在安装"),
    State.ACTIVATE: StateSpec(critical=True, meaning="starting the new version", meaning_zh="正在启动新版本"),
    State.SELFTEST: StateSpec(critical=True, meaning="testing the new version", meaning_zh="正在自检"),
    State.COMMIT: StateSpec(critical=True, meaning="confirming the new version", meaning_zh="正在确认新版本"),
    State.ROLLBACK: StateSpec(critical=True, meaning="returning to the old version", meaning_zh="正在恢复旧版本"),
}


# Guards: each sees only the situation, the event and the facts.


def gates_closed(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """a gate for this work is closed"""
    work = State.INSTALL if situation.state == State.READY else situation.state
    return bool(facts.closed_gates(work))


def fetch_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """no download attempt left"""
    return situation.attempts.get(Command.FETCH, 0) >= facts.limits.fetch_attempts_max


def check_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """no verification attempt left"""
    return situation.attempts.get(Command.CHECK, 0) >= facts.limits.check_attempts_max


def install_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """no write attempt left"""
    return situation.attempts.get(Command.INSTALL, 0) >= facts.limits.install_attempts_max


def start_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """no arming or restart attempt left"""
    attempts, limits = situation.attempts, facts.limits
    return (
        attempts.get(Command.ARM, 0) >= limits.arm_attempts_max
        and not (situation.update is not None and situation.update.armed)
    ) or attempts.get(Command.REBOOT, 0) >= limits.reboot_attempts_max


def tests_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """no self-test attempt left"""
    return situation.attempts.get(Command.RUN_TESTS, 0) >= facts.limits.selftest_attempts_max


def armed(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """the trial boot is armed"""
    return situation.update is not None and situation.update.armed


def tries_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """the bootloader used up the new slot's tries"""
    update, seen = situation.update, facts.observation
    return update is not None and seen is not None and seen.spent(update.target)


def final(_: Situation, occurrence: Occurrence, __: Facts) -> bool:
    """trying again cannot help"""
    code = occurrence.data.get("failure", {}).get("code", "internal")
    return CATALOGUE[code].retry == Retry.NEVER


def same_bundle(situation: Situation, occurrence: Occurrence, _: Facts) -> bool:
    """it is the bundle already waiting"""
    begins = occurrence.data["begins"]
    update = situation.update
    return update is not None and (update.source, update.sha256) == (begins["source"], begins["sha256"])


def booted_previous(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """the old version is running"""
    update, seen = situation.update, facts.observation
    return update is None or seen is None or seen.booted != update.target


_S, _E, _C, _O = State, Event, Command, OutcomeKind


def _fails(on: Event, source: State, when: Guard | None = None, failure: str | None = None) -> Row:
    """The update ends as failed; the running version was never touched."""
    return Row(on=on, source=source, to=_S.IDLE, do=(_C.DISCARD,), when=when, outcome=_O.FAILED, failure=failure)


def _rolls_back(on: Event, source: State, failure: str, when: Guard | None = None, stop: bool = False) -> Row:
    do = (_C.STOP, _C.MARK_BAD) if stop else (_C.MARK_BAD,)
    return Row(on=on, source=source, to=_S.ROLLBACK, do=do, when=when, failure=failure)


def _again(on: Event, state: State) -> Row:
    """Stay, remember the trouble, look again later."""
    return Row(on=on, source=state, to=state, do=(_C.WATCH,))


def _waits(state: State) -> Row:
    return Row(on=_E.DUE, source=state, to=state, do=(_C.WATCH,), when=gates_closed, durable=False)


TABLE: tuple[Row, ...] = (
    # idle
    Row(on=_E.UPDATE_REQUESTED, source=_S.IDLE, to=_S.DOWNLOAD, do=(_C.WATCH,)),
    Row(on=_E.CANCEL_REQUESTED, source=_S.IDLE, to=_S.IDLE, refuse="nothing_to_cancel", durable=False),
    Row(on=_E.SETTLED, source=_S.IDLE, to=_S.IDLE, do=(_C.REFRESH,), durable=False),
    # download
    _waits(_S.DOWNLOAD),
    Row(
        on=_E.DUE, source=_S.DOWNLOAD, to=_S.IDLE, when=fetch_spent, outcome=_O.FAILED, failure="fetch_network"
    ),  # what was fetched stays: the next request resumes it
    Row(on=_E.DUE, source=_S.DOWNLOAD, to=_S.DOWNLOAD, do=(_C.FETCH,)),
    Row(on=_E.PROGRESSED, source=_S.DOWNLOAD, to=_S.DOWNLOAD),
    Row(on=_E.FETCHED, source=_S.DOWNLOAD, to=_S.VERIFY, do=(_C.CHECK,)),
    _fails(_E.FETCH_FAILED, _S.DOWNLOAD, when=final),
    _again(_E.FETCH_FAILED, _S.DOWNLOAD),
    # verify
    _fails(_E.DUE, _S.VERIFY, when=check_spent, failure="interrupted"),
    Row(on=_E.DUE, source=_S.VERIFY, to=_S.VERIFY, do=(_C.CHECK,)),
    Row(on=_E.ACCEPTED, source=_S.VERIFY, to=_S.READY, do=(_C.WATCH,)),
    _fails(_E.REJECTED, _S.VERIFY),
    _again(_E.CHECK_FAILED, _S.VERIFY),
    # ready: the last place where cancelling is allowed
    _waits(_S.READY),
    Row(on=_E.DUE, source=_S.READY, to=_S.INSTALL, do=(_C.INSTALL,)),
    Row(on=_E.UPDATE_REQUESTED, source=_S.READY, to=_S.READY, when=same_bundle, refuse="same_bundle", durable=False),
    Row(on=_E.UPDATE_REQUESTED, source=_S.READY, to=_S.DOWNLOAD, do=(_C.STOP, _C.WATCH)),
    # install
    _waits(_S.INSTALL),
    _fails(_E.DUE, _S.INSTALL, when=install_spent, failure="interrupted"),
    Row(on=_E.DUE, source=_S.INSTALL, to=_S.INSTALL, do=(_C.INSTALL,)),
    Row(on=_E.PROGRESSED, source=_S.INSTALL, to=_S.INSTALL),
    Row(on=_E.SLOT_COMPLETE, source=_S.INSTALL, to=_S.ACTIVATE, do=(_C.ARM,)),
    _fails(_E.WRITE_FAILED, _S.INSTALL, when=final),
    _again(_E.WRITE_FAILED, _S.INSTALL),
    # activate
    _rolls_back(_E.DUE, _S.ACTIVATE, "reboot_failed", when=start_spent),
    Row(on=_E.DUE, source=_S.ACTIVATE, to=_S.ACTIVATE, do=(_C.REBOOT,), when=armed),
    Row(on=_E.DUE, source=_S.ACTIVATE, to=_S.ACTIVATE, do=(_C.ARM,)),
    Row(on=_E.ARMED, source=_S.ACTIVATE, to=_S.ACTIVATE, do=(_C.REBOOT,)),
    _again(_E.ARM_FAILED, _S.ACTIVATE),
    _again(_E.REBOOT_FAILED, _S.ACTIVATE),
    Row(on=_E.BOOTED_TARGET, source=_S.ACTIVATE, to=_S.SELFTEST, do=(_C.RUN_TESTS,)),
    _rolls_back(_E.BOOTED_PREVIOUS, _S.ACTIVATE, "boot_failed", when=tries_spent),
    _again(_E.BOOTED_PREVIOUS, _S.ACTIVATE),
    # selftest
    _rolls_back(_E.DUE, _S.SELFTEST, "interrupted", when=tests_spent),
    Row(on=_E.DUE, source=_S.SELFTEST, to=_S.SELFTEST, do=(_C.RUN_TESTS,)),
    Row(on=_E.TESTS_PASSED, source=_S.SELFTEST, to=_S.COMMIT, do=(_C.MARK_GOOD,)),
    _rolls_back(_E.TESTS_FAILED, _S.SELFTEST, "selftest_failed"),
    _again(_E.TESTS_LOST, _S.SELFTEST),
    _rolls_back(_E.DEADLINE, _S.SELFTEST, "selftest_deadline", stop=True),
    _again(_E.BOOTED_TARGET, _S.SELFTEST),
    _rolls_back(_E.BOOTED_PREVIOUS, _S.SELFTEST, "boot_failed"),
    # commit: retried until it holds; the new version passed its tests
    Row(on=_E.DUE, source=_S.COMMIT, to=_S.COMMIT, do=(_C.MARK_GOOD,)),
    Row(on=_E.MARKED_GOOD, source=_S.COMMIT, to=_S.IDLE, do=(_C.DISCARD,), outcome=_O.COMMITTED),
    _again(_E.MARK_FAILED, _S.COMMIT),
    _again(_E.BOOTED_TARGET, _S.COMMIT),
    _rolls_back(_E.BOOTED_PREVIOUS, _S.COMMIT, "commit_lost"),
    # rollback: retried until the old version runs
    Row(on=_E.DUE, source=_S.ROLLBACK, to=_S.ROLLBACK, do=(_C.MARK_BAD,)),
    Row(
        on=_E.MARKED_BAD,
        source=_S.ROLLBACK,
        to=_S.IDLE,
        do=(_C.DISCARD,),
        when=booted_previous,
        outcome=_O.ROLLED_BACK,
    ),
    Row(on=_E.MARKED_BAD, source=_S.ROLLBACK, to=_S.ROLLBACK, do=(_C.REBOOT,)),
    _again(_E.MARK_FAILED, _S.ROLLBACK),
    _again(_E.REBOOT_FAILED, _S.ROLLBACK),
    _again(_E.BOOTED_TARGET, _S.ROLLBACK),
    _again(_E.BOOTED_PREVIOUS, _S.ROLLBACK),
    # every state before the trial boot: cancelling is free
    *(
        Row(on=_E.CANCEL_REQUESTED, source=state, to=_S.IDLE, do=(_C.STOP,), outcome=_O.CANCELLED, failure="cancelled")
        for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY)
    ),
    # every critical state: refused, with the reason
    *(
        Row(on=_E.CANCEL_REQUESTED, source=state, to=state, refuse="critical_section", durable=False)
        for state, spec in SPECS.items()
        if spec.critical
    ),
    # one update at a time; only `ready` gives way to a newer bundle
    *(
        Row(on=_E.UPDATE_REQUESTED, source=state, to=state, refuse="busy", durable=False)
        for state in State
        if state not in (_S.IDLE, _S.READY)
    ),
    # the hardware contradicts the journal: believe the hardware
    *(
        _fails(_E.SLOT_CHANGED, state, failure="slot_changed")
        for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL)
    ),
    *(
        Row(on=_E.TRIAL_FOUND, source=state, to=_S.SELFTEST, do=(_C.RUN_TESTS,))
        for state in (_S.IDLE, _S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL)
    ),
)

_BOOT = {_S.ACTIVATE, _S.SELFTEST, _S.COMMIT, _S.ROLLBACK}
_EARLY = {_S.IDLE, _S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL}

IGNORED: Mapping[Event, frozenset[State]] = {
    # a worker's or timer's message that arrives after its state was left means nothing any more
    _E.DUE: frozenset({_S.IDLE}),
    _E.DEADLINE: frozenset(set(State) - {_S.SELFTEST}),
    _E.PROGRESSED: frozenset(set(State) - {_S.DOWNLOAD, _S.INSTALL}),
    _E.FETCHED: frozenset(set(State) - {_S.DOWNLOAD}),
    _E.FETCH_FAILED: frozenset(set(State) - {_S.DOWNLOAD}),
    _E.ACCEPTED: frozenset(set(State) - {_S.VERIFY}),
    _E.REJECTED: frozenset(set(State) - {_S.VERIFY}),
    _E.CHECK_FAILED: frozenset(set(State) - {_S.VERIFY}),
    _E.SLOT_COMPLETE: frozenset(set(State) - {_S.INSTALL}),
    _E.WRITE_FAILED: frozenset(set(State) - {_S.INSTALL}),
    _E.ARMED: frozenset(set(State) - {_S.ACTIVATE}),
    _E.ARM_FAILED: frozenset(set(State) - {_S.ACTIVATE}),
    _E.REBOOT_FAILED: frozenset(set(State) - {_S.ACTIVATE, _S.ROLLBACK}),
    _E.TESTS_PASSED: frozenset(set(State) - {_S.SELFTEST}),
    _E.TESTS_FAILED: frozenset(set(State) - {_S.SELFTEST}),
    _E.TESTS_LOST: frozenset(set(State) - {_S.SELFTEST}),
    _E.MARKED_GOOD: frozenset(set(State) - {_S.COMMIT}),
    _E.MARKED_BAD: frozenset(set(State) - {_S.ROLLBACK}),
    _E.MARK_FAILED: frozenset(set(State) - {_S.COMMIT, _S.ROLLBACK}),
    # recovery raises these only in the states that have a row for them
    _E.SETTLED: frozenset(set(State) - {_S.IDLE}),
    _E.TRIAL_FOUND: frozenset(_BOOT),
    _E.SLOT_CHANGED: frozenset(_BOOT | {_S.IDLE}),
    _E.BOOTED_TARGET: frozenset(_EARLY),
    _E.BOOTED_PREVIOUS: frozenset(_EARLY),
}
