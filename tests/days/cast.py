"""Who takes part: the terminals of a campaign, each with its link, battery, shop, calendar and habits, from a seed.

Rules: every kind of each thing is dealt out as often as any other, combined at random.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from posagent.sim.shops import SHOPS
from tests.core.link_traces import LINKS
from tests.days.battery import AGES

MEGABYTES = {"gprs": (1, 6), "edge": (1, 12), "3g": (4, 30), "4g": (8, 45), "lan": (20, 60), "wifi": (12, 50)}
"""Of an update: what is sent over such a link."""
SEASONS = {
    "autumn": datetime.datetime(2026, 10, 12, tzinfo=datetime.UTC),  # Berlin 25 Oct, New York 1 Nov
    "spring": datetime.datetime(2027, 3, 8, tzinfo=datetime.UTC),  # New York 14 Mar, Berlin 28 Mar
}
CHARGERS_OF = {
    "new": ("base", "night", "closed", "forgetful"),
    "used": ("night", "base", "weak", "closed"),
    "worn": ("base", "night", "weak", "forgetful"),
    "nearly_dead": ("base", "weak", "base", "night"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """As in the configuration's `window`; see config.WindowConfig. `{minute}` is drawn."""

    zone: str
    install: tuple[str, ...] = ()
    daily_restart: str = ""
    quiet_hours: bool = False
    spread_s: int = 3600


HOURS = (
    Hours(zone="Europe/Berlin", install=("22:00-06:00",), daily_restart="03:{minute}"),
    Hours(zone="America/New_York", install=("mon-fri 22:00-06:00", "sat,sun 20:00-08:00"), daily_restart="04:{minute}"),
    Hours(zone="Asia/Shanghai", install=("22:00-06:00",)),
    Hours(zone="Europe/Berlin", install=("sat,sun 20:00-08:00",)),
    Hours(zone="America/New_York", quiet_hours=True),
    Hours(zone="Europe/Berlin", install=("22:00-04:00",), daily_restart="02:{minute}"),
    Hours(zone="Asia/Shanghai", daily_restart="03:{minute}"),
    Hours(zone="America/New_York", install=("22:00-06:00",), daily_restart="06:00"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One terminal of the campaign."""

    name: str
    seed: str
    begin_s: float
    days: float
    link: str
    battery: str
    charger: str
    shop: str
    hours: Hours
    blackout: tuple[str, ...]
    settles: bool


T = TypeVar("T")


def _dealt(kinds: Iterable[T], count: int, random: Random) -> list[T]:
    found: list[T] = []
    several = list(kinds)
    while len(found) < count:
        found += random.sample(several, len(several))
    return found[:count]


def cast(days: int, seed: int) -> list[Role]:
    """Terminals whose days are `days` together, three weeks each where that is enough."""
    count = max(6, round(days / 21))
    random = Random(f"cast {seed}")
    links, ages, names = (_dealt(sorted(kinds), count, random) for kinds in (LINKS, AGES, SHOPS))
    hours = _dealt(HOURS, count, random)
    seasons = _dealt(sorted(SEASONS), count, random)
    roles = []
    for number in range(count):
        found = hours[number]
        minute = random.randrange(0, 60)
        begin = SEASONS[seasons[number]]
        black = begin.date() + datetime.timedelta(days=random.randrange(3, 18))
        end = black + datetime.timedelta(days=1)
        roles.append(
            Role(
                name=f"t{number:03}",
                seed=f"{seed} {number}",
                begin_s=float(calendar.timegm(begin.utctimetuple())) + 3600.0 * random.randrange(6, 18),
                days=days / count,
                link=links[number],
                battery=ages[number],
                charger=random.choice(CHARGERS_OF[ages[number]]),
                shop=names[number],
                hours=Hours(
                    zone=found.zone,
                    install=found.install,
                    daily_restart=found.daily_restart.format(minute=f"{minute:02}"),
                    quiet_hours=found.quiet_hours,
                    spread_s=random.choice((0, 1800, 3600)),
                ),
                blackout=(f"{black}..{end}",) if number % 3 == 0 else (),
                settles=number % 2 == 0,
            )
        )
    return roles
