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
from math import erfc, exp, inf, log, sqrt

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
        """What remains of it when so much is over and it has not ended: less at first, more and more when overdue."""
        if elapsed_s <= 0:
            return self.span()
        sd = max(self.sd90 / Z90, 0.02)
        z = (log(elapsed_s) - self.centre) / sd
        return Span(p50=_beyond(elapsed_s, z, sd, self.centre, 0.5), p90=_beyond(elapsed_s, z, sd, self.centre, 0.1))


def _beyond(elapsed_s: float, z: float, sd: float, centre: float, chance: float) -> float:
    """Seconds after `elapsed_s` that a log-normal reaches with that chance, given that it reaches `elapsed_s`."""
    if z > 25:  # the tail is smaller than a float; it falls by e^(-z d) there
        return elapsed_s * (exp(min(-sd * log(chance) / z, LOG_MAX)) - 1)
    z_end = -quantile(chance * 0.5 * erfc(z / sqrt(2)))
    return max(exp(min(centre + sd * z_end, LOG_MAX)) - elapsed_s, 0.0)


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


_A = (
    -39.69683028665376,
    220.9460984245205,
    -275.9285104469687,
    138.3577518672690,
    -30.66479806614716,
    2.506628277459239,
)
_B = (-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0)
_C = (
    -0.007784894002430293,
    -0.3223964580411365,
    -2.400758277161838,
    -2.549732539343734,
    4.374664141464968,
    2.938163982698783,
)
_D = (0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0)


def quantile(chance: float) -> float:
    """The standard normal's quantile, by Acklam's rational approximation (relative error 1.2e-9)."""
    if chance > 0.5:
        return -quantile(1 - chance)
    if chance < 0.02425:
        q = sqrt(-2 * log(max(chance, 5e-324)))
        return _polynomial(_C, q) / _polynomial(_D, q)
    q = chance - 0.5
    return q * _polynomial(_A, q * q) / _polynomial(_B, q * q)


def _polynomial(factors: Sequence[float], x: float) -> float:
    value = 0.0
    for factor in factors:
        value = value * x + factor
    return value
