"""Quiet hours: learned from payments, forgotten over weeks, read back strictly."""

from __future__ import annotations

import datetime
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import quiet
from posagent.core.quiet import CELLS, WEEK_S, Quiet, from_json

HOUR_S = 3600
DAY_S = 86400
MONDAY_S = int(datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC).timestamp())
"""Local midnight."""


def shop(weeks: float, seed: int = 1, begin_s: int = MONDAY_S, day: range = range(9, 18)) -> Quiet:
    """Sells from nine to six, twice as much at noon, never on Sundays."""
    chance, found = random.Random(seed), Quiet()
    for hour in range(int(weeks * 7 * 24)):
        at = begin_s + hour * HOUR_S
        if (hour % 24) in day and hour // 24 % 7 != 6:
            for second in sorted(chance.sample(range(HOUR_S), 12 if hour % 24 == 12 else 6)):
                found = found.note(at + second)
    return found


def hours(found: Quiet, day: int, begin: float, end: float) -> float:
    at = MONDAY_S + 10 * WEEK_S + day * DAY_S
    return found.expected(at + begin * HOUR_S, at + end * HOUR_S)


def test_a_shop_is_known_after_a_few_weeks() -> None:
    found = shop(6)
    assert hours(found, 1, 10, 11) == pytest.approx(6, rel=0.15)
    assert hours(found, 1, 12, 13) == pytest.approx(12, rel=0.2)
    assert hours(found, 1, 2, 4) == 0
    assert hours(found, 6, 10, 11) < 1
    assert found.expected(MONDAY_S, MONDAY_S + WEEK_S) == pytest.approx(6 * (8 * 6 + 12), rel=0.1)


def test_the_first_days_speak_for_the_others() -> None:
    found = shop(3 / 7)
    assert found.learned
    assert hours(found, 4, 10, 11) == pytest.approx(6, rel=0.2)  # a Friday it has not seen
    assert hours(found, 4, 3, 4) == 0
    assert not shop(1.9 / 7).learned and not Quiet().learned


def test_the_hours_to_come_of_the_latest_day_are_not_taken_as_quiet() -> None:
    found = shop(14 / 7).note(MONDAY_S + 2 * WEEK_S + 8 * HOUR_S)
    assert hours(found, 0, 14, 15) == pytest.approx(6, rel=0.2)


def test_neighbours_soften_an_hour() -> None:
    found = Quiet()
    for week in range(6):
        found = found.note(MONDAY_S + week * WEEK_S + 10 * HOUR_S)
    before, itself, after = hours(found, 0, 9.5, 10), hours(found, 0, 10, 10.5), hours(found, 0, 10.5, 11)
    assert 0 < before < 0.1 and 0 < after < 0.1 and itself > 0.5
    assert hours(found, 0, 8, 9) == 0


def test_new_opening_hours_take_over() -> None:
    found = shop(8)
    chance = random.Random(2)
    for hour in range(16 * 7 * 24):  # now it sells in the evening
        if 18 <= hour % 24 < 23:
            for second in sorted(chance.sample(range(HOUR_S), 6)):
                found = found.note(MONDAY_S + 8 * WEEK_S + hour * HOUR_S + second)
    assert hours(found, 1, 20, 21) == pytest.approx(6, rel=0.1)
    assert hours(found, 1, 10, 11) < 1.0


def test_months_in_a_drawer_are_no_quiet_months() -> None:
    found = shop(6)
    for hour in range(9, 18):
        found = found.note(MONDAY_S + 12 * WEEK_S + hour * HOUR_S)
    assert hours(found, 1, 10, 11) > 1  # faded, but of few weeks
    assert hours(found, 1, 10, 11) > 5 * hours(found, 1, 2, 3)


def test_payments_of_a_night_are_forgotten_altogether() -> None:
    found = Quiet().note(MONDAY_S + 3 * HOUR_S)
    for week in range(80):
        found = found.note(MONDAY_S + week * WEEK_S + 12 * HOUR_S)
    assert hours(found, 0, 3, 3.5) == 0


def test_a_clock_that_is_set_back_goes_on_from_there() -> None:
    found = shop(2)
    assert found.at_s is not None
    again = found.note(found.at_s - HOUR_S)  # the repeated hour
    assert again.at_s == found.at_s and again.days == found.days
    back = found.note(found.at_s - 300 * DAY_S)
    assert back.at_s == found.at_s - 300 * DAY_S and sum(back.cells) == sum(found.cells) + quiet.UNIT


def test_an_empty_one_expects_nothing() -> None:
    assert Quiet().expected(0, 10 * WEEK_S) == 0


@given(
    st.lists(st.integers(0, 3 * WEEK_S), min_size=1, max_size=60),
    st.integers(-WEEK_S, WEEK_S),
    st.integers(0, 2 * WEEK_S),
    st.integers(0, 2 * WEEK_S),
)
def test_expectations_add_up_and_are_never_negative(notes: list[int], begin: int, first: int, second: int) -> None:
    found = Quiet()
    for note in notes:
        found = found.note(MONDAY_S + note)
    at = MONDAY_S + begin
    parts = found.expected(at, at + first) + found.expected(at + first, at + first + second)
    assert found.expected(at, at + first + second) == pytest.approx(parts)
    assert found.expected(at, at + first) >= -1e-9
    assert found.expected(at, at + WEEK_S) == pytest.approx(found.profile().sums[-1])
    assert all(one <= other for one, other in zip(found.profile().sums, found.profile().sums[1:], strict=False))


@given(st.lists(st.integers(0, 30 * WEEK_S), max_size=40))
def test_what_is_written_is_read_again_the_same(notes: list[int]) -> None:
    found = Quiet()
    for note in notes:
        found = found.note(MONDAY_S + note)
    text = json.dumps(found.to_json())
    assert from_json(json.loads(text)) == found


def test_what_is_written_is_small() -> None:
    found = shop(20).to_json()
    assert len(found["cells"]) <= CELLS and max(found["cells"]) < 1000
    assert len(json.dumps(found, separators=(",", ":"))) < 1400


SOUND: dict[str, Any] = {"at": MONDAY_S, "days": [16] * 7, "cells": [1, 2]}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "{}",
        {},
        {**SOUND, "more": 1},
        {**SOUND, "at": -1},
        {**SOUND, "at": 1.5},
        {**SOUND, "at": True},
        {**SOUND, "at": 1 << 60},
        {**SOUND, "at": None},
        {**SOUND, "days": [16] * 6},
        {**SOUND, "days": [16] * 6 + [1000]},
        {**SOUND, "cells": [0] * 337},
        {**SOUND, "cells": [-1]},
        {**SOUND, "cells": [65536]},
        {**SOUND, "cells": [True]},
        {**SOUND, "cells": ["1"]},
        {**SOUND, "cells": {"0": 1}},
    ],
)
def test_what_is_not_sound_is_not_read(value: Any) -> None:
    assert from_json(SOUND) is not None
    assert from_json(value) is None


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_no_value_makes_the_reader_fail(value: Any) -> None:
    from_json(value)
    from_json({"at": value, "days": value, "cells": value})
    from_json({"at": 5, "days": [0] * 7, "cells": value})
