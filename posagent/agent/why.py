"""Why nothing happens now, or why it may not be stopped: one screen, at any moment.

Owns: the order of reasons (most pressing first) and the refusal of a critical section.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from posagent.agent import status, views
from posagent.agent.engine import Engine
from posagent.core.errors import PosagentError, Refusal
from posagent.core.model import Gate, OutcomeKind, State, closed
from posagent.core.states import SPECS


def answer(engine: Engine, alarms: Sequence[PosagentError]) -> dict[str, Any]:
    """`{state, doing, doing_zh, since_s, ends_in, why: [{code, detail, remedy, …}], help, last_outcome}`: what is done,
    for how long it has been, when it will be over (a span, or None where somebody has to act first), what it waits for
    and who can change that, and which step of the ladder of help it is on."""
    situation = engine.situation
    waits = closed(engine.gates(), situation.state) if situation.update is not None else ()
    ends = None if situation.update is None or waits else status.estimated(engine)["total"]
    since_s = engine.since_s()
    return {
        "state": situation.state.value,
        "doing": SPECS[situation.state].meaning,
        "doing_zh": SPECS[situation.state].meaning_zh,
        "since_s": None if since_s is None else round(since_s, 1),
        "ends_in": ends,
        "why": reasons(engine, alarms),
        "help": status.help_on(engine),
        "last_outcome": situation.last_outcome,
    }


def reasons(engine: Engine, alarms: Sequence[PosagentError]) -> list[dict[str, Any]]:
    """Critical section, closed gates, trouble being retried, last failure."""
    situation = engine.situation
    found: list[dict[str, Any]] = []
    if engine.critical:
        found.append(critical(engine).as_dict())
    elif situation.update is not None:
        found += [views.closed_gate(gate) for gate in closed(engine.gates(), situation.state)]
    if situation.failure is not None:
        found.append(PosagentError.from_dict(situation.failure).as_dict())
    last = situation.last_outcome
    if situation.state is State.IDLE and last is not None and last["outcome"] != OutcomeKind.COMMITTED.value:
        found.append(PosagentError.from_dict(last).as_dict())
    return found + status.problems(engine, alarms)


def critical(engine: Engine) -> Refusal:
    """What a person hears who wants to stop it."""
    state, seconds = engine.situation.state, status.expected_s(engine)
    if engine.waits_for or seconds is None:
        return _waiting(state, engine.waits_for[0])
    return Refusal(
        "critical_section",
        f"{SPECS[state].meaning}: about {seconds:.0f} s to go",
        detail_zh=f"{SPECS[state].meaning_zh}：约剩 {seconds:.0f} 秒",
        state=state.value,
        expected_s=seconds,
    )


def _waiting(state: State, gate: Gate) -> Refusal:
    """How long it takes is up to whoever can open the gate."""
    return Refusal(
        "critical_section",
        f"{SPECS[state].meaning}: waiting for: {gate.reason}",
        detail_zh=f"{SPECS[state].meaning_zh}，等待条件：{gate.reason_zh}",
        remedy=gate.remedy,
        remedy_zh=gate.remedy_zh,
        state=state.value,
        expected_s=None,
    )
