"""How an update proceeds: the table that every decision comes from.

An update is asked for in `idle` and moves through `download`, `verify` and `ready`. So far nothing but the spool was
touched and a person may cancel at any time. When all gates are open it enters `install`, and from there to its end
it is *critical*: cancelling, ^C, a shutdown request are refused with the reason and the seconds it will still take,
because a half-written slot or a half-made switch is worse than waiting. `activate` arms a trial boot and restarts;
the new system wakes in `selftest` and ends in `commit` or `rollback`; both end in `idle` with an outcome.

A start's REFRESH may be under way when somebody asks for something: who hangs up on it begins it again, because without
it the running slot may be one power cut away from its last try.

An engineer may ask for the version in the other slot: that is an update of which everything is there already, so it
begins in `ready` and leaves it for `activate` (docs/adr/0011).

DUE means "do this state's work now": it is raised by a timer and at every start of the agent, so that a power cut
and a retry take the same way. Attempts are counted when they start and bounded by guards. The first row whose guard
holds is taken; the last row of every (state, event) has no guard.

docs/states.md is drawn from this table. Who wants another behaviour changes a row here, nowhere else.
Long, because everything that steers an update stands in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posagent.core import guards
from posagent.core.guards import Guard
from posagent.core.model import Command, Event, OutcomeKind, State


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpec:
    critical: bool
    meaning: str
    meaning_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One transition. `outcome` ends the update; `failure` is the code it is blamed on unless the event brings one;
    `refuse` answers whoever asked with that code; `durable=False` marks rows that change nothing worth a record,
    `carries=False` those whose record is not about what the event brought."""

    on: Event
    source: State
    to: State
    do: tuple[Command, ...] = ()
    when: Guard | None = None
    outcome: OutcomeKind | None = None
    failure: str | None = None
    refuse: str | None = None
    durable: bool = True
    carries: bool = True


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


_S, _E, _C, _O = State, Event, Command, OutcomeKind


def _fails(on: Event, source: State, when: Guard | None = None, failure: str | None = None) -> Row:
    """The update ends as failed; the running version was never touched."""
    return Row(on=on, source=source, to=_S.IDLE, do=(_C.DISCARD,), when=when, outcome=_O.FAILED, failure=failure)


def _rolls_back(
    on: Event, source: State, failure: str, when: Guard | None = None, do: tuple[Command, ...] = (_C.MARK_BAD,)
) -> Row:
    return Row(on=on, source=source, to=_S.ROLLBACK, do=do, when=when, failure=failure)


def _again(on: Event, state: State) -> Row:
    """Stay, remember the trouble, look again later."""
    return Row(on=on, source=state, to=state, do=(_C.WATCH,))


def _slot_changed(on: Event, source: State, when: Guard | None = None) -> Row:
    """The update does not fit what runs; whatever that is gets its tries back."""
    return Row(
        on=on,
        source=source,
        to=_S.IDLE,
        do=(_C.DISCARD, _C.SETTLE),
        when=when,
        outcome=_O.FAILED,
        failure="slot_changed",
        carries=False,
    )


def _gives_up(on: Event, source: State, when: Guard | None = None) -> Row:
    """A version that cannot stay, for a reason that the event brings: the one before it does."""
    return Row(on=on, source=source, to=_S.ROLLBACK, do=(_C.MARK_BAD,), when=when)


def _tries_again(source: State) -> Row:
    """Power cuts used up the new version's tries: it gets them back, and another trial."""
    return Row(on=_E.BOOTED_PREVIOUS, source=source, to=_S.ACTIVATE, do=(_C.WATCH,), when=guards.lost_power)


def _refuses(on: Event, state: State, code: str, when: Guard | None = None) -> Row:
    """Nothing changes; whoever asked is told why."""
    return Row(on=on, source=state, to=state, when=when, refuse=code, durable=False)


def _gives_way(state: State, when: Guard | None = None) -> Row:
    """Another bundle takes the place of this one."""
    return Row(
        on=_E.UPDATE_REQUESTED,
        source=state,
        to=_S.DOWNLOAD,
        do=(_C.STOP, _C.REFRESH),
        when=when,
        outcome=_O.CANCELLED,
        failure="superseded",
    )


def _waits(state: State) -> Row:
    return Row(on=_E.DUE, source=state, to=state, do=(_C.WATCH,), when=guards.gates_closed, durable=False)


_LOOK_AGAIN: Mapping[State, tuple[Command, ...]] = {_S.DOWNLOAD: (), _S.VERIFY: (), _S.READY: (_C.WATCH,)}

