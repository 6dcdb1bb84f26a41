"""What the agent says of itself: the answer to `status`, and its estimate (docs/how-it-works.md shows them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import posagent
from posagent.agent import views
from posagent.agent.engine import Engine
from posagent.core import estimate, ladder
from posagent.core.errors import PosagentError
from posagent.core.estimate import ROLLBACK, Forecast
from posagent.core.model import State
from posagent.core.spread import Span
from posagent.core.states import SPECS


def of(engine: Engine, terminal: str, alarms: Sequence[PosagentError]) -> dict[str, Any]:
    """Everything at one glance; `alarms` are problems beside the engine's own. Each thing is asked once: progress is
    told several times a second, and this is a slow machine."""
    situation, seen, gates = engine.situation, engine.observation, engine.gates()
    power, forecast = engine.power, None if situation.state is State.IDLE else engine.forecast()
    return {
        "terminal": terminal,
        "agent_version": posagent.__version__,
        "state": situation.state.value,
        "meaning": SPECS[situation.state].meaning,
        "meaning_zh": SPECS[situation.state].meaning_zh,
        "critical": engine.critical,
        "expected_s": expected_s(engine, forecast),
        "booted": seen.booted if seen else None,
        "slots": {name: views.slot(name, view, seen.booted) for name, view in sorted(seen.slots.items())}
        if seen
        else {},
        "update": _update(engine),
        "estimate": None if forecast is None else estimated(engine, forecast),
        "gates": [views.gate(gate) for gate in gates],
        "power": {
            "battery_percent": power.battery_percent,
            "charging": power.charging,
            "mains": power.mains,
        },
        "last_outcome": situation.last_outcome,
        "failure": situation.failure,
        "help": help_on(engine),
        "problems": problems(engine, alarms),
    }


def expected_s(engine: Engine, forecast: Forecast | None = None) -> float | None:
    """Seconds until the critical section ends; None outside of it, and while it waits for a gate."""
    if engine.situation.state not in estimate.CRITICAL or engine.waits_for:
        return None
    return max(round((forecast or engine.forecast()).total.p50, 1), 1.0)


def estimated(engine: Engine, forecast: Forecast | None = None) -> dict[str, Any]:
    """How long it takes from now on, in seconds (`p50` in half of all cases, `p90` in nine of ten): each phase ahead,
    the `total`, and the `outage` in which no payment can be taken; `begins_at` where the calendar decides, and why the
    total `moved` lately."""
    forecast, plan, update = forecast or engine.forecast(), engine.plan(), engine.situation.update
    at_once = update is not None and update.at_once and update.deferred_until <= engine.now()
    told = {**spans(forecast), "begins_at": None if plan is None or at_once else plan.start_s}
    moved = engine.moved(forecast)
    if moved is not None:
        told |= {"moved": moved[0], "moved_zh": moved[1]}
    return told


def spans(forecast: Forecast) -> dict[str, Any]:
    """The phases ahead; going back only where it is all that is left."""
    ahead = {name: span for name, span in forecast.phases.items() if name != ROLLBACK} or forecast.phases
    return {
        "phases": {name: _span(span) for name, span in ahead.items()},
        "total": _span(forecast.total),
        "outage": _span(forecast.outage),
    }


def _span(span: Span) -> dict[str, float]:
    return {"p50": round(span.p50, 1), "p90": round(span.p90, 1)}


def _update(engine: Engine) -> dict[str, Any] | None:
    update, progress = engine.situation.update, engine.progress
    if update is None:
        return None
    live = progress.bytes_total > 0
    return {
        "id": update.id,
        "version": update.version,
        "phase": engine.situation.state.value,
        "step": progress.step,
        "bytes_done": progress.bytes_done if live else update.bytes_done,
        "bytes_total": progress.bytes_total if live else update.bytes_total,
        "bytes_refetched": update.bytes_refetched,
        "kind": "rollback" if update.goes_back else update.kind,
        "refused": update.refused,
        "streamed": update.streamed,
        "target": update.target,
        "attempts": dict(engine.situation.attempts),
    }


def help_on(engine: Engine) -> dict[str, Any] | None:
    """The step of the ladder of help that the update is on, or that is left after its end."""
    situation = engine.situation
    if situation.update is None:
        told = ladder.ended(situation.last_outcome)
    else:
        told = ladder.under_way(situation.failure, situation.update.found)
    return None if told is None else told.as_dict()


def problems(engine: Engine, alarms: Sequence[PosagentError]) -> list[dict[str, Any]]:
    """Trouble that belongs to no update."""
    seen = engine.observation
    contradictions = [
        {"code": "slot_changed", "detail": text, "remedy": ""} for text in (seen.contradictions if seen else ())
    ]
    return [problem.as_dict() for problem in (*engine.problems.values(), *alarms)] + contradictions
