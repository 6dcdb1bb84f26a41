"""Whether the battery's level rises or falls, and how fast: a pure record of the last half hour.

Rules: the gauge counts in whole percent, so time is taken where the level changes, not where it is looked at. Plugging
in or out begins anew, and so does a jump that no charger and no load can make (the gauge has corrected itself).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from posagent.core.ports import PowerReading

WINDOW_S = 1800.0
STEADY_S = 900.0
"""After so long without a change nothing changes."""
STEPS_MAX = 128
STEPS_APART_S = 120.0
"""Changes that follow each other faster say nothing about the rate."""
JUMP_PERCENT = 2.0
PERCENT_PER_H_MAX = 200.0
FALL_PERCENT_PER_H = 1.0
FALL_PERCENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The level became `percent` at about `at_s`."""

    at_s: float
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """What was seen since `begun_s`, at most WINDOW_S ago: the level then, each change since, and the last look."""

    plugged: bool | None = None
    begun_s: float = 0.0
    seen_s: float = 0.0
    first_percent: int = 0
    last_percent: int = 0
    steps: tuple[Step, ...] = ()

    def after(self, now_s: float, reading: PowerReading) -> Trend:
        """The trend with one more look at the battery, at monotonic seconds."""
        percent, plugged = reading.battery_percent, reading.plugged
        if percent is None:
            return Trend()
        if self.plugged is not plugged or self._interrupted(now_s, percent):
            return Trend(plugged=plugged, begun_s=now_s, seen_s=now_s, first_percent=percent, last_percent=percent)
        steps = self.steps
        if percent != self.last_percent:
            steps = (*steps, Step(at_s=(self.seen_s + now_s) / 2, percent=percent))
        kept = tuple(step for step in steps if step.at_s >= now_s - WINDOW_S)[-STEPS_MAX:]
        gone = steps[: len(steps) - len(kept)]
        return dataclasses.replace(
            self,
            begun_s=max(self.begun_s, now_s - WINDOW_S, gone[-1].at_s if gone else 0.0),
            seen_s=now_s,
            first_percent=gone[-1].percent if gone else self.first_percent,
            last_percent=percent,
            steps=kept,
        )

    def _interrupted(self, now_s: float, percent: int) -> bool:
        elapsed = now_s - self.seen_s
        jump = abs(percent - self.last_percent) > JUMP_PERCENT + PERCENT_PER_H_MAX * elapsed / 3600
        return jump or not 0.0 <= elapsed <= WINDOW_S

    @property
    def span_s(self) -> float:
        return self.seen_s - self.begun_s

    @property
    def percent_per_h(self) -> float | None:
        """Positive while the level rises; None where too little was seen."""
        if self.plugged is None:
            return None
        if len(self.steps) < 2 or self.steps[-1].at_s - self.steps[0].at_s < STEPS_APART_S:
            return 3600 * (self.last_percent - self.first_percent) / self.span_s if self.span_s >= STEADY_S else None
        first, last = self.steps[0], self.steps[-1]
        change, elapsed = last.percent - first.percent, last.at_s - first.at_s
        if change == 0:
            return 0.0 if self.span_s >= STEADY_S else None
        overdue = self.seen_s - last.at_s > 2 * elapsed / abs(change)
        return 3600 * change / ((self.seen_s - first.at_s) if overdue else elapsed)

    @property
    def steady(self) -> bool:
        """The level has stayed where it is, give or take a percent, for long enough."""
        levels = (self.first_percent, self.last_percent, *(step.percent for step in self.steps))
        return self.plugged is not None and self.span_s >= STEADY_S and max(levels) - min(levels) <= 1

    @property
    def rising(self) -> bool:
        rate = self.percent_per_h
        return rate is not None and rate >= FALL_PERCENT_PER_H and self.last_percent > self.first_percent

    @property
    def falling(self) -> bool:
        """By more than a gauge's last digit."""
        rate = self.percent_per_h
        fall = self.first_percent - self.last_percent
        return rate is not None and rate <= -FALL_PERCENT_PER_H and fall >= FALL_PERCENT
