"""When a terminal asks its fleet server next."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import polling
from tests.fleet import stampede


def test_an_ordinary_wait_is_about_what_the_server_asked_for() -> None:
    assert polling.next_s(300, 0.5) == 300
    assert polling.next_s(300, 0.0) == 225 and polling.next_s(300, 1.0) == 375


@pytest.mark.parametrize(("failures", "seconds"), [(0, 300), (1, 600), (2, 1200), (3, 1200), (1000, 1200)])
def test_failures_make_it_longer_but_not_for_ever(failures: int, seconds: float) -> None:
    assert polling.next_s(300, 0.5, failures=failures) == seconds


def test_what_the_server_asks_to_wait_comes_on_top() -> None:
    assert polling.next_s(300, 0.5, failures=1, retry_after_s=1000) == 1600


@given(st.floats(allow_nan=True), st.floats(0, 1), st.integers(0, 10**9))
def test_it_is_always_a_time(sleep_s: float, draw: float, failures: int) -> None:
    assert 0 < polling.next_s(sleep_s, draw, failures=failures) <= 4 * 1.25 * polling.SLEEP_S_MAX
    assert 0 <= polling.first_s(sleep_s, draw) <= 1.25 * polling.SLEEP_S_MAX


@pytest.mark.parametrize("together", [False, True])
def test_a_fleet_that_comes_back_does_not_come_at_once(together: bool) -> None:
    """A hundredth of the fleet that tests/fleet/stampede.py follows; so its noise is ten times as large."""
    found = stampede.rates(10_000, together=together)
    assert stampede.peak_over_mean(10_000, found) <= 1.35


def test_one_terminal_asks_less_while_nobody_answers() -> None:
    dice = random.Random(3)
    moments = list(stampede.requests(dice, began_s=0, until_s=10_000, down=(2000, 8000)))
    down = [at for at in moments if 2000 <= at < 8000]
    assert len(down) <= 8 and len(moments) - len(down) >= 10
