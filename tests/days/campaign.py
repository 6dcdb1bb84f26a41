"""Lives the terminals of a cast, one process each, and puts together what was seen.

Owns: the figures of build/days.json. Rules: nothing is left out because it is inconvenient; what is excused (people who
asked for it at once, a deadline, a rollback) is counted beside, under its own name.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from posagent.sim.shops import SHOPS, half_hour_of_week
from tests.days.cast import Role
from tests.days.judge import WallClock, summary
from tests.days.terminal import DaysTerminal

NOON_S = 12 * 3600
RESERVE_PERCENT = 5.0
MEMORY = Path("/dev/shm")  # signing keys and bundles are made and thrown away
LONG_WAIT_S = 8 * 86400.0


def live(role: Role) -> dict[str, Any]:
    """One terminal's weeks, as plain values."""
    with tempfile.TemporaryDirectory(prefix="days-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        terminal = DaysTerminal(role, Path(folder))
        terminal.live()
        terminal.time.end()
    # asdict would make a counter of a counter's pairs
    notes = {name: getattr(terminal.notes, name) for name in terminal.notes.__slots__}
    takings = asdict(terminal.merchant.takings)
    return {
        "role": asdict(role),
        **notes,
        "takings": takings,
        "answers": dict(terminal.merchant.answers),
        "violations": terminal.judge.violations,
        "starts": [summary(start) for start in terminal.judge.starts],
    }


def lived(roles: Sequence[Role], processes: int) -> Iterator[dict[str, Any]]:
    """Each as it ends."""
    if processes == 1:
        yield from map(live, roles)
        return
    with ProcessPoolExecutor(processes) as pool:
        for one in as_completed([pool.submit(live, role) for role in roles]):
            yield one.result()


# estimates


def scores(outcomes: Sequence[dict[str, Any]], phase: str) -> dict[str, Any]:
    """How good what was foretold of a phase was."""
    told = [one["estimates"][phase] for one in outcomes if phase in (one["estimates"] or {})]
    if not told:
        return {"count": 0}
    return {
        "count": len(told),
        "median_error": round(median(abs(one["p50"] - one["took_s"]) / one["took_s"] for one in told), 4),
        "within_p50": round(sum(one["took_s"] <= one["p50"] for one in told) / len(told), 4),
        "within_p90": round(sum(one["took_s"] <= one["p90"] for one in told) / len(told), 4),
    }


def estimates(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the download, ten seconds after its start, in total and per link; and of the phases after it."""
    kinds = sorted({one["link"] for one in outcomes})
    of_kind = {kind: [one for one in outcomes if one["link"] == kind] for kind in kinds}
    return {
        **scores(outcomes, "download"),
        "links": {kind: scores(some, "download") for kind, some in of_kind.items()},
        "outage": scores(outcomes, "outage"),
        "install": scores(outcomes, "install"),
    }


def wall_of(role: dict[str, Any]) -> WallClock:
    return WallClock(role["hours"]["zone"], role["hours"]["install"], role["blackout"])


# restarts


def days_of(one: dict[str, Any]) -> dict[int, Counter[str]]:
    """What happened on each local day, from noon to noon: restarts by reason, and what excuses more than one."""
    wall = wall_of(one["role"])
    found: dict[int, Counter[str]] = {}

    def number(at_s: float) -> int:
        local = wall.local(at_s)
        return (local.toordinal() * 24 + local.hour - 12) // 24

    def day(at_s: float) -> Counter[str]:
        return found.setdefault(number(at_s), Counter())

    for at_s, why in one["restarts"]:
        day(at_s)[why] += 1
    for name, spans in (("power_cut", one["cuts"]), ("wrong clock", one["wrong_clock"])):
        for begin_s, end_s in spans:
            for covered in range(number(begin_s), number(end_s) + 1):
                found.setdefault(covered, Counter())[name] += 1
    for start in one["starts"]:
        if start["exempt"] or start["pressed"]:
            day(start["at_s"])[start["exempt"] or "deadline"] += 1
    return found


def without(one: dict[str, Any], found: dict[int, Counter[str]]) -> int:
    """Whole days of a terminal with a daily restart on which nothing restarted it."""
    role = one["role"]
    if not role["hours"]["daily_restart"]:
        return 0
    first = min(found, default=0)
    last = first + int(role["days"]) - 2
    return sum(not any(found.get(day, Counter[str]())[why] for why in RESTARTS) for day in range(first + 1, last + 1))


RESTARTS = ("daily", "update", "rollback", "return", "power_cut", "wrong clock")
"""What makes the day's restart unnecessary, or excuses it."""
EXCUSES = ("rollback", "return", "at once", "deadline", "clock", "power_cut", "wrong clock")


def up_h_max(one: dict[str, Any]) -> float:
    """The longest that a terminal with a daily restart ran through, while its clock was right."""
    if not one["role"]["hours"]["daily_restart"]:
        return 0.0
    restarts = [at_s for at_s, _ in one["restarts"]]
    starts = sorted([*restarts, *(end_s for _, end_s in one["cuts"])])
    ends = sorted([*restarts, *(begin_s for begin_s, _ in one["cuts"])])
    through = ((start_s, next((end_s for end_s in ends if end_s > start_s), start_s)) for start_s in starts)
    return max(
        (
            (end_s - start_s) / 3600
            for start_s, end_s in through
            if not any(begin_s < end_s and start_s < right_s for begin_s, right_s in one["wrong_clock"])
        ),
        default=0.0,
    )


def restarts(all_of_them: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many orderly restarts a day had."""
    plain = most = 0
    counts: Counter[int] = Counter()
    more: Counter[str] = Counter()
    double: list[str] = []
    missed = 0
    for one in all_of_them:
        found = days_of(one)
        missed += without(one, found)
        for number, day in found.items():
            count = day["daily"] + day["update"] + day["rollback"] + day["return"]
            excused = [why for why in EXCUSES if day[why]]
            most = max(most, count)
            counts[count] += 1
            if not excused:
                plain = max(plain, count)
                if count > 1:
                    double.append(f"{one['role']['name']} day {number}: {dict(day)}")
            elif count > 1:
                more[" + ".join(excused)] += 1
    return {
        "reboots_per_24h_max": plain,
        "reboots_per_24h_max_with_rollback_or_forced": most,
        "days_by_reboots": {str(count): counts[count] for count in sorted(counts)},
        "days_with_more_because_of": dict(more),
        "days_with_more": double,
        "days_without_restart": missed,
        "up_h_max": round(max((up_h_max(one) for one in all_of_them), default=0.0), 2),
    }


# outages


def rate_rank(one: dict[str, Any], at_s: float) -> tuple[float, float, float]:
    """Payments per half hour when it was, the day's mean, and how many of the day's half hours are quieter."""
    role = one["role"]
    wall = wall_of(role)
    shown = wall.local(at_s).replace(tzinfo=None)
    local_s = shown.toordinal() * 86400.0 - 719163 * 86400.0 + shown.hour * 3600 + shown.minute * 60
    noon = (local_s - NOON_S) // 86400 * 86400 + NOON_S
    rates = [SHOPS[role["shop"]][half_hour_of_week(noon + 1800 * half)] for half in range(48)]
    here = SHOPS[role["shop"]][half_hour_of_week(local_s)]
    return here, sum(rates) / 48, sum(rate < here for rate in rates) / 48


def outages(all_of_them: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In how quiet a half hour they were; those that somebody forced are counted beside."""
    found: dict[str, list[tuple[float, float, float, float]]] = {"planned": [], "forced": []}
    for one in all_of_them:
        for begin_s, end_s, forced, _ in one["outages"]:
            found["forced" if forced else "planned"].append((end_s - begin_s, *rate_rank(one, begin_s)))
    told: dict[str, Any] = {}
    for name, some in found.items():
        if some:
            lost = sum(seconds / 1800 * here for seconds, here, _, _ in some)
            usual = sum(seconds / 1800 * mean for seconds, _, mean, _ in some)
            told[name] = {
                "count": len(some),
                "seconds_median": round(median(seconds for seconds, *_ in some), 1),
                "payments_expected": round(lost, 1),
                "payments_expected_at_random": round(usual, 1),
                "in_quietest_half_hours": round(sum(rank == 0 for *_, rank in some) / len(some), 4),
                "in_quietest_quarter": round(sum(rank <= 0.25 for *_, rank in some) / len(some), 4),
            }
    return told


# together


def together(lives: Sequence[dict[str, Any]], seed: int, seconds: float) -> dict[str, Any]:
    """The figures of a campaign, finished or not."""
    outcomes = [outcome for one in lives for outcome in one["outcomes"]]
    starts = [start for one in lives for start in one["starts"]]
    ended = [one for one in outcomes if one["began_s"] is not None]
    left = [one["percent"] for one in ended if not one["plugged"]]
    waits: dict[str, float] = {}
    refused: Counter[str] = Counter()
    cuts_in: Counter[str] = Counter()
    for one in lives:
        for name, waited_s in one["waits"].items():
            waits[name] = waits.get(name, 0.0) + waited_s
        refused.update(one["refused"])
        cuts_in.update(one["cuts_in"])
    violations = [text for one in lives for text in one["violations"]]
    found = restarts(lives)
    return {
        "terminals": len(lives),
        "terminal_days": round(sum(one["role"]["days"] for one in lives), 1),
        "updates": len(outcomes),
        "outcomes": dict(Counter(one["outcome"] for one in outcomes)),
        "codes": dict(Counter(one["code"] for one in outcomes)),
        "installs_begun": len(starts),
        "gate_violations": len(violations),
        "payments": sum(one["takings"]["taken"] for one in lives),
        "payments_interrupted": sum(one["interrupted"] for one in lives),
        "customers_turned_away": sum(one["takings"]["turned_away"] for one in lives),
        "customers_turned_away_by_updates": sum(away for one in lives for *_, away in one["outages"]),
        "payments_cut_by_power": sum(one["cut_payments"] for one in lives),
        "window_overruns": sum(start["overruns"] for start in starts),
        "ends_after_window": sum(one["late"] for one in outcomes),
        **found,
        "estimate": estimates(outcomes),
        "outages": outages(lives),
        "starts_by": dict(Counter(start["exempt"] or "window" for start in starts)),
        "energy_left_percent_min": round(min(left), 1) if left else None,
        "energy_below_reserve": sum(percent < RESERVE_PERCENT for percent in left),
        "installs_on_battery": len(left),
        "waits_h": {name: round(value / 3600, 1) for name, value in sorted(waits.items(), key=lambda one: -one[1])},
        "waited_longest_h": round(max((one["waited_s"] for one in ended), default=0.0) / 3600, 1),
        "never_opened": [
            f"{one['role']['name']}: {last}"
            for one in lives
            for last in one["open_at_end"]
            if last["waited_s"] > LONG_WAIT_S
        ],
        "open_at_end": sum(len(one["open_at_end"]) for one in lives),
        "power_cuts": sum(one["power_cuts"] for one in lives),
        "power_cuts_in": dict(cuts_in),
        "flat_batteries": sum(one["flat"] for one in lives),
        "clock_faults": sum(one["clock_faults"] for one in lives),
        "merchant_answers": dict(sum((Counter(one["answers"]) for one in lives), Counter())),
        "refused": dict(refused),
        "violations": violations[:50],
        "seconds": round(seconds, 1),
        "seed": seed,
    }


def sound(found: dict[str, Any]) -> list[str]:
    """What a campaign must not show."""
    wrong = [
        f"{name}: {found[name]}"
        for name in ("gate_violations", "payments_interrupted", "window_overruns", "energy_below_reserve")
        if found[name]
    ]
    if found["days_without_restart"]:
        wrong.append(f"days_without_restart: {found['days_without_restart']}")
    if found["reboots_per_24h_max"] > 1:
        wrong.append(f"reboots_per_24h_max: {found['reboots_per_24h_max']}")
    if found["never_opened"]:
        wrong.append(f"never_opened: {found['never_opened']}")
    return wrong
