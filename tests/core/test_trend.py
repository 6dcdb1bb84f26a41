"""The level's rise and fall are seen through a gauge that counts in whole percent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.ports import PowerReading
from posagent.core.trend import STEPS_MAX, WINDOW_S, Trend


def look(trend: Trend, now_s: float, percent: int | None, plugged: bool = True) -> Trend:
    return trend.after(now_s, PowerReading(battery_percent=percent, mains=plugged))


def ramp(start: float, percent_per_h: float, every_s: float, seconds: float) -> Trend:
    trend = Trend()
    for number in range(int(seconds / every_s) + 1):
        level = start + percent_per_h * number * every_s / 3600
        trend = look(trend, 1000 + number * every_s, min(max(math.floor(level), 0), 100))
    return trend


@given(
    st.floats(30, 60),
    st.floats(8, 60) | st.floats(-60, -8),
    st.sampled_from([10.0, 30.0, 60.0]),
    st.floats(1800, 3600),
)
def test_a_steady_rise_or_fall_is_measured_within_a_tenth(
    start: float, rate: float, every_s: float, seconds: float
) -> None:
    trend = ramp(start, rate, every_s, seconds)
    if 0 < trend.last_percent < 100:
        # a change is known to half an interval at both ends
        assert trend.percent_per_h == pytest.approx(rate, rel=0.1 + abs(rate) * every_s / 3600)
        assert (trend.rising, trend.falling) == (rate > 0, rate < 0)


def test_little_that_was_seen_is_no_trend() -> None:
    assert Trend().percent_per_h is None and not Trend().steady
    assert ramp(50, 0, 30, 600).percent_per_h is None
    assert ramp(50, 0, 30, 900).percent_per_h == 0.0 and ramp(50, 0, 30, 900).steady


def test_a_gauge_that_cannot_decide_between_two_levels_is_steady() -> None:
    trend = Trend()
    for number in range(200):
        trend = look(trend, 30.0 * number, 50 + number % 2)
    assert trend.steady and not trend.falling and not trend.rising
    assert abs(trend.percent_per_h or 0.0) < 3


def test_between_two_looks_the_level_changed_in_the_middle() -> None:
    trend = look(look(Trend(), 0, 50), 600, 51)
    assert [step.at_s for step in trend.steps] == [300]


def test_charging_that_has_stopped_is_seen() -> None:
    trend = Trend()
    for number in range(60):
        trend = look(trend, 30.0 * number, 60 + min(number, 10))
    assert trend.percent_per_h is not None and trend.percent_per_h < 30


@pytest.mark.parametrize("change", ["plug", "jump", "gap", "back", "unknown"])
def test_what_breaks_the_row_begins_a_new_one(change: str) -> None:
    trend = ramp(50, -20, 30, 1800)
    now, level = trend.seen_s, trend.last_percent
    assert trend.falling
    after = {
        "plug": lambda: look(trend, now + 30, level, plugged=False),
        "jump": lambda: look(trend, now + 30, level + 20),
        "gap": lambda: look(trend, now + WINDOW_S + 1, level),
        "back": lambda: look(trend, now - 30, level),
        "unknown": lambda: look(trend, now + 30, None),
    }[change]()
    assert not after.falling and after.percent_per_h is None and after.steps == ()


@given(st.lists(st.tuples(st.floats(0, 4000), st.integers(0, 100) | st.none(), st.booleans()), max_size=80))
def test_whatever_it_sees_it_stays_small_and_whole(looks: list[tuple[float, int | None, bool]]) -> None:
    trend, now = Trend(), 0.0
    for elapsed, percent, plugged in looks:
        now += elapsed
        trend = look(trend, now, percent, plugged)
        assert len(trend.steps) <= STEPS_MAX and 0 <= trend.span_s <= WINDOW_S
        rate = trend.percent_per_h
        assert rate is None or math.isfinite(rate)
        assert not (trend.rising and trend.falling) and not (trend.steady and trend.falling)


def test_half_an_hour_later_the_past_is_forgotten() -> None:
    trend = ramp(60, -30, 30, 1800)
    for number in range(1, 70):
        trend = look(trend, trend.seen_s + 30, 45 + number // 4)
    assert trend.rising and trend.percent_per_h == pytest.approx(30, rel=0.1)


def test_steps_are_bounded_however_nervous_the_gauge_is() -> None:
    trend = Trend()
    for number in range(2000):
        trend = look(trend, 1.0 * number, 50 + number % 2)
    assert len(trend.steps) == STEPS_MAX
