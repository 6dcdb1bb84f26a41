"""The words of the table: states, events, commands, and how an update ends."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    IDLE = "idle"
    DOWNLOAD = "download"
    VERIFY = "verify"
    READY = "ready"
    INSTALL = "install"
    ACTIVATE = "activate"
    SELFTEST = "selftest"
    COMMIT = "commit"
    ROLLBACK = "rollback"


class Event(StrEnum):
    # people and servers
    UPDATE_REQUESTED = "update_requested"
    CANCEL_REQUESTED = "cancel_requested"
    DEFER_REQUESTED = "defer_requested"
    CONSENT_GIVEN = "consent_given"
    ROLLBACK_REQUESTED = "rollback_requested"
    # time
    DUE = "due"
    DEADLINE = "deadline"
    RESTART_DUE = "restart_due"
    # workers
    PROGRESSED = "progressed"
    FETCHED = "fetched"
    FETCH_FAILED = "fetch_failed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CHECK_FAILED = "check_failed"
    SLOT_COMPLETE = "slot_complete"
    WRITE_FAILED = "write_failed"
    ARMED = "armed"
    ARM_FAILED = "arm_failed"
    REBOOT_FAILED = "reboot_failed"
    TESTS_PASSED = "tests_passed"
    TESTS_FAILED = "tests_failed"
    TESTS_LOST = "tests_lost"
    MARKED_GOOD = "marked_good"
    MARKED_BAD = "marked_bad"
    MARK_FAILED = "mark_failed"
    DISARMED = "disarmed"
    # what the hardware says when the agent starts (see core.recovery)
    SETTLED = "settled"
    TRIAL_FOUND = "trial_found"
    SLOT_CHANGED = "slot_changed"
    STRANDED = "stranded"
    FELL_BACK = "fell_back"
    BOOTED_TARGET = "booted_target"
    BOOTED_PREVIOUS = "booted_previous"
    # help
    TICKETED = "ticketed"


class Command(StrEnum):
    """What the engine does after a decision is durable. Every command is idempotent."""

    WATCH = "watch"  # look again later: raises DUE
    STOP = "stop"  # hang up on the worker
    DISCARD = "discard"  # delete the bundle; between updates, what a power cut has left of the last one
    REFRESH = "refresh"  # booted slot is good: refill its tries, apply its floor; then DUE
    SETTLE = "settle"  # ask the hardware's story again: the update that it did not fit is over
    RESTART = "restart"  # the terminal's daily one
    RETURN = "return"  # power cuts used up a good slot's tries: start it again
    FETCH = "fetch"
    CHECK = "check"
    INSTALL = "install"
    ARM = "arm"
    REBOOT = "reboot"
    RUN_TESTS = "run_tests"
    MARK_GOOD = "mark_good"
    MARK_BAD = "mark_bad"
    DISARM = "disarm"  # a version that was good before and was never started stays good, behind the running one


class OutcomeKind(StrEnum):
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    CANCELLED = "cancelled"
