"""Log-normal times: what is learned from measurements is honest about what it does not know."""

from __future__ import annotations

import itertools
import math
from random import Random
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.spread import CORRELATION, Prior, Span, Spread, learned, t90, total


@pytest.mark.parametrize(("freedom", "point"), [(3, 1.6377), (5, 1.4759), (10, 1.3722), (30, 1.3104)])
def test_students_90_percent_point_is_that_of_the_tables(freedom: float, point: float) -> None:
    assert t90(freedom) == pytest.approx(point, rel=0.012)


def test_nothing_measured_is_the_prior_with_both_its_doubts() -> None:
    spread = learned(Prior(median=60.0, sd=0.2, weight=0.25), [])
    assert spread.median == pytest.approx(60.0)
    assert spread.sd == pytest.approx(0.2 * math.sqrt(1 + 1 / 0.25)), "from time to time, and from place to place"


def test_own_measurements_soon_count_more_than_the_prior() -> None:
    prior = Prior(median=60.0, sd=0.2, weight=0.1)
    after = [learned(prior, [20.0] * count) for count in range(9)]
    medians = [one.median for one in after]
    assert medians == sorted(medians, reverse=True) and 20.0 < medians[8] < 21.0
    assert medians[1] < 25.0
    assert all(one.sd90 > two.sd90 for one, two in itertools.pairwise(after))


def test_the_latest_measurement_counts_most() -> None:
    prior = Prior(median=20.0, sd=0.2, weight=0.1)
    slower, faster = [20.0] * 4 + [40.0] * 4, [40.0] * 4 + [20.0] * 4
    assert learned(prior, slower).median > 1.2 * learned(prior, faster).median


def test_an_unsteady_terminal_gets_a_wider_p90() -> None:
    prior = Prior(median=20.0, sd=0.2, weight=0.1)
    steady, unsteady = [20.0] * 8, [10.0, 40.0] * 4
    assert learned(prior, unsteady).sd90 > 2 * learned(prior, steady).sd90


@pytest.mark.parametrize("count", [0, 1, 2, 4, 8])
def test_nine_of_ten_are_within_p90_whatever_was_measured(count: int) -> None:
    """Terminals of which neither the centre nor the spread is the prior's."""
    random, prior, within, of = Random(count), Prior(median=60.0, sd=0.25, weight=0.1), 0, 3000
    for _ in range(of):
        centre = math.log(60) + random.gauss(0, 0.25 / math.sqrt(0.1))
        sd = 0.25 * math.exp(random.gauss(0, 0.35))
        *seen, after = (math.exp(random.gauss(centre, sd)) for _ in range(count + 1))
        within += after <= learned(prior, seen).span().p90
    assert 0.87 <= within / of <= 0.94


def test_the_p90_of_a_sum_is_that_of_correlated_phases() -> None:
    random, parts = Random(7), [Spread(centre=math.log(s), sd=sd) for s, sd in ((90, 0.3), (60, 0.25), (40, 0.4))]
    sums = []
    for _ in range(20000):
        common = random.gauss(0, 1)
        draws = (math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * random.gauss(0, 1) for _ in parts)
        sums.append(sum(math.exp(part.centre + part.sd * z) for part, z in zip(parts, draws, strict=True)))
    span = total(part.span() for part in parts)
    assert span.p50 == pytest.approx(190.0)
    assert span.p90 == pytest.approx(quantiles(sums, n=10)[8], rel=0.04)


def test_a_sum_knows_its_limits() -> None:
    one, two = Span(p50=10.0, p90=16.0), Span(p50=20.0, p90=28.0)
    assert total([]) == Span(p50=0.0, p90=0.0) and total([one]).p90 == pytest.approx(one.p90)
    assert total([one, two], correlation=1.0).p90 == pytest.approx(one.p90 + two.p90)
    assert total([one, two], correlation=0.0).p90 == pytest.approx(30 + math.hypot(6, 8))


SPREADS = st.builds(Spread, centre=st.floats(-5, 12), sd=st.floats(0.0, 3.0), freedom=st.floats(1.0, 100.0))


@given(SPREADS, st.floats(0.0, 1e9))
def test_what_is_left_is_never_negative_and_never_ends_in_nothing(spread: Spread, elapsed_s: float) -> None:
    left = spread.left(elapsed_s)
    assert 0.0 <= left.p50 <= left.p90 < math.inf


def test_what_is_left_shrinks_at_first_and_grows_when_overdue() -> None:
    spread = Spread(centre=math.log(60), sd=0.2)
    left = [spread.left(float(at)).p50 for at in range(0, 2000, 5)]
    least = left.index(min(left))
    assert left[0] == pytest.approx(60.0) and left[6] == pytest.approx(30.0, abs=1.0)
    assert left[12] < 10 and left[-1] > 100
    assert left[: least + 1] == sorted(left[: least + 1], reverse=True) and left[least:] == sorted(left[least:])
    assert 55 < 5 * least < 90, "about when most are over"
