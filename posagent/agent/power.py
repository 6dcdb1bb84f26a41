"""The answer to `power`: battery, charger, trend, and what they mean for an update."""

from __future__ import annotations

import math
from typing import Any

from posagent.agent import views
from posagent.agent.engine import Engine
from posagent.core import battery, energy
from posagent.core.trend import Trend

GATE = "power_install"


def answer(engine: Engine) -> dict[str, Any]:
    """`{battery, charger, trend, needs, gate, charge_min}`; what is not known is None. `needs` is what installing,
    restart, self-test and a way back take, `charge_min` the minutes on a charger until there is enough, 0 where there
    is."""
    gate = next(gate for gate in engine.gates() if gate.name == GATE)
    seen = engine.supply()
    reading, budget = seen.reading, seen.budget
    return {
        "battery": {
            "present": reading.battery_present,
            "percent": reading.battery_percent,
            "believed_percent": battery.believed_percent(reading),
            "health_percent": round(100 * battery.health(reading, seen.capacity_wh_default)),
            "holds_wh": round(battery.usable_wh(reading, seen.capacity_wh_default), 2),
            "temperature_c": reading.temperature_c,
            "voltage_v": reading.voltage_v,
            "draw_w": reading.draw_w,
            "cycles": reading.cycles,
        },
        "charger": {
            "connected": reading.mains if reading.mains is not None else reading.charging,
            "charging": reading.charging,
            "supply": energy.supply(reading, seen.trend).value,
        },
        "trend": {"direction": _direction(seen.trend), "percent_per_h": _rounded(seen.trend.percent_per_h)},
        "needs": None
        if budget is None
        else {
            "percent": budget.needed_percent,
            "wh": round(budget.need_wh, 2),
            "has_wh": round(budget.have_wh, 2),
            "seconds": round(seen.need_s, 1),
        },
        "gate": views.gate(gate),
        "charge_min": None if seen.charge_s is None else math.ceil(seen.charge_s / 60),
    }


def _direction(trend: Trend) -> str:
    if trend.rising:
        return "rising"
    if trend.falling:
        return "falling"
    return "steady" if trend.steady else "unknown"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
