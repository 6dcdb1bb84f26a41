"""A terminal's battery and its charger: four ages, and how people charge it. What installing takes is really gone.

Energy is in Wh. The gauge rounds to whole percent and is a little wrong about what the battery holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posagent.core.ports import PowerReading

DESIGN_WH = 9.6
PAYMENT_WH = 0.006
CHARGER_W, WEAK_CHARGER_W = 5.0, 1.3
IDLE_W = 0.22
PART_S = 600.0
"""Over so long the load is taken for constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """`full_wh` is what it holds now."""

    full_wh: float
    cycles: int


AGES = {
    "new": Age(full_wh=9.6, cycles=15),
    "used": Age(full_wh=7.9, cycles=350),
    "worn": Age(full_wh=5.2, cycles=900),
    "nearly_dead": Age(full_wh=1.6, cycles=1500),
}
CHARGERS = ("base", "night", "weak", "closed", "forgetful")
"""Always on its base; at night; always, but weak; never while the shop is open; at night, one night in four not."""


class Battery:
    """`plugged` says whether it is on its charger at a moment, `load_w` what the terminal draws beside payments, and
    `payments` how many were taken so far. core.ports.Power."""

    def __init__(
        self,
        age: str,
        *,
        charger_w: float,
        gauge_error: float,
        now_s: Callable[[], float],
        plugged: Callable[[float], bool],
        load_w: Callable[[], float],
        payments: Callable[[], int],
    ) -> None:
        self.age = AGES[age]
        self.level_wh = 0.8 * self.age.full_wh
        self.off = False
        self._charger_w, self._gauge_error = charger_w, gauge_error
        self._now_s, self._plugged, self._load_w, self._payments = now_s, plugged, load_w, payments
        self._seen_s, self._seen_payments = now_s(), 0

    @property
    def percent(self) -> float:
        return 100 * self.level_wh / self.age.full_wh

    @property
    def plugged(self) -> bool:
        return self._plugged(self._now_s())

    def _net_w(self, at_s: float) -> float:
        load_w = 0.0 if self.off else self._load_w()
        if not self._plugged(at_s):
            return -load_w
        slow = 0.5 if self.percent > 80 else 1.0
        return min(self._charger_w - load_w, self._charger_w * slow)

    def advance(self) -> None:
        """Until now, with the load that there was; call it before the load changes."""
        now_s = self._now_s()
        paid = self._payments()
        self._add(-(paid - self._seen_payments) * PAYMENT_WH)
        self._seen_payments = paid
        while self._seen_s < now_s:
            part_s = min(PART_S, now_s - self._seen_s)
            self._add(self._net_w(self._seen_s + part_s / 2) * part_s / 3600)
            self._seen_s += part_s

    def _add(self, energy_wh: float) -> None:
        self.level_wh = min(max(self.level_wh + energy_wh, 0.0), self.age.full_wh)

    def read(self) -> PowerReading:
        """core.ports.Power."""
        self.advance()
        plugged, net_w = self.plugged, self._net_w(self._now_s())
        full = self.level_wh >= 0.995 * self.age.full_wh
        return PowerReading(
            battery_present=True,
            battery_percent=round(self.percent),
            charging=plugged and net_w > 0 and not full,
            mains=plugged,
            battery_full=full and plugged,
            battery_full_wh=round(self.age.full_wh * self._gauge_error, 2),
            battery_design_wh=DESIGN_WH,
            cycles=self.age.cycles,
            temperature_c=24.0,
            draw_w=0.0 if plugged and full and net_w >= 0 else -net_w,
            technology="Li-ion",
        )
