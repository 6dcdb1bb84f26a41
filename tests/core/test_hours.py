"""Windows, blackouts and the daily restart, by the clock on the wall of real places."""

from __future__ import annotations

import datetime
import itertools
import zoneinfo
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.hours import (
    DAY_MIN,
    DAY_S,
    WEEKDAYS,
    Blackout,
    Calendar,
    FixedZone,
    Span,
    Window,
    joined,
    local_s,
    parse_blackout,
    parse_daily,
    parse_window,
    spells,
)
from posagent.platform.zone import IanaZone

PLACES = (
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/New_York",
    "America/Havana",  # midnight is repeated
    "Africa/Cairo",  # midnight is skipped
    "Africa/Casablanca",  # changed for Ramadan
    "Pacific/Chatham",
)


@cache
def zone(name: str) -> IanaZone:
    return IanaZone(name)


def utc_s(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


def shown(moment_s: float, name: str) -> datetime.datetime:
    """What the clock shows, not by the code under test."""
    return datetime.datetime.fromtimestamp(moment_s, zoneinfo.ZoneInfo(name))


def spans(calendar: Calendar, begin: str, end: str) -> list[tuple[str, str]]:
    found = calendar.allowed(spells(calendar.zone, utc_s(begin), utc_s(end)))
    return [
        (f"{datetime.datetime.fromtimestamp(one.begin_s, datetime.UTC):%d %H:%M}",
         f"{datetime.datetime.fromtimestamp(one.end_s, datetime.UTC):%d %H:%M}")
        for one in found
    ]  # fmt: skip


# what is written in the configuration


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("22:00-06:00", Window(begin_min=1320, end_min=1800)),
        (" 9:30 - 10:00 ", Window(begin_min=570, end_min=600)),
        ("00:00-24:00", Window(begin_min=0, end_min=1440)),
        ("mon-fri 22:00-06:00", Window(begin_min=1320, end_min=1800, weekdays=frozenset(range(5)))),
        ("Sat,Sun 20:00-08:00", Window(begin_min=1200, end_min=1920, weekdays=frozenset({5, 6}))),
        ("fri - mon, wed 01:00-02:00", Window(begin_min=60, end_min=120, weekdays=frozenset({4, 5, 6, 0, 2}))),
    ],
)
def test_a_window_is_read(text: str, window: Window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'write it like "22:00-06:00"'),
        ("22:00", 'write it like "22:00-06:00"'),
        ("22:00-22:00", '"00:00-24:00"'),
        ("25:00-06:00", '"25:00"'),
        ("22:60-06:00", '"22:60"'),
        ("24:00-06:00", '"24:00"'),
        ("22-6", '"22"'),
        ("mo-fr 22:00-06:00", '"mo" in "mo-fr 22:00-06:00" is no weekday; use mon, tue'),
        ("mon, 22:00-06:00", "22:00-06:00"),
        ("２２:00-06:00", "22:00"),
    ],
)
def test_what_is_no_window_is_said_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_window(text)
    assert said in str(refused.value)


