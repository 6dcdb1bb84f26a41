"""The questions on which rows of the table depend; each is named by what holds when the answer is yes.

Rules: pure, and each sees only the situation, the event and the facts. The first line of a guard's docstring is what
docs/states.md shows of it.
"""

from __future__ import annotations

from collections.abc import Callable

from posagent.core import ladder
from posagent.core.errors import CATALOGUE, Retry
from posagent.core.model import Command, Facts, Occurrence, OutcomeKind, Situation

Guard = Callable[[Situation, Occurrence, Facts], bool]


def gates_closed(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """a gate for this work is closed"""
    return bool(facts.closed_gates(situation.state))


def defer_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """put off too often, or too late for that"""
    update = situation.update
    if update is None:
        return False
    return update.deferrals >= facts.limits.deferrals_max or 0 < update.not_after <= facts.now


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
    forgiven = _forgiven(situation, facts)
    return (
        attempts.get(Command.ARM, 0) - forgiven >= limits.arm_attempts_max
        and not (situation.update is not None and situation.update.armed)
    ) or attempts.get(Command.REBOOT, 0) - forgiven >= limits.reboot_attempts_max


def tests_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """no self-test attempt left"""
    ran = situation.attempts.get(Command.RUN_TESTS, 0) - _forgiven(situation, facts)
    return ran >= facts.limits.selftest_attempts_max


def _forgiven(situation: Situation, facts: Facts) -> int:
    """Attempts that somebody ended by switching off: not the new version's fault, up to a limit of their own."""
    cycles = situation.update.power_cycles if situation.update is not None else 0
    return min(cycles, facts.limits.power_cycles_max)


def lost_power(_: Situation, occurrence: Occurrence, facts: Facts) -> bool:
    """the power went away, and not too often yet"""
    seen, cycles = facts.observation, occurrence.data.get("update", {}).get("power_cycles", 0)
    sure = seen is not None and seen.lost_power
    limit = facts.limits.power_cycles_max if sure else facts.limits.return_attempts_max
    return bool(0 < cycles <= limit)


def return_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """returned too often already"""
    return situation.attempts.get(Command.RETURN, 0) >= facts.limits.return_attempts_max


def returned(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """the terminal has just returned to this version"""
    return Command.RETURN in situation.attempts


def armed(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """the trial boot is armed"""
    return situation.update is not None and situation.update.armed


def tries_spent(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """the bootloader used up the new slot's tries"""
    update, seen = situation.update, facts.observation
    if update is None or seen is None or seen.same_start(update.boot_id):
        return False  # nothing was tried since the journal last heard: only the agent was started again
    return seen.spent(update.target)


def final(_: Situation, occurrence: Occurrence, __: Facts) -> bool:
    """trying again cannot help"""
    code = occurrence.data.get("failure", {}).get("code", "internal")
    return CATALOGUE[code].retry == Retry.NEVER


def incomplete(_: Situation, occurrence: Occurrence, __: Facts) -> bool:
    """a part of the bundle is missing"""
    return bool(occurrence.data.get("failure", {}).get("code") == "bundle_incomplete")


def corrupt(situation: Situation, occurrence: Occurrence, _: Facts) -> bool:
    """what was fetched may be what is wrong, for the first time"""
    first = situation.update is not None and not situation.update.downloads
    code = occurrence.data.get("failure", {}).get("code", "")
    return first and ladder.suspect(code, situation.attempts.get(Command.FETCH, 0))


def stuck(situation: Situation, occurrence: Occurrence, _: Facts) -> bool:
    """the download does not get on, and now it is to come from elsewhere"""
    update, begins = situation.update, occurrence.data["begins"]
    helpless = (situation.failure or {}).get("step") == ladder.Step.OTHER_WAY
    return helpless and update is not None and begins["source"] not in ("", update.source)


def final_but_back(situation: Situation, occurrence: Occurrence, facts: Facts) -> bool:
    """trying again cannot help, but the old version is running"""
    return final(situation, occurrence, facts) and booted_previous(situation, occurrence, facts)


def same_bundle(situation: Situation, occurrence: Occurrence, _: Facts) -> bool:
    """it is the bundle already waiting"""
    update, begins = situation.update, occurrence.data["begins"]
    if update is None or not update.sha256:
        return False  # a name alone says nothing: sticks are swapped, files are replaced
    return (update.source, update.sha256) == (begins["source"], begins["sha256"])


def no_other_version(_: Situation, __: Occurrence, facts: Facts) -> bool:
    """the other slot holds no version that was confirmed"""
    seen = facts.observation
    return seen is None or seen.slots[seen.spare].state != "good"


def other_below_floor(_: Situation, __: Occurrence, facts: Facts) -> bool:
    """the version in the other slot is below the rollback floor"""
    seen = facts.observation
    if seen is None:
        return True
    # what runs is confirmed: the floor is about to rise to it, or a power cut has kept it from rising
    return seen.slots[seen.spare].counter < max(seen.floor, seen.slots[seen.booted].counter)


def data_moved_on(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """the merchant's data has another format since the other version ran"""
    committed = [one for one in situation.outcomes if one["outcome"] == OutcomeKind.COMMITTED]
    return bool(committed) and bool(committed[-1].get("migrated"))


def only_parameters(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """it brings parameters and nothing else"""
    return situation.update is not None and situation.update.only_parameters


def goes_back(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """it goes back to the version in the other slot"""
    return situation.update is not None and situation.update.goes_back


def never_started(situation: Situation, _: Occurrence, __: Facts) -> bool:
    """it goes back, and the other version was never started"""
    return situation.update is not None and situation.update.goes_back and not situation.update.tried


def start_spent_going_back(situation: Situation, occurrence: Occurrence, facts: Facts) -> bool:
    """no arming or restart attempt left, it goes back, and the other version was never started"""
    return never_started(situation, occurrence, facts) and start_spent(situation, occurrence, facts)


def booted_previous(situation: Situation, _: Occurrence, facts: Facts) -> bool:
    """the old version is running"""
    update, seen = situation.update, facts.observation
    return update is None or seen is None or seen.booted != update.target
