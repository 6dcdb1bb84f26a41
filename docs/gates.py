"""The page docs/gates.md: every reason for which a gate is closed, as the code says it. Used by docs/generate.py."""

from __future__ import annotations

from collections.abc import Iterator

from posagent.core import energy, holds, policy, schedule
from posagent.core.energy import EnergyLimits
from posagent.core.model import Gate, State
from posagent.core.ports import PowerReading
from posagent.core.trend import Trend

HOUR_S = 3600.0
VALUES = {"at": "22:00", "needed": 25, "longest": 20, "name": "acme-pay", "seconds": 90}
HEAD = "| gate | reason | what helps | 原因 | 处理办法 |\n|---|---|---|---|---|"


def _power(
    reading: PowerReading, limits: EnergyLimits | None = None, need_s: float = 300.0, trend: Trend | None = None
) -> Gate:
    return energy.gate(
        reading,
        trend or Trend(),
        limits or EnergyLimits(),
        need_s,
        name="power_install",
        needed_for=State.INSTALL,
    )


def _battery(percent: int | None, *, mains: bool = False, **more: object) -> PowerReading:
    charging = more.pop("charging", mains)
    return PowerReading(
        battery_present=True,
        battery_percent=percent,
        charging=charging,
        mains=mains,
        **more,  # type: ignore[arg-type]
    )


def _watched(reading: PowerReading, percents: list[int]) -> Trend:
    """What looking every five minutes has shown."""
    trend = Trend()
    for number, percent in enumerate(percents):
        seen = _battery(percent, mains=bool(reading.mains), charging=reading.charging)
        trend = trend.after(number * 300.0, seen)
    return trend


def closed_gates() -> Iterator[Gate]:
    """One of each kind."""
    stuck = _battery(25, mains=True)
    yield _power(_battery(20))
    yield _power(_battery(10, mains=True))
    yield _power(_battery(40), need_s=2 * HOUR_S)
    yield _power(_battery(None))
    yield _power(PowerReading(battery_present=False))
    yield _power(_battery(80), EnergyLimits(install_needs_charger=True))
    yield _power(_battery(20, mains=True, draw_w=1.5))
    yield _power(_battery(12, mains=True, charging=False))
    yield _power(stuck, EnergyLimits(install_on_charger_percent_min=30), trend=_watched(stuck, [25] * 8))
    yield _power(_battery(80, temperature_c=-8.0))
    yield _power(_battery(80, temperature_c=52.0))
    yield _power(_battery(60), need_s=20 * HOUR_S)
    yield _power(_battery(60, mains=True), need_s=20 * HOUR_S)
    yield _power(_battery(60), EnergyLimits(charger_may_carry=False), need_s=20 * HOUR_S)
    yield policy.gates(_battery(80), EnergyLimits(), None)[-1]
    for words in holds.WORDS.values():
        yield Gate(
            name="payment",
            needed_for=State.INSTALL,
            open=False,
            reason=words.reason.format_map(VALUES),
            reason_zh=words.reason_zh.format_map(VALUES),
            remedy=words.remedy,
            remedy_zh=words.remedy_zh,
        )
    for key, (reason, remedy) in schedule.WORDS.items():
        yield Gate(
            name="consent" if key == "confirm" else "window",
            needed_for=State.INSTALL,
            open=False,
            reason=reason[0].format_map(VALUES),
            reason_zh=reason[1].format_map(VALUES),
            remedy=remedy[0],
            remedy_zh=remedy[1],
        )


def page(generated: str) -> str:
    lines = [
        "# Why not now: every closed gate, and what helps",
        "",
        generated,
        "A closed gate waits; it never becomes a failure. Figures are examples. When each is asked: "
        "[when.md](when.md).",
        "",
        HEAD,
    ]
    for gate in closed_gates():
        assert not gate.open and gate.remedy and gate.remedy_zh, gate
        lines.append(f"| {gate.name} | {gate.reason} | {gate.remedy} | {gate.reason_zh} | {gate.remedy_zh} |")
    return "\n".join(lines) + "\n"
