"""When customers come: payments per half hour of the local week for kinds of shops, and customers drawn from them.

Rules: a half hour's customers depend on the shop, the seed and the half hour alone, so that a simulation sees the same
ones whatever happens to its terminal in between. Local seconds are seconds since 1970 plus the offset of the time zone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HALF_HOUR_S = 1800
WEEK = 7 * 48
"""Half hours, from Monday 00:00."""
DURATION_S_MIN, DURATION_S_MAX, DURATION_S_TYPICAL = 5.0, 90.0, 18.0

_Hours = tuple[tuple[float, float, float], ...]
"""From hour, to hour, payments per half hour; hours that are not named have none."""
MON, TUE, WED, THU, FRI, SAT, SUN = range(7)


def _week(*days: tuple[tuple[int, ...], _Hours]) -> tuple[float, ...]:
    rates = [0.0] * WEEK
    for weekdays, hours in days:
        for weekday, (begin, end, rate) in itertools.product(weekdays, hours):
            for half in range(int(begin * 2), int(end * 2)):
                rates[weekday * 48 + half] = rate
    return tuple(rates)


_WORKDAYS, _WEEKEND = (MON, TUE, WED, THU, FRI), (SAT, SUN)

SHOPS: Mapping[str, tuple[float, ...]] = {
    "petrol_24h": _week(
        (_WORKDAYS, ((0, 5, 0.7), (5, 7, 4), (7, 9, 9), (9, 16, 6), (16, 19, 10), (19, 22, 5), (22, 24, 2))),
        (_WEEKEND, ((0, 6, 1.2), (6, 9, 3), (9, 19, 8), (19, 22, 5), (22, 24, 2.5))),
    ),
    "supermarket": _week(
        (_WORKDAYS, ((7, 9, 8), (9, 11, 14), (11, 13, 20), (13, 16, 14), (16, 19, 28), (19, 21, 16), (21, 22, 6))),
        ((SAT,), ((7, 9, 10), (9, 18, 28), (18, 21, 16), (21, 22, 6))),
    ),
    "lunch_kiosk": _week(
        (_WORKDAYS, ((10.5, 11.5, 5), (11.5, 12, 14), (12, 13.5, 24), (13.5, 14.5, 9), (14.5, 15, 2)))
    ),
    "restaurant": _week(
        ((TUE, WED, THU, SUN), ((12, 13, 3), (13, 14.5, 7), (18, 20, 4), (20, 22.5, 8), (22.5, 24, 3))),
        ((FRI, SAT), ((0, 0.5, 1), (12, 13, 3), (13, 14.5, 7), (18, 20, 5), (20, 23, 11), (23, 24, 6))),
    ),
    "market_weekend": _week(
        ((SAT,), ((7, 8, 6), (8, 13, 18), (13, 15, 8))),
        ((SUN,), ((8, 9, 4), (9, 12, 14), (12, 13, 6))),
    ),
    "hotel": _week(
        (
            tuple(range(7)),
            ((0, 6, 0.1), (6, 7, 1), (7, 10.5, 5), (10.5, 15, 1), (15, 19, 4), (19, 23, 3), (23, 24, 0.6)),
        ),
    ),
}


def half_hour_of_week(local_s: float) -> int:
    """0 is Monday 00:00 to 00:30; the seconds since 1970 began on a Thursday."""
    return int(local_s // HALF_HOUR_S + THU * 48) % WEEK


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """`at_s` is in local seconds, `duration_s` from the card to the receipt."""

    at_s: float
    duration_s: float


def half_hour(shop: str, seed: int, index: int) -> list[Customer]:
    """The customers of the half hour that begins at local second `index * HALF_HOUR_S`."""
    rate = SHOPS[shop][half_hour_of_week(index * HALF_HOUR_S)]
    draw = random.Random(f"{shop} {seed} {index}")
    found: list[Customer] = []
    at = draw.expovariate(rate) if rate else 1.0
    while at < 1.0:
        duration_s = min(max(draw.lognormvariate(0, 0.6) * DURATION_S_TYPICAL, DURATION_S_MIN), DURATION_S_MAX)
        found.append(Customer(at_s=(index + at) * HALF_HOUR_S, duration_s=round(duration_s, 1)))
        at += draw.expovariate(rate)
    return found


def customers(shop: str, seed: int, from_s: float) -> Iterator[Customer]:
    """All that come from that local second on, for ever."""
    for index in itertools.count(int(from_s // HALF_HOUR_S)):
        yield from (one for one in half_hour(shop, seed, index) if one.at_s >= from_s)
