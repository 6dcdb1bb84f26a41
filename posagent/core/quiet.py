"""When a terminal takes few payments: quiet hours learned from its own payment activity, over the half hours of a week.

Owns: what is remembered of past payments: 336 numbers, and how often each weekday was seen.
Rules: nothing but integers is kept, so that what is written and read again is the same. A week counts half after four
weeks. Where little is known of a half hour, its neighbours and the same time of other days speak for it. A day without
a payment counts as quiet, more than a week without any as a terminal that was not in use.
Local seconds count as if the clock on the wall showed UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

from posagent.core.hours import DAY_S, weekday

CELL_S = 1800
CELLS = 336
_OF_DAY = DAY_S // CELL_S
WEEK_S = CELL_S * CELLS
_MONDAY_S = 4 * DAY_S  # 1970-01-05, the first Monday
UNIT = 16
"""One payment, and one day seen, before they fade."""
CELL_MAX = 65535
DAY_MAX = UNIT * 8  # they tend to UNIT / (1 - KEPT)
KEPT = 0.5**0.25
"""What a week leaves of the weeks before it: half after four."""
UNUSED_DAYS = 7
LEARNED_DAYS = 3
OTHERS = 0.5
"""How many weeks of its own the neighbours' word is worth, and the other days' word again."""
LOCAL_S_MAX = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Payments expected over a week: the sum up to the beginning of each half hour since Monday, and the whole."""

    sums: tuple[float, ...]

    def expected(self, begin_local_s: float, end_local_s: float) -> float:
        """Payments between two moments of local time."""
        return self._until(end_local_s) - self._until(begin_local_s)

    def _until(self, at_s: float) -> float:
        half_hours = (at_s - _MONDAY_S) / CELL_S
        whole = int(half_hours // 1)
        sums, cell = self.sums, whole % CELLS
        full = sums[cell] + (half_hours - whole) * (sums[cell + 1] - sums[cell])
        return whole // CELLS * sums[CELLS] + full


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """What a terminal knows of its quiet hours. `at_s` is the local time of the latest payment."""

    at_s: int | None = None
    days: tuple[int, ...] = (0,) * 7
    cells: tuple[int, ...] = (0,) * CELLS

    @property
    def learned(self) -> bool:
        """Enough is known to put off for it what could begin at once."""
        return sum(self.days) >= LEARNED_DAYS * UNIT

    def note(self, local_s: float) -> Quiet:
        """With one payment more. Only for a clock that can be trusted: a moment in years to come ages all others."""
        at = int(local_s)
        seen = self._seen_until(at)
        cells = list(seen.cells)
        cell = (at - _MONDAY_S) // CELL_S % CELLS
        cells[cell] = min(cells[cell] + UNIT, CELL_MAX)
        return replace(seen, cells=tuple(cells))

    def _seen_until(self, at: int) -> Quiet:
        if self.at_s is None:
            return self._with_days(at, at // DAY_S, at // DAY_S)
        if at < self.at_s:  # a repeated hour; or the clock was wrong and is right now
            return self if self.at_s - at < DAY_S else replace(self, at_s=at)
        last, day = self.at_s // DAY_S, at // DAY_S
        return self._with_days(at, last + 1 if day - last <= UNUSED_DAYS else day, day)

    def _with_days(self, at: int, first: int, last: int) -> Quiet:
        """Days `first` to `last` were seen; weeks that began since the latest payment age what came before."""
        kept = self
        if self.at_s is not None:
            kept = self._aged((at - _MONDAY_S) // WEEK_S - (self.at_s - _MONDAY_S) // WEEK_S)
        days = list(kept.days)
        for day in range(first, last + 1):
            days[weekday(day)] = min(days[weekday(day)] + UNIT, DAY_MAX)
        return Quiet(at_s=at, days=tuple(days), cells=kept.cells)

    def _aged(self, weeks: int) -> Quiet:
        kept = self
        for _ in range(min(weeks, 64)):  # nothing is left then
            # rounded down: what is rounded to the nearest would never be forgotten
            kept = replace(
                kept, days=tuple(int(n * KEPT) for n in kept.days), cells=tuple(int(n * KEPT) for n in kept.cells)
            )
        return kept

    def profile(self) -> Profile:
        return _profile(self)

    def expected(self, begin_local_s: float, end_local_s: float) -> float:
        """Payments between two moments of local time."""
        return _profile(self).expected(begin_local_s, end_local_s)

    def to_json(self) -> dict[str, Any]:
        """About 1 KiB: half hours at the week's end without payments are left out."""
        last = max((number + 1 for number, cell in enumerate(self.cells) if cell), default=0)
        return {"at": self.at_s, "days": list(self.days), "cells": list(self.cells[:last])}


def from_json(value: Any) -> Quiet | None:
    """What `to_json` gave, or None where the value is not sound."""
    if not isinstance(value, Mapping) or set(value) != {"at", "days", "cells"}:
        return None
    at, days, cells = value["at"], value["days"], value["cells"]
    if not (_numbers(days, DAY_MAX) and _numbers(cells, CELL_MAX) and len(days) == 7 and len(cells) <= CELLS):
        return None
    if at is None:
        return None if any(days) or any(cells) else Quiet()
    if not _numbers([at], LOCAL_S_MAX):
        return None
    return Quiet(at_s=at, days=tuple(days), cells=tuple(cells) + (0,) * (CELLS - len(cells)))


def _numbers(value: Any, most: int) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= most for number in value)


@lru_cache(maxsize=2)
def _profile(quiet: Quiet) -> Profile:
    days = [max(number, 0) / UNIT for number in quiet.days]
    cells = [number / UNIT for number in quiet.cells]
    weeks = [_weeks(quiet, days, cell) for cell in range(CELLS)]
    at_that_time = [sum(cells[minute::_OF_DAY]) / (sum(weeks[minute::_OF_DAY]) or 1.0) for minute in range(_OF_DAY)]
    rates = []
    for cell in range(CELLS):
        before, after = cell - 1, (cell + 1) % CELLS
        seen = (weeks[before] + 2 * weeks[cell] + weeks[after]) / 4
        nearby = (cells[before] + 2 * cells[cell] + cells[after]) / 4
        minute = cell % _OF_DAY
        other = (at_that_time[minute - 1] + 2 * at_that_time[minute] + at_that_time[(minute + 1) % _OF_DAY]) / 4
        near = nearby / seen if seen else other
        rates.append((cells[cell] + OTHERS * (near + other)) / (weeks[cell] + 2 * OTHERS))
    return Profile(sums=(0.0, *accumulate(rates)))


def _weeks(quiet: Quiet, days: list[float], cell: int) -> float:
    """In how many weeks, faded like the payments, this half hour was seen: the latest day is not over yet."""
    day = cell // _OF_DAY
    if quiet.at_s is None:
        return 0.0
    latest = (quiet.at_s - _MONDAY_S) // CELL_S % CELLS
    to_come = day == latest // _OF_DAY and cell > latest
    return max(days[day] - 1.0, 0.0) if to_come else days[day]