def test_blackouts_and_the_daily_restart_are_read() -> None:
    assert parse_blackout("12-20..12-27") == Blackout(first=(12, 20), last=(12, 27))
    assert parse_blackout("2026-12-20 .. 2027-01-02") == Blackout(first=(2026, 12, 20), last=(2027, 1, 2))
    assert parse_blackout("02-29") == Blackout(first=(2, 29), last=(2, 29))
    assert parse_daily("03:00") == 180


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("12-20..12-32", '"12-32" in "12-20..12-32" is no day'),
        ("02-30", "is no day"),
        ("2026-02-29", "is no day"),
        ("christmas", "write month and day like"),
        ("12-20..", "is no day"),
        ("2026-12-20..12-27", "on both sides or on none"),
        ("2026-12-27..2026-12-20", "put the earlier day first"),
    ],
)
def test_what_is_no_blackout_is_said_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_blackout(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", "3", "24:00", "03:00-04:00", "-1:00"])
def test_what_is_no_daily_restart_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time of the day"):
        parse_daily(text)


@given(st.integers(0, 1439), st.integers(0, 1440), st.frozensets(st.sampled_from(WEEKDAYS)))
def test_every_window_is_read_as_it_was_written(begin: int, end: int, days: frozenset[str]) -> None:
    text = f"{','.join(days)} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    if begin == end:
        return
    window = parse_window(text)
    assert (window.begin_min, window.end_min % DAY_MIN) == (begin, end % DAY_MIN)
    assert 0 < window.end_min - window.begin_min <= DAY_MIN
    assert window.weekdays == (frozenset(map(WEEKDAYS.index, days)) or frozenset(range(7)))


@given(st.text(max_size=30))
def test_no_text_makes_a_reader_fail_otherwise(text: str) -> None:
    for read in (parse_window, parse_blackout, parse_daily):
        try:
            read(text)
        except ValueError:
            pass  # what it is for


# when the clock is changed


def test_a_window_that_begins_in_the_skipped_hour_begins_when_it_is_over() -> None:
    berlin = zone("Europe/Berlin")
    calendar = Calendar(zone=berlin, windows=(parse_window("02:30-05:00"),))
    assert spans(calendar, "2026-03-28T12:00", "2026-03-29T12:00") == [("29 01:00", "29 03:00")]
    calendar = Calendar(zone=berlin, windows=(parse_window("02:10-02:50"),))
    assert spans(calendar, "2026-03-28T12:00", "2026-03-29T12:00") == []
    calendar = Calendar(zone=berlin, windows=(parse_window("23:00-02:30"),))
    assert spans(calendar, "2026-03-28T12:00", "2026-03-29T12:00") == [("28 22:00", "29 01:00")]


def test_each_pass_of_the_repeated_hour_counts_for_itself() -> None:
    berlin = zone("Europe/Berlin")
    calendar = Calendar(zone=berlin, windows=(parse_window("23:00-02:30"),))
    assert spans(calendar, "2026-10-24T12:00", "2026-10-25T12:00") == [
        ("24 21:00", "25 00:30"),
        ("25 01:00", "25 01:30"),
    ]
    calendar = Calendar(zone=berlin, windows=(parse_window("02:30-05:00"),))
    assert spans(calendar, "2026-10-24T12:00", "2026-10-25T12:00") == [
        ("25 00:30", "25 01:00"),
        ("25 01:30", "25 04:00"),
    ]
    calendar = Calendar(zone=berlin, windows=(parse_window("22:00-06:00"),))
    assert spans(calendar, "2026-10-24T12:00", "2026-10-25T12:00") == [("24 20:00", "25 05:00")]


def test_the_daily_restart_comes_once_a_day_whatever_the_clock_does() -> None:
    calendar = Calendar(zone=zone("Europe/Berlin"), daily_restart_min=parse_daily("02:30"))

    def restarts(begin: str, end: str) -> list[float]:
        return list(calendar.restarts_s(spells(calendar.zone, utc_s(begin), utc_s(end))))

    skipped = restarts("2026-03-28T12:00", "2026-03-30T12:00")
    assert skipped == [utc_s("2026-03-29T01:00"), utc_s("2026-03-30T00:30")]
    repeated = restarts("2026-10-24T12:00", "2026-10-26T12:00")
    assert repeated == [utc_s("2026-10-25T00:30"), utc_s("2026-10-26T01:30")]


@pytest.mark.parametrize("place", PLACES)
def test_there_is_one_daily_restart_on_each_day_of_the_year(place: str) -> None:
    for minute in (0, 45, 90, 150, 165, 1439):
        calendar = Calendar(zone=zone(place), daily_restart_min=minute)
        found = calendar.restarts_s(spells(calendar.zone, utc_s("2025-12-30T12:00"), utc_s("2027-01-02T12:00")))
        year = [shown(moment, place) for moment in found if shown(moment, place).year == 2026]
        assert [one.timetuple().tm_yday for one in year] == list(range(1, 366))
        assert sum(one.hour * 60 + one.minute != minute for one in year) <= 2  # skipped


_WINDOWS = st.builds(
    lambda begin, length, days: Window(begin_min=begin, end_min=begin + length, weekdays=days),
    st.integers(0, 47).map(lambda number: number * 30),
    st.integers(1, 96).map(lambda number: number * 15),
    st.frozensets(st.integers(0, 6), min_size=1),
)
_DAYS = st.dates(datetime.date(2025, 12, 1), datetime.date(2027, 1, 31))


def _dates(days: tuple[datetime.date, datetime.date], each_year: bool) -> Blackout:
    if each_year:
        first, last = ((day.month, day.day) for day in days)
        return Blackout(first=first, last=last)
    begin, end = ((day.year, day.month, day.day) for day in sorted(days))
    return Blackout(first=begin, last=end)


_BLACKOUTS = st.builds(_dates, st.tuples(_DAYS, _DAYS), st.booleans())


@cache
def changes_s(place: str) -> list[float]:
    found = spells(zone(place), utc_s("2026-01-01T00:00"), utc_s("2027-01-01T00:00"))
    return [spell.begin_s for spell in found[1:]] or [utc_s("2026-06-30T12:00")]


def inside(calendar: Calendar, moment_s: float, place: str) -> bool:
    """The rule itself: the clock on the wall shows a time in a window and no day of a blackout."""
    clock = shown(moment_s, place)
    day, minute = clock.date(), clock.hour * 60 + clock.minute + clock.second / 60
    open_now = not calendar.windows or any(
        (clock.weekday() - past) % 7 in window.weekdays and window.begin_min <= minute + past * DAY_MIN < window.end_min
        for window in calendar.windows
        for past in (0, 1)
    )
    number = day.toordinal() - datetime.date(1970, 1, 1).toordinal()
    return open_now and not any(blackout.covers(number) for blackout in calendar.blackouts)


@given(
    st.sampled_from(PLACES),
    st.lists(_WINDOWS, max_size=3),
    st.lists(_BLACKOUTS, max_size=2),
    st.integers(0, 8).map(lambda number: number * 3600.0),
    st.data(),
)
def test_a_moment_is_allowed_when_the_clock_on_the_wall_says_so(
    place: str, windows: list[Window], blackouts: list[Blackout], before_s: float, data: st.DataObject
) -> None:
    calendar = Calendar(zone=zone(place), windows=tuple(windows), blackouts=tuple(blackouts))
    middle_s = data.draw(st.sampled_from(changes_s(place))) + data.draw(st.integers(-200, 200)) * DAY_S * (before_s > 0)
    begin_s, end_s = middle_s - DAY_S - before_s, middle_s + DAY_S + before_s
    found = calendar.allowed(spells(calendar.zone, begin_s, end_s))
    assert all(one.end_s < other.begin_s for one, other in itertools.pairwise(found))
    moment_s = begin_s
    while moment_s < end_s:
        allowed = any(span.begin_s <= moment_s < span.end_s for span in found)
        assert allowed == inside(calendar, moment_s, place), shown(moment_s, place)
        moment_s += 900.0


@given(st.sampled_from(PLACES), st.floats(1.7e9, 2.2e9))
def test_spells_show_what_the_clock_shows(place: str, begin_s: float) -> None:
    found = spells(zone(place), begin_s, begin_s + 40 * DAY_S)
    assert found[0].begin_s == begin_s and found[-1].end_s == begin_s + 40 * DAY_S
    assert all(
        one.end_s == other.begin_s and one.offset_s != other.offset_s for one, other in itertools.pairwise(found)
    )
    for spell in found:
        for moment_s in (spell.begin_s, spell.end_s - 0.5, spell.end_s - 1):
            clock = shown(moment_s, place).replace(tzinfo=datetime.UTC)
            assert local_s(found, moment_s) == pytest.approx(clock.timestamp(), abs=1e-3)


def test_windows_that_meet_are_one() -> None:
    windows = (parse_window("fri 22:00-24:00"), parse_window("sat 00:00-06:00"), parse_window("sat 05:00-07:00"))
    assert spans(Calendar(windows=windows), "2026-05-28T00:00", "2026-06-02T00:00") == [("29 22:00", "30 07:00")]
    assert joined([]) == ()
    assert joined([Span(begin_s=0, end_s=9), Span(begin_s=2, end_s=3)]) == (Span(begin_s=0, end_s=9),)


def test_a_blackout_cuts_the_night_at_midnight() -> None:
    calendar = Calendar(windows=(parse_window("22:00-06:00"),), blackouts=(parse_blackout("12-31..01-01"),))
    nights = spans(calendar, "2026-12-30T12:00", "2027-01-03T00:00")
    assert nights == [("30 22:00", "31 00:00"), ("02 00:00", "02 06:00"), ("02 22:00", "03 00:00")]


def test_a_fixed_clock_is_never_changed() -> None:
    found = spells(FixedZone(east_s=20700), 0.0, 400.0 * DAY_S)
    assert len(found) == 1 and local_s(found, 10.0) == 20710.0 and local_s(found, 1e9) == 1e9 + 20700
