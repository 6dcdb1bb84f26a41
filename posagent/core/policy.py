"""When may it start, and when to look again: gates and waiting times as pure functions.

Rules: what is not known keeps a gate closed. A gate waits; it never turns into "failed". Every closed gate says what
the person there can do about it, in English and Chinese.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from posagent.core import energy
from posagent.core.energy import EnergyLimits
from posagent.core.model import Command, Event, Gate, Limits, Observation, Situation, State
from posagent.core.ports import PowerReading
from posagent.core.trend import Trend

_SLOT_FAULT = ("Call service; the terminal keeps working.", "请联系服务商；终端可继续使用。")


def gates(
    reading: PowerReading,
    limits: EnergyLimits,
    seen: Observation | None,
    *,
    need_s: float = 0.0,
    trend: Trend | None = None,
    was_open: Collection[str] | None = None,
    near: bool = False,
) -> tuple[Gate, ...]:
    """All gates, open and closed, for `download` and `install`, and for the restart where that is `near`.

    `need_s` is how long (p90) the battery must last for install, restart, self-test and a rollback. `was_open` names
    the gates that were open when last asked; None where that is not known.
    """
    asked = [("power_download", State.DOWNLOAD, 0.0), ("power_install", State.INSTALL, need_s)]
    if near:
        asked.append(("power_restart", State.ACTIVATE, need_s))
    power = (
        energy.gate(
            reading,
            trend or Trend(),
            limits,
            seconds,
            name=name,
            needed_for=state,
            was_open=was_open is None or name in was_open,
        )
        for name, state, seconds in asked
    )
    return (*power, _slot_gate(seen))


def _slot_gate(seen: Observation | None) -> Gate:
    if seen is not None:
        said = (f"slot {seen.spare} is free", f"分区 {seen.spare} 可用")
        return Gate(name="boot_control", needed_for=State.INSTALL, open=True, reason=said[0], reason_zh=said[1])
    return Gate(
        name="boot_control",
        needed_for=State.INSTALL,
        open=False,
        reason="the slots are not known yet",
        reason_zh="启动分区状态未知",
        remedy=_SLOT_FAULT[0],
        remedy_zh=_SLOT_FAULT[1],
    )


WAITS_S_MAX = 900.0
"""The clock may be set, and people change their minds: whoever does so asks the agent anyway."""
LINK_SETTLES_S = 2.0
"""Until the new link can be used."""
_WORK: Mapping[State, tuple[Command, ...]] = {
    State.DOWNLOAD: (Command.FETCH,),
    State.VERIFY: (Command.CHECK,),
    State.INSTALL: (Command.INSTALL,),
    State.ACTIVATE: (Command.ARM, Command.REBOOT),
    State.SELFTEST: (Command.RUN_TESTS,),
    State.COMMIT: (Command.MARK_GOOD,),
    State.ROLLBACK: (Command.MARK_BAD, Command.DISARM),
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


def wait_s(situation: Situation, after: Event, limits: Limits, waits_s: float = 0.0) -> float:
    """Seconds until the agent looks again (raises DUE), after an event that asked it to watch.

    A closed gate is asked again regularly, less often while one of them stays closed for `waits_s` more seconds;
    trouble waits twice as long with every attempt, or as long as the server asked for; everything else goes on at once.
    """
    if after is Event.DUE:
        return max(limits.gate_recheck_s, min(waits_s, WAITS_S_MAX))
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
