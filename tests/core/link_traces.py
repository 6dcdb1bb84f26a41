"""Synthetic traces of a terminal's link, second by second, and what the link estimator makes of them.

Owns: six kinds of link at the rates of the domain's table (15 MB over GPRS in 50 min … over a LAN in 6 s; Wi-Fi is
not in it and is taken at half of a LAN's), and the two splits. A trace has regimes of good and bad reception, jitter
that is correlated over seconds, a day's rush hour, days that differ, stalls of seconds, changes of cell, outages of
up to minutes, and a slow beginning. Each terminal has a level of its own and up to eight earlier downloads; one in
twenty was moved to another place since.

Rules: `tuning` is for choosing the estimator's constants, `test` never. Their seeds differ, and so do their
parameters: every property of a terminal's link (how rough, how often it stalls, how long outages last, …) is
multiplied by 0.8 to 1.25 in the tuning split, by 0.5 to 0.8 or 1.25 to 2 in the test split, so that no test terminal
has a link whose parameters any tuning terminal could have had. `python -m tests.core.link_traces [terminals]` prints
both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from statistics import median

from posagent.core.link import LinkRate

MB = 1e6
STEP_S = 1.0
LOOK_S = 10.0
SECONDS_MAX = 6 * 3600
MOVED = 0.05
FIRST_EVER = 0.2
"""One terminal in five has no earlier download."""
MULTIPLIERS = {"tuning": ((0.8, 1.25),), "test": ((0.5, 0.8), (1.25, 2.0))}
LEVELS = {"tuning": ((0.9, 1.1),), "test": ((0.7, 0.9), (1.1, 1.4))}
"""How far the typical rate of a kind of link is from the domain's figure."""
SEEDS = {"tuning": 1, "test": 1_000_001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A kind of link. Spreads are standard deviations of the logarithm; regimes are (factor, seconds it lasts)."""

    bytes_per_s: float
    megabytes: tuple[float, float]
    terminals: float
    days: float
    rush: float
    jitter: float
    jitter_s: float
    regimes: tuple[tuple[float, float], ...]
    stalls_per_h: float
    stall_s: tuple[float, float]
    cells_per_h: float
    cell_gap_s: tuple[float, float]
    outages_per_h: float
    outage_s: tuple[float, float]
    latency_s: tuple[float, float]


LINKS = {
    "gprs": Link(
        bytes_per_s=5e3,
        megabytes=(1.5, 20),
        terminals=0.3,
        days=0.12,
        rush=0.25,
        jitter=0.35,
        jitter_s=3,
        regimes=((1.15, 240), (0.75, 90), (0.4, 25)),
        stalls_per_h=20,
        stall_s=(2, 8),
        cells_per_h=2,
        cell_gap_s=(3, 10),
        outages_per_h=0.7,
        outage_s=(15, 180),
        latency_s=(1, 4),
    ),
    "edge": Link(
        bytes_per_s=19e3,
        megabytes=(1.5, 20),
        terminals=0.3,
        days=0.12,
        rush=0.25,
        jitter=0.35,
        jitter_s=3,
        regimes=((1.15, 200), (0.75, 80), (0.4, 25)),
        stalls_per_h=18,
        stall_s=(2, 8),
        cells_per_h=2,
        cell_gap_s=(3, 10),
        outages_per_h=0.7,
        outage_s=(15, 180),
        latency_s=(0.8, 3),
    ),
    "3g": Link(
        bytes_per_s=125e3,
        megabytes=(5, 60),
        terminals=0.35,
        days=0.12,
        rush=0.25,
        jitter=0.3,
        jitter_s=2,
        regimes=((1.2, 120), (0.7, 60), (0.3, 15)),
        stalls_per_h=15,
        stall_s=(1, 5),
        cells_per_h=3,
        cell_gap_s=(1, 5),
        outages_per_h=0.5,
        outage_s=(10, 120),
        latency_s=(0.3, 1.5),
    ),
    "4g": Link(
        bytes_per_s=625e3,
        megabytes=(10, 150),
        terminals=0.4,
        days=0.12,
        rush=0.25,
        jitter=0.35,
        jitter_s=2,
        regimes=((1.2, 60), (0.65, 30)),
        stalls_per_h=8,
        stall_s=(1, 4),
        cells_per_h=3,
        cell_gap_s=(1, 4),
        outages_per_h=0.3,
        outage_s=(8, 90),
        latency_s=(0.2, 0.8),
    ),
    "lan": Link(
        bytes_per_s=2.5e6,
        megabytes=(20, 200),
        terminals=0.35,
        days=0.06,
        rush=0.1,
        jitter=0.08,
        jitter_s=1,
        regimes=((1.0, 600), (0.7, 20)),
        stalls_per_h=1,
        stall_s=(1, 2),
        cells_per_h=0,
        cell_gap_s=(1, 1),
        outages_per_h=0.1,
        outage_s=(5, 60),
        latency_s=(0.05, 0.3),
    ),
    "wifi": Link(
        bytes_per_s=1.25e6,
        megabytes=(20, 200),
        terminals=0.5,
        days=0.12,
        rush=0.2,
        jitter=0.3,
        jitter_s=2,
        regimes=((1.1, 60), (0.6, 20), (0.25, 5)),
        stalls_per_h=20,
        stall_s=(1, 4),
        cells_per_h=0.5,
        cell_gap_s=(1, 5),
        outages_per_h=0.4,
        outage_s=(5, 60),
        latency_s=(0.1, 0.6),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One terminal's link: its kind, how far each property is from the kind's, and its level."""

    link: Link
    level: float
    rough: float
    correlated: float
    often: float
    lasting: float
    daily: float

    def moved(self, random: Random) -> Place:
        return Place(
            link=self.link,
            level=self.link.bytes_per_s * math.exp(random.gauss(0, self.link.terminals)),
            rough=self.rough,
            correlated=self.correlated,
            often=self.often,
            lasting=self.lasting,
            daily=self.daily,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """`done` has the bytes that were there after each second, until all were; `seconds` is when that was."""

    size: float
    seconds: float
    done: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One terminal: what it has measured earlier, (seconds, bytes) oldest first, and the download to predict."""

    kind: str
    history: tuple[tuple[float, float], ...]
    download: Download


def _within(random: Random, ranges: tuple[tuple[float, float], ...]) -> float:
    low, high = random.choice(ranges)
    return math.exp(random.uniform(math.log(low), math.log(high)))


def place(kind: str, split: str, random: Random) -> Place:
    link, far = LINKS[kind], MULTIPLIERS[split]
    return Place(
        link=link,
        level=link.bytes_per_s * _within(random, LEVELS[split]) * math.exp(random.gauss(0, link.terminals)),
        rough=_within(random, far),
        correlated=_within(random, far),
        often=_within(random, far),
        lasting=_within(random, far),
        daily=_within(random, far),
    )


def rates(at: Place, random: Random) -> Iterator[float]:
    """Bytes that arrive in each second of one download, without end."""
    link = at.link
    level = at.level * math.exp(random.gauss(0, link.days * at.daily))
    hour = random.uniform(0, 24)
    jitter_kept = math.exp(-STEP_S / (link.jitter_s * at.correlated))
    jitter_new = link.jitter * at.rough * math.sqrt(1 - jitter_kept**2)
    jitter = random.gauss(0, link.jitter * at.rough)
    regime = random.choices(link.regimes, [lasts for _, lasts in link.regimes])[0]
    silent_s = random.uniform(*link.latency_s)
    begun = 0.0
    while True:
        hour += STEP_S / 3600
        jitter = jitter * jitter_kept + random.gauss(0, jitter_new)
        if random.random() < STEP_S / (regime[1] * at.correlated):
            regime = random.choice(link.regimes)
        for per_h, seconds in (
            (link.stalls_per_h, link.stall_s),
            (link.cells_per_h, link.cell_gap_s),
            (link.outages_per_h, link.outage_s),
        ):
            if per_h and random.random() < per_h * at.often * STEP_S / 3600:
                silent_s = max(silent_s, _within(random, (seconds,)) * at.lasting)
                if seconds is link.cell_gap_s:
                    level *= math.exp(random.gauss(0, 0.15 * at.rough))
        moving = STEP_S - min(silent_s, STEP_S)
        silent_s = max(silent_s - STEP_S, 0.0)
        begun = min(begun + 0.4 * moving, 1.0)  # a connection needs some round trips to fill the link
        rush = 1 - min(link.rush * at.daily, 0.6) * (0.5 + 0.5 * math.cos((hour - 18) / 12 * math.pi))
        yield level * rush * regime[0] ** at.rough * math.exp(jitter) * moving * max(begun, 0.2)


def downloaded(at: Place, size: float, random: Random) -> Download:
    done: list[float] = []
    total = 0.0
    for rate in rates(at, random):
        if total + rate >= size or len(done) >= SECONDS_MAX:
            break
        total += rate
        done.append(total)
    return Download(size=size, seconds=len(done) + (size - total) / max(rate, 1.0), done=tuple(done))


def size_of(link: Link, random: Random) -> float:
    low, high = link.megabytes
    return math.exp(random.uniform(math.log(low), math.log(high))) * MB


def case(kind: str, split: str, number: int) -> Case:
    random = Random(f"{SEEDS[split]} {split} {kind} {number}")
    at = place(kind, split, random)
    earlier = 0 if random.random() < FIRST_EVER else random.randint(1, 8)
    history = []
    for _ in range(earlier):
        one = downloaded(at, size_of(at.link, random), random)
        history.append((round(one.seconds, 3), round(one.size)))
    if random.random() < MOVED:
        at = at.moved(random)
    return Case(kind=kind, history=tuple(history), download=downloaded(at, size_of(at.link, random), random))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A prediction of a download's whole time, made when `done_s` of it were over, against what it was."""

    kind: str
    first: bool
    error: float
    within_p50: bool
    within_p90: bool


def predicted(one: Case, look_s: float) -> Score | None:
    """What was foretold `look_s` after the start; None where the download had ended by then."""
    download = one.download
    if download.seconds <= look_s:
        return None
    link = LinkRate(history=one.history)
    link.note(0.0, 0)
    for second in range(1, int(look_s) + 1):
        link.note(float(second), int(download.done[second - 1]))
    done = int(download.done[int(look_s) - 1]) if look_s else 0
    span = link.remaining(int(download.size) - done)
    return Score(
        kind=one.kind,
        first=not one.history,
        error=abs(look_s + span.p50 - download.seconds) / download.seconds,
        within_p50=download.seconds <= look_s + span.p50,
        within_p90=download.seconds <= look_s + span.p90,
    )


def share(found: list[bool]) -> float:
    return sum(found) / len(found) if found else math.nan


def row(name: str, scores: list[Score], left_out: int) -> str:
    first = [one.error for one in scores if one.first]
    known = [one.error for one in scores if not one.first]
    return (
        f"{name:<6}{len(scores):>6}{left_out:>6}"
        f"{median(one.error for one in scores):>9.1%}"
        f"{median(known) if known else math.nan:>9.1%}{median(first) if first else math.nan:>9.1%}"
        f"{share([one.within_p50 for one in scores]):>9.1%}{share([one.within_p90 for one in scores]):>9.1%}"
    )


HEAD = f"{'link':<6}{'n':>6}{'over':>6}{'error':>9}{'known':>9}{'first':>9}{'<= p50':>9}{'<= p90':>9}"


def table(cases: list[Case], look_s: float) -> list[str]:
    lines, every, every_out = [HEAD], [], 0
    for kind in LINKS:
        of_kind = [predicted(one, look_s) for one in cases if one.kind == kind]
        scores = [one for one in of_kind if one is not None]
        if scores:
            lines.append(row(kind, scores, len(of_kind) - len(scores)))
            every += scores
            every_out += len(of_kind) - len(scores)
    return [*lines, row("all", every, every_out)]


def cases_of(split: str, terminals: int) -> list[Case]:
    return [case(kind, split, number) for kind in LINKS for number in range(terminals)]


def main(terminals: int) -> None:
    for split in MULTIPLIERS:
        cases = cases_of(split, terminals)
        for look_s in (0.0, LOOK_S, 60.0):
            print(f"{split}: the whole time, foretold {look_s:.0f} s after the start ({terminals} terminals a link)")
            print("\n".join(table(cases, look_s)), end="\n\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
