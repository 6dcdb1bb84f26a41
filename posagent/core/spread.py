"""How long, as a distribution: log-normal times learned from a prior and a few measurements, and their sums.

Owns: `Span`, and the arithmetic that the estimate of the phases and that of the link have in common.
Rules: everything is a logarithm of seconds (or of seconds per byte) until it is a Span. No `statistics` module: it
would bring decimal, fractions and random into the resident's memory.

Learning. A quantity's logarithm is normal about the terminal's own centre with spread `sd`; that centre is not known
exactly. The prior says where centres lie and counts as `weight` measurements; a measurement counts 1 when it is the
last, less the older it is. What is foretold for the next time is a Student t: wider than the spread seen, by what is
not known of the centre (1/weights) and of the spread itself (degrees of freedom).

Sums. Medians are added. Deviations up (p90 - p50) are added with correlation r: sqrt((1-r) sum d² + r (sum d)²): r=0
would be phases that know nothing of each other, r=1 a terminal that is slow at everything at once. A slow storage
or a hot processor slows several phases, not all: r = 0.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

Z90 = 1.2815515655446004
RECENCY = 0.85
"""What a measurement counts against the one after it: the eighth last counts a third."""
CORRELATION = 0.3
LOG_MAX = 40.0
"""Nothing that is estimated here lasts e^40 seconds or e^-40."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Seconds: half of the cases take at most `p50`, nine of ten at most `p90`."""

    p50: float
    p90: float

    def plus(self, seconds: float) -> Span:
        return Span(p50=self.p50 + seconds, p90=self.p90 + seconds)


NONE = Span(p50=0.0, p90=0.0)


def total(spans: Iterable[Span], correlation: float = CORRELATION) -> Span:
    """The span of one after the other."""
    several = tuple(spans)
    up = [max(one.p90 - one.p50, 0.0) for one in several]
    p50 = sum(one.p50 for one in several)
    deviation = sqrt((1 - correlation) * sum(one * one for one in up) + correlation * sum(up) ** 2)
    return Span(p50=p50, p90=p50 + deviation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A log-normal: `centre` is the logarithm of the median. With few degrees of `freedom` its p90 is further out."""

    centre: float
    sd: float
    freedom: float = inf

    @property
    def median(self) -> float:
        return exp(max(min(self.centre, LOG_MAX), -LOG_MAX))

    @property
    def sd90(self) -> float:
        """How far the 90 % point is from the centre."""
        return t90(self.freedom) * self.sd

    def span(self, factor: float = 1.0) -> Span:
        p90 = exp(max(min(self.centre + self.sd90, LOG_MAX), -LOG_MAX))
        return Span(p50=factor * self.median, p90=factor * p90)

    def scaled(self, factor: float) -> Spread:
        return Spread(centre=self.centre + log(factor), sd=self.sd, freedom=self.freedom)

    def left(self, elapsed_s: float) -> Span:
        """What remains of it when so much is over and it has not ended: less at first, more and more when overdue.

        Taken from the log-logistic distribution of the same median and p90: what is overdue has met something that no
        spread was measured of, so its tail is a power, not a log-normal's that falls off at once.
        """
        if elapsed_s <= 0:
            return self.span()
        shape = log(9) / max(self.sd90, 0.02)
        return Span(p50=self._beyond(elapsed_s, shape, 0.5), p90=self._beyond(elapsed_s, shape, 0.1))

    def _beyond(self, elapsed_s: float, shape: float, chance: float) -> float:
        """Seconds after `elapsed_s` that it reaches with that chance, given that it reaches `elapsed_s`."""
        over = shape * (log(elapsed_s) - self.centre)
        if over > 30:
            return elapsed_s * (exp(min(-log(chance) / shape, LOG_MAX)) - 1)
        end = self.centre + log((1 + exp(over)) / chance - 1) / shape
        return max(exp(min(end, LOG_MAX)) - elapsed_s, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Before anything was measured: the median, the spread from one time to the next, and how many measurements the
    median is worth."""

    median: float
    sd: float
    weight: float
    sd_weight: float = 3.0


def learned(prior: Prior, values: Sequence[float], likeness: Sequence[float] = ()) -> Spread:
    """What to expect of the next one, from `values` (oldest first, above 0). `likeness` (0 to 1) says how much each
    is like the next."""
    logs = [log(value) for value in values]
    weights = [RECENCY ** (len(logs) - 1 - at) * (likeness[at] if likeness else 1.0) for at in range(len(logs))]
    count = sum(weights)
    centre = (prior.weight * log(prior.median) + sum(w * x for w, x in zip(weights, logs, strict=True))) / (
        prior.weight + count
    )
    # about the terminal's own mean: a terminal that differs from the prior is not for that reason an unsteady one
    own = sum(w * x for w, x in zip(weights, logs, strict=True)) / count if count else 0.0
    squares = sum(w * (x - own) ** 2 for w, x in zip(weights, logs, strict=True))
    freedom = prior.sd_weight + max(count - 1, 0.0)
    sd = sqrt((prior.sd_weight * prior.sd**2 + squares) / freedom)
    return Spread(centre=centre, sd=sd * sqrt(1 + 1 / (prior.weight + count)), freedom=freedom + 3)


def t90(freedom: float) -> float:
    """The 90 % point of Student's t, by the first terms of its expansion (within 1 % from 3 degrees on)."""
    z = Z90
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