TABLE: tuple[Row, ...] = (
    # idle
    Row(on=_E.UPDATE_REQUESTED, source=_S.IDLE, to=_S.DOWNLOAD, do=(_C.REFRESH,)),
    _refuses(_E.ROLLBACK_REQUESTED, _S.IDLE, "rollback_no_version", guards.no_other_version),
    _refuses(_E.ROLLBACK_REQUESTED, _S.IDLE, "rollback_floor", guards.other_below_floor),
    _refuses(_E.ROLLBACK_REQUESTED, _S.IDLE, "rollback_data", guards.data_moved_on),
    Row(on=_E.ROLLBACK_REQUESTED, source=_S.IDLE, to=_S.READY, do=(_C.REFRESH,)),
    _refuses(_E.CANCEL_REQUESTED, _S.IDLE, "nothing_to_cancel"),
    Row(on=_E.SETTLED, source=_S.IDLE, to=_S.IDLE, do=(_C.REFRESH, _C.DISCARD), when=guards.returned),
    Row(on=_E.SETTLED, source=_S.IDLE, to=_S.IDLE, do=(_C.REFRESH, _C.DISCARD), durable=False),
    # download
    _waits(_S.DOWNLOAD),
    Row(
        on=_E.DUE, source=_S.DOWNLOAD, to=_S.IDLE, when=guards.fetch_spent, outcome=_O.FAILED, failure="fetch_network"
    ),  # what was fetched stays: the next request resumes it
    Row(on=_E.DUE, source=_S.DOWNLOAD, to=_S.DOWNLOAD, do=(_C.FETCH,)),
    Row(on=_E.PROGRESSED, source=_S.DOWNLOAD, to=_S.DOWNLOAD),
    Row(on=_E.FETCHED, source=_S.DOWNLOAD, to=_S.VERIFY, do=(_C.CHECK,)),
    Row(on=_E.FETCH_FAILED, source=_S.DOWNLOAD, to=_S.DOWNLOAD, do=(_C.DISCARD, _C.WATCH), when=guards.corrupt),
    _fails(_E.FETCH_FAILED, _S.DOWNLOAD, when=guards.final),
    _again(_E.FETCH_FAILED, _S.DOWNLOAD),
    _gives_way(_S.DOWNLOAD, when=guards.stuck),
    # verify
    _fails(_E.DUE, _S.VERIFY, when=guards.check_spent, failure="interrupted"),
    Row(on=_E.DUE, source=_S.VERIFY, to=_S.VERIFY, do=(_C.CHECK,)),
    Row(on=_E.ACCEPTED, source=_S.VERIFY, to=_S.READY, do=(_C.WATCH,)),
    Row(on=_E.REJECTED, source=_S.VERIFY, to=_S.DOWNLOAD, do=(_C.DISCARD, _C.WATCH), when=guards.corrupt),
    _fails(_E.REJECTED, _S.VERIFY),
    Row(on=_E.CHECK_FAILED, source=_S.VERIFY, to=_S.DOWNLOAD, do=(_C.WATCH,), when=guards.incomplete),
    _again(_E.CHECK_FAILED, _S.VERIFY),
    # ready: the last place where cancelling is allowed
    _waits(_S.READY),
    Row(on=_E.DUE, source=_S.READY, to=_S.ACTIVATE, do=(_C.WATCH,), when=guards.goes_back),
    Row(on=_E.DUE, source=_S.READY, to=_S.INSTALL, do=(_C.INSTALL,)),
    _refuses(_E.UPDATE_REQUESTED, _S.READY, "busy", guards.goes_back),
    _refuses(_E.UPDATE_REQUESTED, _S.READY, "same_bundle", guards.same_bundle),
    _gives_way(_S.READY),
    # install
    _waits(_S.INSTALL),
    _fails(_E.DUE, _S.INSTALL, when=guards.install_spent, failure="interrupted"),
    Row(on=_E.DUE, source=_S.INSTALL, to=_S.INSTALL, do=(_C.INSTALL,)),
    Row(on=_E.PROGRESSED, source=_S.INSTALL, to=_S.INSTALL),
    Row(on=_E.SLOT_COMPLETE, source=_S.INSTALL, to=_S.ACTIVATE, do=(_C.WATCH,)),
    Row(on=_E.WRITE_FAILED, source=_S.INSTALL, to=_S.DOWNLOAD, do=(_C.WATCH,), when=guards.incomplete),
    _fails(_E.WRITE_FAILED, _S.INSTALL, when=guards.final),
    _again(_E.WRITE_FAILED, _S.INSTALL),
    # activate: asked once more, because writing took its time
    _waits(_S.ACTIVATE),
    Row(
        on=_E.DUE, source=_S.ACTIVATE, to=_S.SELFTEST, do=(_C.RUN_TESTS,), when=guards.only_parameters
    ),  # the running version tries them: there is nothing to start
    _rolls_back(_E.DUE, _S.ACTIVATE, "reboot_failed", guards.start_spent_going_back, (_C.DISARM,)),
    _rolls_back(_E.DUE, _S.ACTIVATE, "reboot_failed", when=guards.start_spent),
    Row(on=_E.DUE, source=_S.ACTIVATE, to=_S.ACTIVATE, do=(_C.REBOOT,), when=guards.armed),
    Row(on=_E.DUE, source=_S.ACTIVATE, to=_S.ACTIVATE, do=(_C.ARM,)),
    Row(on=_E.ARMED, source=_S.ACTIVATE, to=_S.ACTIVATE, do=(_C.REBOOT,)),
    _again(_E.ARM_FAILED, _S.ACTIVATE),
    _again(_E.REBOOT_FAILED, _S.ACTIVATE),
    Row(on=_E.BOOTED_TARGET, source=_S.ACTIVATE, to=_S.SELFTEST, do=(_C.RUN_TESTS,)),
    _tries_again(_S.ACTIVATE),
    _rolls_back(_E.BOOTED_PREVIOUS, _S.ACTIVATE, "boot_failed", when=guards.tries_spent),
    _again(_E.BOOTED_PREVIOUS, _S.ACTIVATE),
    # selftest
    _rolls_back(_E.DUE, _S.SELFTEST, "interrupted", when=guards.tests_spent),
    Row(on=_E.DUE, source=_S.SELFTEST, to=_S.SELFTEST, do=(_C.RUN_TESTS,)),
    Row(on=_E.TESTS_PASSED, source=_S.SELFTEST, to=_S.COMMIT, do=(_C.MARK_GOOD,)),
    _rolls_back(_E.TESTS_FAILED, _S.SELFTEST, "selftest_failed"),
    _again(_E.TESTS_LOST, _S.SELFTEST),
    _rolls_back(_E.DEADLINE, _S.SELFTEST, "selftest_deadline", do=(_C.STOP, _C.MARK_BAD)),
    _again(_E.BOOTED_TARGET, _S.SELFTEST),
    _tries_again(_S.SELFTEST),
    _rolls_back(_E.BOOTED_PREVIOUS, _S.SELFTEST, "boot_failed"),
    # commit: retried until it holds, because the new version passed its tests; unless it can never hold
    Row(on=_E.DUE, source=_S.COMMIT, to=_S.COMMIT, do=(_C.MARK_GOOD,)),
    Row(on=_E.MARKED_GOOD, source=_S.COMMIT, to=_S.IDLE, do=(_C.DISCARD, _C.REFRESH), outcome=_O.COMMITTED),
    _gives_up(_E.MARK_FAILED, _S.COMMIT, guards.final),
    _again(_E.MARK_FAILED, _S.COMMIT),
    _again(_E.BOOTED_TARGET, _S.COMMIT),
    _tries_again(_S.COMMIT),
    _rolls_back(_E.BOOTED_PREVIOUS, _S.COMMIT, "commit_lost"),
    # rollback: retried until the old version runs; where it can never be finished, whatever runs stays startable
    Row(on=_E.DUE, source=_S.ROLLBACK, to=_S.ROLLBACK, do=(_C.DISARM,), when=guards.never_started),
    Row(on=_E.DUE, source=_S.ROLLBACK, to=_S.ROLLBACK, do=(_C.MARK_BAD,)),
    Row(on=_E.DISARMED, source=_S.ROLLBACK, to=_S.IDLE, do=(_C.DISCARD, _C.REFRESH), outcome=_O.FAILED),
    Row(
        on=_E.MARKED_BAD,
        source=_S.ROLLBACK,
        to=_S.IDLE,
        do=(_C.DISCARD, _C.REFRESH),
        when=guards.booted_previous,
        outcome=_O.ROLLED_BACK,
    ),
    Row(on=_E.MARKED_BAD, source=_S.ROLLBACK, to=_S.ROLLBACK, do=(_C.REBOOT,)),
    Row(
        on=_E.MARK_FAILED,
        source=_S.ROLLBACK,
        to=_S.IDLE,
        do=(_C.DISCARD, _C.SETTLE),
        when=guards.final_but_back,
        outcome=_O.ROLLED_BACK,
    ),  # what runs is looked at again: where it was never confirmed it is tested
    Row(
        on=_E.MARK_FAILED,
        source=_S.ROLLBACK,
        to=_S.IDLE,
        do=(_C.DISCARD, _C.REFRESH),
        when=guards.final,
        outcome=_O.FAILED,
        failure="no_way_back",
    ),  # nothing else can be started: left on trial, it would run out of tries, and no update could repair it
    _again(_E.MARK_FAILED, _S.ROLLBACK),
    _again(_E.REBOOT_FAILED, _S.ROLLBACK),
    _again(_E.BOOTED_TARGET, _S.ROLLBACK),
    _again(_E.BOOTED_PREVIOUS, _S.ROLLBACK),
    # every state before the trial boot: cancelling is free
    *(
        Row(
            on=_E.CANCEL_REQUESTED,
            source=state,
            to=_S.IDLE,
            do=(_C.STOP, _C.REFRESH),
            outcome=_O.CANCELLED,
            failure="cancelled",
        )
        for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY)
    ),
    # every critical state: refused, with the reason
    *(_refuses(_E.CANCEL_REQUESTED, state, "critical_section") for state, spec in SPECS.items() if spec.critical),
    # until then people may put it off, and agree
    *(
        row
        for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY)
        for row in (
            _refuses(_E.DEFER_REQUESTED, state, "defer_spent", guards.defer_spent),
            Row(on=_E.DEFER_REQUESTED, source=state, to=state, do=_LOOK_AGAIN[state]),
            Row(on=_E.CONSENT_GIVEN, source=state, to=state, do=_LOOK_AGAIN[state]),
        )
    ),
    _refuses(_E.DEFER_REQUESTED, _S.IDLE, "nothing_to_cancel"),
    _refuses(_E.CONSENT_GIVEN, _S.IDLE, "nothing_asked"),
    *(
        row
        for state, spec in SPECS.items()
        if spec.critical
        for row in (
            _refuses(_E.DEFER_REQUESTED, state, "critical_section"),
            _refuses(_E.CONSENT_GIVEN, state, "nothing_asked"),
        )
    ),
    # the terminal's daily restart; an update on its way goes on after it
    *(
        Row(on=_E.RESTART_DUE, source=state, to=state, do=(_C.STOP, _C.RESTART))
        for state, spec in SPECS.items()
        if not spec.critical
    ),
    # one update at a time; only `ready` gives way to a newer bundle, and a download that does not get on
    *(_refuses(_E.UPDATE_REQUESTED, state, "busy") for state in State if state not in (_S.IDLE, _S.READY)),
    *(_refuses(_E.ROLLBACK_REQUESTED, state, "busy") for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY)),
    *(_refuses(_E.ROLLBACK_REQUESTED, state, "critical_section") for state, spec in SPECS.items() if spec.critical),
    # before the trial boot, every start first makes sure that the running version stays startable
    *(
        row
        for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL)
        for row in (
            Row(on=_E.SETTLED, source=state, to=state, do=(_C.REFRESH,), when=guards.returned),
            Row(on=_E.SETTLED, source=state, to=state, do=(_C.REFRESH,), durable=False),
        )
    ),
    # a customer who switched off and on again too often, too early, has brought back the version before a good one
    *(
        row
        for state in (_S.IDLE, _S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL)
        for row in (
            _gives_up(_E.STRANDED, state, guards.return_spent)
            if state is _S.IDLE
            else _slot_changed(_E.STRANDED, state, guards.return_spent),
            Row(on=_E.STRANDED, source=state, to=state, do=(_C.RETURN,), carries=False),
        )
    ),
    _gives_up(_E.FELL_BACK, _S.IDLE),
    # the hardware contradicts the journal: believe the hardware
    *(_slot_changed(_E.SLOT_CHANGED, state) for state in (_S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL)),
    *(
        Row(on=_E.TRIAL_FOUND, source=state, to=_S.SELFTEST, do=(_C.RUN_TESTS,))
        for state in (_S.IDLE, _S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL)
    ),
    # service has a report on how the last update ended
    *(Row(on=_E.TICKETED, source=state, to=state) for state in State),
)

_CRITICAL = {state for state, spec in SPECS.items() if spec.critical}
_BOOT = {_S.ACTIVATE, _S.SELFTEST, _S.COMMIT, _S.ROLLBACK}
_EARLY = {_S.IDLE, _S.DOWNLOAD, _S.VERIFY, _S.READY, _S.INSTALL}

IGNORED: Mapping[Event, frozenset[State]] = {
    # a worker's or timer's message that arrives after its state was left means nothing any more
    _E.DUE: frozenset({_S.IDLE}),
    _E.RESTART_DUE: frozenset(_CRITICAL),
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
    _E.DISARMED: frozenset(set(State) - {_S.ROLLBACK}),
    # recovery raises these only in the states that have a row for them
    _E.SETTLED: frozenset(_BOOT),
    _E.STRANDED: frozenset(_BOOT),
    _E.FELL_BACK: frozenset(set(State) - {_S.IDLE}),
    _E.TRIAL_FOUND: frozenset(_BOOT),
    _E.SLOT_CHANGED: frozenset(_BOOT | {_S.IDLE}),
    _E.BOOTED_TARGET: frozenset(_EARLY),
    _E.BOOTED_PREVIOUS: frozenset(_EARLY),
}
