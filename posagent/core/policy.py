"""When may it start, and when to look again: gates and waiting times as pure functions.

Rules: what is not known keeps a gate closed. A gate waits; it never turns into "failed". Every closed gate says what
the person there can do about it, in English and Chinese.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posagent.core.model import Command, Event, Gate, Limits, Observation, Situation, State
from posagent.core.ports import PowerReading


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLimits:
    """Battery floors in percent; `battery_required` is False for terminals that only run on mains."""

    battery_required: bool = True
    download_percent_min: int = 15
    install_percent_min: int = 30
    install_on_charger_percent_min: int = 15
    install_needs_charger: bool = False


def gates(reading: PowerReading, limits: PowerLimits, seen: Observation | None) -> tuple[Gate, ...]:
    """All gates, open and closed, for `download` and `install`."""
    return (
        _power_gate("power_download", State.DOWNLOAD, reading, limits),
        _power_gate("power_install", State.INSTALL, reading, limits),
        _slot_gate(seen),
    )


def _open(name: str, state: State, reason: str, reason_zh: str) -> Gate:
    return Gate(name=name, needed_for=state, open=True, reason=reason, reason_zh=reason_zh)


def _closed(name: str, state: State, reason: tuple[str, str], remedy: tuple[str, str]) -> Gate:
    return Gate(
        name=name,
        needed_for=state,
        open=False,
        reason=reason[0],
        reason_zh=reason[1],
        remedy=remedy[0],
        remedy_zh=remedy[1],
    )


_CHARGER = ("Put the terminal on its charger.", "请将终端接上充电器。")
_BATTERY_FAULT = (
    "Check that the battery is seated; if this stays, call service.",
    "请检查电池是否装好；如仍有问题请联系服务商。",
)
_SLOT_FAULT = ("Call service; the terminal keeps working.", "请联系服务商；终端可继续使用。")


def _power_gate(name: str, state: State, reading: PowerReading, limits: PowerLimits) -> Gate:
    if not limits.battery_required and reading.battery_present is not True:
        return _open(name, state, "runs on mains, has no battery", "市电供电，无电池")
    percent = reading.battery_percent
    if percent is None:
        return _closed(name, state, ("the battery level is not known", "电池电量未知"), _BATTERY_FAULT)
    on_charger = reading.mains is True
    if state is State.INSTALL and limits.install_needs_charger and not on_charger:
        return _closed(name, state, ("not on the charger", "未接充电器"), _CHARGER)
    needed = _percent_needed(state, on_charger, limits)
    if percent < needed:
        return _closed(
            name,
            state,
            (f"battery {percent} %, needs {needed} %", f"电量 {percent} %，需要 {needed} %"),
            (f"Charge to at least {needed} %.", f"请充电至 {needed} % 以上。") if on_charger else _CHARGER,
        )
    return _open(name, state, f"battery {percent} %, needs {needed} %", f"电量 {percent} %，需要 {needed} %")


def _percent_needed(state: State, on_charger: bool, limits: PowerLimits) -> int:
    if state is State.DOWNLOAD:
        return limits.download_percent_min
    return limits.install_on_charger_percent_min if on_charger else limits.install_percent_min


def _slot_gate(seen: Observation | None) -> Gate:
    if seen is None:
        return _closed("boot_control", State.INSTALL, ("the slots are not known yet", "启动分区状态未知"), _SLOT_FAULT)
    return _open("boot_control", State.INSTALL, f"slot {seen.spare} is free", f"分区 {seen.spare} 可用")


LINK_SETTLES_S = 2.0
"""Until the new link can be used."""
_WORK: Mapping[State, tuple[Command, ...]] = {
    State.DOWNLOAD: (Command.FETCH,),
    State.VERIFY: (Command.CHECK,),
    State.INSTALL: (Command.INSTALL,),
    State.ACTIVATE: (Command.ARM, Command.REBOOT),
    State.SELFTEST: (Command.RUN_TESTS,),
    State.COMMIT: (Command.MARK_GOOD,),
    State.ROLLBACK: (Command.MARK_BAD,),
}

TROUBLE = frozenset(
    {
        Event.FETCH_FAILED,
        Event.CHECK_FAILED,
        Event.WRITE_FAILED,
        Event.ARM_FAILED,
        Event.REBOOT_FAILED,
        Event.TESTS_LOST,
        Event.MARK_FAILED,
    }
)


def wait_s(situation: Situation, after: Event, limits: Limits) -> float:
    """Seconds until the agent looks again (raises DUE), after an event that asked it to watch.

    A closed gate is asked again regularly; trouble waits twice as long with every attempt, or as long as the server
    asked for; everything else goes on at once.
    """
    if after is Event.DUE:
        return limits.gate_recheck_s
    if after not in TROUBLE:
        return 0.0
    started = max((situation.attempts.get(command, 0) for command in _WORK[situation.state]), default=0)
    doubled = 2.0 ** max(0, min(started, 20) - 1)
    if situation.state is State.DOWNLOAD:
        if (situation.failure or {}).get("code") == "fetch_link_changed":
            return LINK_SETTLES_S
        announced = (situation.failure or {}).get("retry_after_s") or 0
        return max(min(limits.fetch_backoff_s * doubled, limits.fetch_backoff_s_max), min(float(announced), 86400.0))
    return min(limits.install_backoff_s * doubled, limits.reboot_timeout_s)
