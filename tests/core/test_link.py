"""The link: what is foretold of a download is right on links that burst, stall and break, and says how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.link import LinkRate
from posagent.core.spread import Span
from tests.core.link_traces import LEVELS, LINKS, LOOK_S, MULTIPLIERS, Case, Score, cases_of, predicted, share

TERMINALS = 60
MB = 1e6


@cache
def test_split() -> tuple[Case, ...]:
    return tuple(cases_of("test", TERMINALS))


test_split.__test__ = False  # type: ignore[attr-defined]


def scores(look_s: float = LOOK_S, kind: str | None = None) -> list[Score]:
    found = (predicted(one, look_s) for one in test_split() if kind in (None, one.kind))
    return [one for one in found if one is not None]


def steady(link: LinkRate, bytes_per_s: float, seconds: int, *, begin_s: float = 0.0, done: float = 0.0) -> float:
    """Feeds a second at a time; returns the bytes done at the end."""
    for second in range(seconds + 1):
        link.note(begin_s + second, int(done + bytes_per_s * second))
    return done + bytes_per_s * seconds


# traces that nothing was tuned on


def test_no_test_terminal_has_a_link_that_a_tuning_terminal_could_have() -> None:
    for ranges in (MULTIPLIERS, LEVELS):
        for low, high in ranges["test"]:
            assert all(high <= lowest or low >= highest for lowest, highest in ranges["tuning"])


def test_ten_seconds_after_the_start_the_median_error_is_at_most_a_fifth() -> None:
    found = scores()
    assert len(found) > 0.9 * len(LINKS) * TERMINALS
    assert median(one.error for one in found) <= 0.20
    without_wires = [one.error for one in found if one.kind != "lan"]
    assert median(without_wires) <= 0.20, "not only because a LAN is easy"


@pytest.mark.parametrize("look_s", [0.0, LOOK_S, 60.0])
def test_nine_of_ten_downloads_end_within_p90(look_s: float) -> None:
    assert 0.85 <= share([one.within_p90 for one in scores(look_s)]) <= 0.95


@pytest.mark.parametrize("kind", LINKS)
def test_no_kind_of_link_is_far_off(kind: str) -> None:
    """Few terminals of each, so wider limits; `python -m tests.core.link_traces` has the figures of many."""
    found = scores(kind=kind)
    assert median(one.error for one in found) <= 0.25
    assert share([one.within_p90 for one in found]) >= 0.80


def test_the_error_falls_while_the_download_runs() -> None:
    errors = [median(one.error for one in scores(look_s, "gprs")) for look_s in (0.0, 60.0, 300.0)]
    assert errors == sorted(errors, reverse=True)


# what it does, one thing at a time


def test_before_the_first_byte_it_is_as_it_was_other_times() -> None:
    span = LinkRate(history=[(1000.0, 5 * MB)] * 6).remaining(5 * MB)
    assert span.p50 == pytest.approx(1000.0, rel=0.02) and span.p90 < 1500.0


def test_a_first_download_ever_is_foretold_with_doubt() -> None:
    first, known = LinkRate().remaining(5 * MB), LinkRate(history=[(1000.0, 5 * MB)] * 6).remaining(5 * MB)
    assert first.p90 / first.p50 > 10 and known.p90 / known.p50 < 1.6


def test_a_steady_link_soon_needs_no_history() -> None:
    link = LinkRate()
    steady(link, 40e3, 30)
    assert link.remaining(4 * MB).p50 == pytest.approx(100.0, rel=0.06)


def test_a_terminal_that_was_moved_is_soon_believed() -> None:
    link = LinkRate(history=[(100.0, 10 * MB)] * 8)
    steady(link, 20e3, 60)
    assert link.remaining(2 * MB).p50 > 60.0, "and not the 20 s of other times"


def test_the_p90_comes_closer_with_the_time_seen() -> None:
    def ratio(seconds: int) -> float:
        link = LinkRate()
        steady(link, 600e3, seconds)
        span = link.remaining(60 * MB)
        return span.p90 / span.p50

    ratios = [ratio(seconds) for seconds in (0, 10, 60, 300)]
    assert ratios == sorted(ratios, reverse=True) and ratios[3] < 1.25 < ratios[1]


def test_a_link_that_varies_gets_a_wider_p90() -> None:
    steadily, bursty = LinkRate(), LinkRate()
    done = 0
    for second in range(1, 201):
        steadily.note(float(second), 100_000 * second)
        done += 190_000 if second // 20 % 2 else 10_000
        bursty.note(float(second), done)
    one, two = steadily.remaining(10 * MB), bursty.remaining(10 * MB)
    assert two.p90 / two.p50 > 1.15 * one.p90 / one.p50


def test_a_stall_makes_the_rest_longer_with_every_second() -> None:
    link = LinkRate(history=[(100.0, 10 * MB)] * 4)
    done = steady(link, 100e3, 30)
    spans = [link.remaining(5 * MB)]
    for second in range(31, 300):
        link.note(float(second), int(done))
        spans.append(link.remaining(5 * MB))
    p50s, p90s = [one.p50 for one in spans], [one.p90 for one in spans]
    assert p50s == sorted(p50s) and p90s == sorted(p90s)
    assert link.stalled_s == 269.0 and spans[-1].p50 > spans[0].p50 + 150


def test_silence_from_the_start_makes_it_longer_too() -> None:
    link = LinkRate()
    spans = []
    for second in range(60):
        link.note(float(second), 0)
        spans.append(link.remaining(5 * MB).p50)
    assert spans == sorted(spans) and spans[-1] > spans[0] + 30


def test_after_an_outage_the_link_is_believed_again() -> None:
    link = LinkRate(history=[(100.0, 10 * MB)] * 4)
    done = steady(link, 100e3, 60)
    before = link.remaining(20 * MB)
    link.note(120.0, int(done))
    steady(link, 100e3, 30, begin_s=121.0, done=done)
    after = link.remaining(20 * MB)
    assert link.stalled_s == 0.0 and before.p50 < after.p50 < 1.35 * before.p50


def test_a_short_rest_goes_on_like_now_and_a_long_one_like_always() -> None:
    link = LinkRate(history=[(100.0, 10 * MB)] * 8)
    done = steady(link, 100e3, 200)
    done = steady(link, 25e3, 40, begin_s=200.0, done=done)
    short, long = link.remaining(0.25 * MB).p50 / 0.25, link.remaining(50 * MB).p50 / 50
    assert short > 2.2 * long


def test_a_download_that_begins_again_is_measured_again() -> None:
    link = LinkRate()
    steady(link, 100e3, 30)
    link.note(31.0, 0)
    steady(link, 20e3, 30, begin_s=32.0)
    assert link.bytes_per_s == pytest.approx(20e3)


def test_what_was_there_before_does_not_count_as_fetched() -> None:
    link = LinkRate()
    steady(link, 50e3, 20, begin_s=5000.0, done=30 * MB)
    assert link.bytes_per_s == pytest.approx(50e3)


@pytest.mark.parametrize("step_s", [0.1, 0.25, 1.0, 3.0])
def test_how_often_it_is_told_does_not_matter(step_s: float) -> None:
    link = LinkRate()
    for number in range(int(90 / step_s) + 1):
        link.note(number * step_s, int(19e3 * number * step_s))
    assert link.remaining(1.9 * MB).p50 == pytest.approx(100.0, rel=0.08)
    assert link.stalled_s == 0.0


def test_it_is_asked_at_any_time_and_nothing_is_left_of_nothing() -> None:
    link = LinkRate()
    assert link.remaining(0) == link.remaining(-5) == Span(p50=0.0, p90=0.0)
    link.note(1.0, 100)
    link.note(1.0, 200)
    link.note(0.5, 300)
    assert 0.0 <= link.remaining(100).p50 <= link.remaining(100).p90


def test_it_stays_small_however_long_it_runs() -> None:
    random, link, done = Random(3), LinkRate(), 0
    for second in range(20000):
        done += random.randrange(10_000)
        link.note(float(second), done)
    assert math.isfinite(link.remaining(1e6).p90)
    assert not any(isinstance(value, list | dict | set) for value in vars(link).values())


def samples() -> st.SearchStrategy[list[tuple[float, int]]]:
    return st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1 << 40)), max_size=40)


def histories() -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 1e12)), max_size=8)


@settings(max_examples=150)
@given(samples(), histories(), st.floats(0, 1e12))
def test_whatever_it_is_fed_with_it_says_something_sound(
    fed: list[tuple[float, int]], history: list[tuple[float, float]], left: float
) -> None:
    link = LinkRate(history=history)
    for at, done in unsorted_or_not(fed):
        link.note(at, done)
    span = link.remaining(left)
    assert 0.0 <= span.p50 <= span.p90 < math.inf


def unsorted_or_not(fed: list[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    """Mostly as time goes by; now and then a clock or a count goes back."""
    yield from sorted(fed)
    yield from fed[:3]


def test_a_pause_in_which_nobody_fetched_says_nothing_of_the_link() -> None:
    """Between a bundle's head and the rest the installer plans, on a large slot for a while."""
    paused, straight = LinkRate(), LinkRate()
    for link, connects in ((paused, True), (straight, False)):
        done = steady(link, 100_000.0, 4)
        if connects:
            link.connect()
        steady(link, 100_000.0, 6, begin_s=40.0 if connects else 4.0, done=done)
    assert paused.remaining(10 * MB).p50 == pytest.approx(straight.remaining(10 * MB).p50, rel=0.02)


def test_a_new_connection_has_to_fill_the_link_first() -> None:
    link = LinkRate()
    link.note(0.0, 0)
    link.note(0.1, 65_536)
    link.connect()
    for second, done in enumerate((65_536, 100_000, 200_000), start=5):
        link.note(float(second), done)
    before = link.bytes_per_s
    steady(link, 200_000.0, 4, begin_s=8.0, done=400_000)
    assert before < 150_000 and link.bytes_per_s == pytest.approx(200_000, rel=0.05)
