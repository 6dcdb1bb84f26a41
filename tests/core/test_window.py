"""When an update begins: the promises of the planner, on the calendars of real places and on made-up weeks."""

from __future__ import annotations

import datetime
import itertools
import random
import zoneinfo
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from posagent.core import hours
from posagent.core.hours import DAY_S, Calendar, Window, parse_blackout, parse_window
from posagent.core.quiet import Quiet
from posagent.core.window import (
    IDLE_S,
    JOIN_S,
    QUIET_STEP_S,
    SLACK_S,
    STANDS_S,
    Moment,
    Plan,
    Why,
    Wish,
    may_start,
    plan,
    time_of_day_known,
)
from posagent.platform.zone import IanaZone

BERLIN = "Europe/Berlin"
PLACES = (BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
WISH = Wish(terminal="till-7", lead_s=300, outage_s=120, rollback_s=180)


@cache
def zone(name: str) -> IanaZone:
    return IanaZone(name)


def at(text: str, place: str = BERLIN) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(place)).timestamp()


def shown(moment_s: float | None, place: str = BERLIN) -> str:
    """What the clock on the wall shows."""
    if moment_s is None:
        return "never"
    return f"{datetime.datetime.fromtimestamp(moment_s, zoneinfo.ZoneInfo(place)):%m-%d %H:%M}"


def now(wall_s: float, up_s: float = DAY_S) -> Moment:
    return Moment(wall_s=wall_s, floor_s=wall_s - 30 * DAY_S, idle_s=0.0, up_s=up_s)


def calendar(
    *windows: str, blackouts: tuple[str, ...] = (), daily: str = "", spread_s: float = 0.0, place: str = BERLIN
) -> Calendar:
    return hours.calendar(zone(place), install=windows, blackout=blackouts, daily_restart=daily, spread_s=spread_s)


def asked(when: Calendar, text: str, quiet: Quiet | None = None, wish: Wish = WISH) -> Plan:
    return plan(wish, when, quiet or Quiet(), now(at(text)))


def sold(hourly: dict[int, int], weeks: int = 5, seed: int = 1) -> Quiet:
    """A terminal that takes so many payments in each hour of every day, until 2026-03-02."""
    chance, found = random.Random(seed), Quiet()
    monday = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC).timestamp() - weeks * 7 * DAY_S
    for hour in range(weeks * 7 * 24):
        for second in sorted(chance.sample(range(3600), hourly.get(hour % 24, 0))):
            found = found.note(monday + hour * 3600 + second)
    return found


SHOP = sold(dict.fromkeys(range(9, 18), 8))
KIOSK = sold({11: 10, 12: 30, 13: 10})
STATION = sold({hour: 4 if hour < 2 or hour > 4 else 1 for hour in range(24)})


# windows


def test_without_windows_and_without_quiet_hours_it_begins_now() -> None:
    found = asked(calendar(), "2026-03-02T11:00")
    assert found.why is Why.NOW and found.start_s == at("2026-03-02T11:00") and found.ends_s is None
    assert found.restart_s == at("2026-03-02T11:05")


def test_it_waits_for_the_window() -> None:
    found = asked(calendar("22:00-06:00"), "2026-03-02T11:00")
    assert (found.why, shown(found.start_s), shown(found.ends_s)) == (Why.WINDOW, "03-02 22:00", "03-03 06:00")


def test_in_the_window_it_begins_at_once_while_there_is_room() -> None:
    night = calendar("22:00-06:00")
    for text in ("2026-03-02T22:00", "2026-03-03T01:00", "2026-03-03T05:50"):
        assert asked(night, text).start_s == at(text)
    assert shown(asked(night, "2026-03-03T05:51").start_s) == "03-03 22:00"  # ten minutes are needed


def test_windows_that_meet_have_room_together() -> None:
    long = Wish(terminal="a", lead_s=3600, outage_s=1800, rollback_s=1800)
    found = asked(calendar("sun 23:00-24:00", "mon 00:00-01:30"), "2026-03-02T12:00", wish=long)
    assert (shown(found.start_s), shown(found.ends_s)) == ("03-08 23:00", "03-09 01:30")


def test_the_next_window_that_is_long_enough_is_taken() -> None:
    found = asked(calendar("mon-fri 13:00-13:05", "wed 22:00-23:00"), "2026-03-02T12:00")
    assert shown(found.start_s) == "03-04 22:00"


def test_the_hour_that_is_skipped_is_missing_in_the_window() -> None:
    wish = Wish(terminal="a", lead_s=1800, outage_s=1800, rollback_s=1800)
    found = asked(calendar("01:00-03:00"), "2026-03-28T12:00", wish=wish)
    assert shown(found.start_s) == "03-30 01:00"  # on the 29th two becomes three


def test_where_no_window_fits_the_longest_is_told() -> None:
    found = asked(calendar("mon-fri 13:00-13:05", "sun 05:00-05:09"), "2026-03-02T12:00")
    assert found == Plan(why=Why.NO_WINDOW_FITS, start_s=None, needed_s=600, longest_s=540)
    assert not may_start(WISH, calendar("13:00-13:05"), Quiet(), now(at("2026-03-02T13:00")))


# blackout, deferral, deadline


def test_a_blackout_is_waited_for_and_named() -> None:
    busy = calendar("22:00-06:00", blackouts=("12-20..12-27",))
    found = asked(busy, "2026-12-21T12:00")
    assert (found.why, shown(found.start_s)) == (Why.BLACKOUT, "12-28 00:00")
    assert asked(busy, "2026-12-18T12:00").why is Why.WINDOW
    assert shown(asked(busy, "2026-12-19T22:30").start_s) == "12-19 22:30"
    assert shown(asked(busy, "2026-12-19T23:55").start_s) == "12-28 00:00"


def test_a_blackout_of_many_weeks_has_an_end() -> None:
    found = asked(calendar("mon 22:00-23:00", blackouts=("2026-11-01..2026-12-27",)), "2026-11-02T12:00")
    assert (found.why, shown(found.start_s)) == (Why.BLACKOUT, "12-28 22:00")
    found = asked(calendar(blackouts=("01-01..12-31",)), "2026-11-02T12:00")
    assert (found.why, found.start_s) == (Why.BLACKOUT, None)


def test_a_terminal_without_windows_keeps_blackouts_and_the_fleet_is_spread_after_them() -> None:
    starts = set()
    for number in range(20):
        wish = Wish(terminal=f"till-{number}", lead_s=300, outage_s=120, rollback_s=180)
        found = asked(calendar(blackouts=("12-20..12-27",), spread_s=7200), "2026-12-27T12:00", wish=wish)
        assert found.start_s is not None and found.why is Why.BLACKOUT
        assert at("2026-12-28T00:00") <= found.start_s < at("2026-12-28T02:00")
        starts.add(found.start_s)
    assert len(starts) == 20


def test_a_deferral_is_kept_and_named() -> None:
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_before_s=at("2026-03-03T02:00"))
    found = asked(calendar("22:00-06:00"), "2026-03-02T22:30", wish=wish)
    assert (found.why, shown(found.start_s)) == (Why.DEFERRED, "03-03 02:00")
    assert asked(calendar("22:00-06:00"), "2026-03-03T02:30", wish=wish).why is Why.WINDOW
    found = asked(calendar(spread_s=7200), "2026-03-03T01:59", wish=wish)
    assert (found.why, shown(found.start_s)) == (Why.DEFERRED, "03-03 02:00")
    assert asked(calendar("04:00-06:00"), "2026-03-02T12:00", wish=wish).why is Why.WINDOW


def test_a_deferral_far_ahead_is_planned_too() -> None:
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_before_s=at("2026-12-24T02:00"))
    found = asked(calendar("22:00-06:00", blackouts=("12-20..12-30",)), "2026-11-02T22:30", wish=wish)
    assert (found.why, shown(found.start_s)) == (Why.DEFERRED, "12-31 00:00")


def test_a_deferral_for_ever_is_no_trouble() -> None:
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_before_s=1e18)
    found = asked(calendar("22:00-06:00", blackouts=("12-20..12-27",)), "2026-03-02T12:00", wish=wish)
    assert found.why is Why.DEFERRED and found.start_s is not None


def test_from_the_deadline_on_neither_window_nor_blackout_nor_deferral_counts() -> None:
    late = at("2026-12-23T10:00")
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_after_s=late, not_before_s=late + 9 * DAY_S)
    busy = calendar("22:00-06:00", blackouts=("12-20..12-27",), daily="03:00")
    found = asked(busy, "2026-12-22T12:00", wish=wish)
    assert (found.why, found.start_s, found.ends_s) == (Why.DEADLINE, late, None)
    assert asked(busy, "2026-12-23T10:01", wish=wish).start_s == at("2026-12-23T10:01")
    assert asked(busy, "2026-12-23T10:01", wish=wish).why is Why.DEADLINE


def test_a_window_before_the_deadline_is_used() -> None:
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_after_s=at("2026-03-03T10:00"))
    assert shown(asked(calendar("22:00-06:00"), "2026-03-02T12:00", wish=wish).start_s) == "03-02 22:00"


def test_where_no_window_fits_the_deadline_helps_and_people_are_still_told() -> None:
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_after_s=at("2026-03-03T10:00"))
    found = asked(calendar("22:00-22:05"), "2026-03-02T12:00", wish=wish)
    assert (found.why, found.start_s, found.longest_s) == (Why.NO_WINDOW_FITS, wish.not_after_s, 300)


# the daily restart


def test_the_update_takes_the_daily_restart() -> None:
    found = asked(calendar("22:00-06:00", daily="03:00"), "2026-03-02T12:00")
    assert (found.why, shown(found.start_s)) == (Why.DAILY_RESTART, "03-03 02:54")
    assert found.restart_s == at("2026-03-03T03:00") - JOIN_S
    assert shown(asked(calendar(daily="03:00"), "2026-03-02T12:00").start_s) == "03-03 02:54"


def test_a_daily_restart_that_was_missed_is_not_followed_by_another_on_the_same_day() -> None:
    daily = calendar("22:00-06:00", daily="03:00")
    assert asked(daily, "2026-03-03T02:57").start_s == at("2026-03-03T02:57")
    assert asked(daily, "2026-03-03T03:00").start_s == at("2026-03-03T03:00")
    assert shown(asked(daily, "2026-03-03T03:01").start_s) == "03-04 02:54"
    assert shown(asked(calendar(daily="03:00"), "2026-03-03T09:00", SHOP).start_s) == "03-04 02:54"


def test_near_the_edges_of_the_window_the_restart_moves_into_it() -> None:
    early = asked(calendar("03:00-06:00", daily="03:00"), "2026-03-02T12:00")
    assert (early.why, shown(early.start_s), shown(early.restart_s)) == (
        Why.DAILY_RESTART,
        "03-03 03:00",
        "03-03 03:05",
    )
    late = asked(calendar("22:00-03:02", daily="03:00"), "2026-03-02T12:00")
    assert (late.why, shown(late.start_s)) == (Why.DAILY_RESTART, "03-03 02:47")  # and five minutes to be asked in
    assert asked(calendar("22:00-03:02", daily="03:00"), "2026-03-03T02:52").start_s == at("2026-03-03T02:52")
    assert shown(asked(calendar("22:00-03:02", daily="03:00"), "2026-03-03T02:53").start_s) == "03-04 02:47"


def test_a_daily_restart_outside_of_the_windows_is_not_used() -> None:
    found = asked(calendar("12:00-14:00", daily="03:00"), "2026-03-02T15:00")
    assert (found.why, shown(found.start_s)) == (Why.WINDOW, "03-03 12:00")


def test_a_daily_restart_is_waited_for_where_other_windows_come_first() -> None:
    found = asked(calendar("12:00-13:00", "02:00-05:00", daily="03:00"), "2026-03-02T11:00")
    assert (found.why, shown(found.start_s)) == (Why.DAILY_RESTART, "03-03 02:54")
    week = calendar("mon-fri 01:00-01:30", "sun 02:00-05:00", daily="03:00")
    assert shown(asked(week, "2026-03-02T15:00").start_s) == "03-08 02:54"


def test_on_the_eve_of_a_blackout_it_does_not_restart_twice() -> None:
    busy = calendar("22:00-06:00", blackouts=("12-20..12-27",), daily="03:50")
    found = asked(busy, "2026-12-19T20:00")
    assert (found.why, shown(found.start_s)) == (Why.BLACKOUT, "12-28 03:44")
    assert asked(busy, "2026-12-19T22:30") == found
    weeks = calendar("22:00-06:00", blackouts=("12-20..01-06",), daily="03:50")
    assert shown(asked(weeks, "2026-12-19T20:00").start_s) == "12-19 22:00"  # nobody waits for so long


def test_a_window_before_the_deadline_is_used_though_the_daily_restart_comes_later() -> None:
    busy = calendar("22:00-06:00", blackouts=("12-20..12-27",), daily="03:50")
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_after_s=at("2026-12-20T10:00"))
    found = asked(busy, "2026-12-19T20:00", wish=wish)
    assert (found.why, shown(found.start_s)) == (Why.WINDOW, "12-19 22:00")
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_after_s=at("2026-12-18T10:00"))
    assert shown(asked(busy, "2026-12-17T20:00", wish=wish).start_s) == "12-18 03:44"


@pytest.mark.parametrize("lead_s", [30.0, 300.0])
@pytest.mark.parametrize("window", ["22:00-06:00", "03:00-06:00"])
def test_what_gets_ready_after_the_daily_restart_waits_for_the_next(window: str, lead_s: float) -> None:
    daily = calendar(window, daily="03:00")
    wish = Wish(terminal="a", lead_s=lead_s, outage_s=120, rollback_s=180)
    first_s = plan(wish, daily, Quiet(), now(at("2026-03-02T12:00"))).start_s
    for text in ("2026-03-03T03:01", "2026-03-03T03:03"):
        found = plan(wish, daily, Quiet(), now(at(text), up_s=at(text) - at("2026-03-03T03:00:40")))
        assert first_s is not None and found.start_s == first_s + DAY_S


def test_a_daily_restart_at_the_end_of_the_window_is_joined() -> None:
    found = asked(calendar("22:00-06:00", daily="06:00"), "2026-03-02T12:00")
    assert (found.why, shown(found.start_s), shown(found.ends_s)) == (Why.DAILY_RESTART, "03-03 05:45", "03-03 06:00")
    early = asked(calendar("22:00-06:00", daily="06:49"), "2026-03-02T12:00")
    assert (early.why, shown(early.start_s)) == (Why.DAILY_RESTART, "03-03 05:49")
    assert asked(calendar("22:00-06:00", daily="06:50"), "2026-03-02T12:00").why is Why.WINDOW


def test_a_window_that_begins_with_the_daily_restart_is_open_for_some_minutes() -> None:
    assert asked(calendar("03:00-06:00", daily="03:00"), "2026-03-03T03:04").start_s == at("2026-03-03T03:04")


def test_the_daily_restart_in_the_skipped_hour_is_joined_when_it_comes() -> None:
    found = asked(calendar("22:00-06:00", daily="02:30"), "2026-03-28T12:00")
    assert found.restart_s == at("2026-03-29T03:00") - JOIN_S
    found = asked(calendar("22:00-06:00", daily="02:30"), "2026-10-24T12:00")
    assert found.restart_s == at("2026-10-25T02:30") - JOIN_S  # the first of two


def test_two_updates_do_not_restart_the_terminal_in_one_night() -> None:
    night = calendar("22:00-06:00")
    wish = Wish(terminal="a", lead_s=300, outage_s=120, rollback_s=180, not_after_s=at("2026-03-03T10:00"))
    moment = replace(now(at("2026-03-02T23:30")), updated_s=at("2026-03-02T23:00"))
    assert shown(plan(WISH, night, Quiet(), moment).start_s) == "03-03 22:00"
    assert plan(wish, night, Quiet(), moment).start_s == moment.wall_s, "its deadline is before the next night"
    daily = calendar("22:00-06:00", daily="03:00")
    assert shown(plan(WISH, daily, Quiet(), moment).start_s) == "03-03 02:54", "it restarts then anyway"


# quiet hours


def test_inside_the_window_the_quietest_place_is_taken() -> None:
    found = asked(calendar("06:00-12:00"), "2026-03-02T12:30", sold({6: 9, 7: 5, 8: 1, 9: 7, 10: 8, 11: 9}))
    assert found.why is Why.QUIET and found.restart_s is not None
    assert "03-03 08:00" <= shown(found.restart_s) <= "03-03 08:58"


def test_the_last_moment_of_a_window_is_not_planned() -> None:
    falling = sold({6: 12, 7: 10, 8: 8, 9: 6, 10: 4, 11: 0, 12: 0}, weeks=2)
    found = asked(calendar("06:00-11:11"), "2026-03-02T12:30", falling)
    assert found.start_s is not None and found.ends_s is not None and found.why is Why.QUIET
    assert found.start_s <= found.ends_s - WISH.needed_s - SLACK_S
    assert asked(calendar("06:00-06:11"), "2026-03-02T12:30").start_s == at("2026-03-03T06:00")


def test_the_next_window_wins_over_a_quieter_one() -> None:
    assert shown(asked(calendar("10:00-11:00", "22:00-23:00"), "2026-03-02T09:00", SHOP).start_s) < "03-02 11:00"


def test_what_is_left_of_the_window_is_used_when_the_quietest_place_was_missed() -> None:
    rising = sold({6: 9, 7: 5, 8: 1, 9: 7, 10: 8, 11: 9})
    for text in ("2026-03-03T09:00", "2026-03-03T11:50"):
        assert asked(calendar("06:00-12:00"), text, rising).start_s == at(text)


@pytest.mark.parametrize("quiet", [SHOP, STATION], ids=["shop", "station"])
def test_without_windows_the_learned_quiet_hours_are_waited_for(quiet: Quiet) -> None:
    found = asked(calendar(), "2026-03-02T12:30", quiet)
    assert found.why is Why.QUIET and found.start_s is not None
    lost = quiet.expected(at("2026-03-03T10:00"), at("2026-03-03T10:02"))
    local_s = found.start_s + WISH.lead_s + 3600
    assert quiet.expected(local_s, local_s + WISH.outage_s) < lost / 2
    assert found.start_s < at("2026-03-03T12:30")


def test_a_kiosk_need_not_wait_for_the_night() -> None:
    found = asked(calendar(), "2026-03-02T12:10", KIOSK)
    assert "03-02 13:55" <= shown(found.start_s) <= "03-02 14:30"
    assert asked(calendar(), "2026-03-02T17:00", KIOSK).start_s == at("2026-03-02T17:00")


def test_a_station_that_is_always_as_busy_begins_now() -> None:
    flat, monday = Quiet(), datetime.datetime(2026, 2, 2, tzinfo=datetime.UTC).timestamp()
    for number in range(4 * 7 * 96):
        flat = flat.note(monday + number * 900)
    found = asked(calendar(), "2026-03-02T12:10", flat)
    assert (found.why, found.start_s) == (Why.NOW, at("2026-03-02T12:10"))


def test_a_long_window_is_used_in_its_quiet_hours() -> None:
    found = asked(calendar("sat 08:00-24:00", "sun 00:00-24:00"), "2026-03-07T09:00", SHOP)
    assert found.why is Why.QUIET and "03-07 17:30" <= shown(found.start_s) <= "03-07 19:00"


def test_terminals_of_a_fleet_are_spread_over_what_is_equally_quiet() -> None:
    night = calendar("22:00-06:00", spread_s=3 * 3600)
    starts = []
    for number in range(400):
        wish = Wish(terminal=f"T{number:05}", lead_s=300, outage_s=120, rollback_s=180)
        found = asked(night, "2026-03-02T12:00", SHOP, wish)
        assert found.start_s is not None
        starts.append(found.start_s - at("2026-03-02T22:00"))
        assert asked(night, "2026-03-02T13:00", SHOP, wish) == found
    assert min(starts) >= 0 and max(starts) < 3 * 3600
    by_quarter = [sum(900 * number <= start < 900 * number + 900 for start in starts) for number in range(12)]
    assert min(by_quarter) > 15 and max(by_quarter) < 60
    assert len(set(starts)) == 400


def test_spreading_leads_into_no_busy_half_hour() -> None:
    busy, monday = Quiet(), datetime.datetime(2026, 2, 2, tzinfo=datetime.UTC).timestamp()
    for number in range(4 * 7 * 96):
        if number % 96 not in (12, 13):  # nobody comes from three to half past
            busy = busy.note(monday + number * 900)
    for number in range(200):
        wish = Wish(terminal=f"T{number:05}", lead_s=300, outage_s=120, rollback_s=180)
        found = asked(calendar("22:00-06:00", spread_s=14400), "2026-03-02T12:00", busy, wish)
        assert found.restart_s is not None and "03-03 03:00" <= shown(found.restart_s) <= "03-03 03:30"


# a clock that cannot be right


def test_a_clock_far_from_what_is_known_is_not_believed() -> None:
    floor_s = at("2026-03-02T12:00")
    assert time_of_day_known(floor_s, floor_s) and time_of_day_known(floor_s - 0.9 * DAY_S, floor_s)
    assert time_of_day_known(floor_s + 9 * 365 * DAY_S, floor_s)
    assert not time_of_day_known(floor_s - 1.1 * DAY_S, floor_s)
    assert not time_of_day_known(floor_s + 11 * 365 * DAY_S, floor_s)
    assert not time_of_day_known(0.0, floor_s)


def test_without_the_time_a_while_without_payments_opens() -> None:
    night = calendar("22:00-06:00", blackouts=("01-01..12-31",), daily="03:00")
    lost = Moment(wall_s=1000.0, floor_s=at("2026-03-02T12:00"), idle_s=IDLE_S - 600, up_s=DAY_S)
    found = plan(WISH, night, SHOP, lost)
    assert (found.why, found.start_s) == (Why.CLOCK_UNKNOWN, 1600.0)
    assert not may_start(WISH, night, SHOP, lost)
    assert may_start(WISH, night, SHOP, Moment(wall_s=1600.0, floor_s=lost.floor_s, idle_s=IDLE_S, up_s=DAY_S))
    assert may_start(WISH, night, SHOP, lost, idle_needed_s=600)


# promises

_WINDOWS = st.builds(
    lambda begin, length, days: Window(begin_min=begin, end_min=begin + length, weekdays=days),
    st.integers(0, 95).map(lambda number: number * 15),
    st.integers(1, 96).map(lambda number: number * 15),
    st.frozensets(st.integers(0, 6), min_size=1),
)
_WISHES = st.builds(
    Wish,
    terminal=st.text(max_size=3),
    lead_s=st.floats(1, 2400),
    outage_s=st.floats(1, 1200),
    rollback_s=st.floats(1, 900),
)
_BLACKOUTS = st.sampled_from(["03-28", "03-29..04-02", "2026-10-24..2026-10-26"]).map(parse_blackout)
_CALENDARS = st.builds(
    Calendar,
    zone=st.sampled_from(PLACES).map(zone),
    windows=st.lists(_WINDOWS, max_size=3).map(tuple),
    blackouts=st.lists(_BLACKOUTS, max_size=2).map(tuple),
    daily_restart_min=st.none() | st.integers(0, 1439),
    spread_s=st.sampled_from([0.0, 1800.0, 14400.0]),
)
_NIGHTS = ["2026-03-28T22:00", "2026-10-24T22:00", "2026-10-25T00:10", "2026-04-04T12:00", "2026-06-10T12:00"]
_MOMENTS = st.builds(lambda text, hours: at(text) + hours * 3600, st.sampled_from(_NIGHTS), st.floats(-60, 60))
_QUIET = st.sampled_from([Quiet(), SHOP, KIOSK, STATION])


def in_a_window(when: Calendar, moment_s: float) -> bool:
    """By the clock on the wall, not by the code under test."""
    assert isinstance(when.zone, IanaZone)
    clock = datetime.datetime.fromtimestamp(moment_s, zoneinfo.ZoneInfo(when.zone.name))
    minute = clock.hour * 60 + clock.minute + clock.second / 60 + clock.microsecond / 6e7
    day = clock.date().toordinal() - datetime.date(1970, 1, 1).toordinal()
    return not any(blackout.covers(day) for blackout in when.blackouts) and (
        not when.windows
        or any(
            (clock.weekday() - past) % 7 in window.weekdays
            and window.begin_min <= minute + past * 1440 < window.end_min
            for window in when.windows
            for past in (0, 1)
        )
    )


@settings(max_examples=300)
@given(_WISHES, _CALENDARS, _QUIET, _MOMENTS)
def test_from_the_start_to_a_way_back_all_lies_in_a_window(
    wish: Wish, when: Calendar, quiet: Quiet, now_s: float
) -> None:
    found = plan(wish, when, quiet, now(now_s))
    if found.start_s is None:
        assert found.why in (Why.NO_WINDOW_FITS, Why.BLACKOUT)
        return
    assert found.start_s >= now_s and found.restart_s == found.start_s + wish.lead_s
    moment_s = found.start_s + 0.01
    while moment_s < found.start_s + wish.needed_s - 0.01:
        assert in_a_window(when, moment_s)
        moment_s += 60.0
    assert in_a_window(when, found.start_s + wish.needed_s - 0.01)


@settings(max_examples=300)
@given(_WISHES, _CALENDARS, _QUIET, _MOMENTS, st.data())
def test_a_plan_stays_the_plan_until_its_moment_and_then_stays_open(
    wish: Wish, when: Calendar, quiet: Quiet, now_s: float, data: st.DataObject
) -> None:
    found = plan(wish, when, quiet, now(now_s))
    assume(found.start_s is not None and now_s < found.start_s < now_s + 7 * DAY_S)
    assert found.start_s is not None
    for part in data.draw(st.lists(st.floats(0, 0.999), max_size=4)):
        before_s = now_s + part * (found.start_s - now_s)
        again = plan(wish, when, quiet, now(before_s))
        assert again.start_s == pytest.approx(found.start_s, abs=1e-3)
        assert not may_start(wish, when, quiet, now(before_s))
    # asked every half minute, whenever the asking began, it is never missed
    first_s = found.start_s + data.draw(st.floats(0, 30))
    room_s = (found.ends_s or first_s + 2 * wish.needed_s) - wish.needed_s - found.start_s
    if room_s > 31:
        assert may_start(wish, when, quiet, now(first_s))
    if found.why is Why.WINDOW:
        later_s = found.start_s + data.draw(st.floats(0, 1)) * room_s
        assert may_start(wish, when, quiet, now(later_s))


@settings(max_examples=100)
@given(_WISHES, _CALENDARS, _MOMENTS, st.floats(0, 5 * 86400), st.floats(-86400, 5 * 86400))
def test_after_the_deadline_it_is_open_whatever_else_is_set(
    wish: Wish, when: Calendar, now_s: float, after_s: float, deferred_s: float
) -> None:
    late = Wish(
        terminal=wish.terminal,
        lead_s=wish.lead_s,
        outage_s=wish.outage_s,
        rollback_s=wish.rollback_s,
        not_before_s=now_s + deferred_s,
        not_after_s=now_s + after_s,
    )
    found = plan(late, when, SHOP, now(now_s))
    assert found.start_s is not None and found.start_s <= now_s + after_s
    assert may_start(late, when, SHOP, now(now_s + after_s + 1))


@settings(max_examples=60)
@given(_WISHES, _CALENDARS, _QUIET, _MOMENTS)
def test_a_restart_besides_the_daily_ones_is_only_planned_where_no_window_has_room_for_those(
    wish: Wish, when: Calendar, quiet: Quiet, now_s: float
) -> None:
    assume(when.daily_restart_min is not None)
    found = plan(wish, when, quiet, now(now_s))
    assert isinstance(when.zone, IanaZone) and when.daily_restart_min is not None
    if found.start_s is None:
        return
    place = zoneinfo.ZoneInfo(when.zone.name)
    midnight = datetime.datetime.fromtimestamp(now_s, place).replace(hour=0, minute=0, second=0, microsecond=0)
    dailies = []
    for day in range(-1, 15):
        local = midnight + datetime.timedelta(days=day, minutes=when.daily_restart_min)
        while datetime.datetime.fromtimestamp(local.timestamp(), place).replace(tzinfo=None) != local.replace(
            tzinfo=None
        ):
            local += datetime.timedelta(minutes=1)  # one that is skipped comes when the hour is over
        dailies.append(local.timestamp())
    if any(daily_s - STANDS_S <= found.start_s <= daily_s + SLACK_S for daily_s in dailies):
        return
    assume(found.start_s < now_s + 7 * DAY_S)
    for daily_s in dailies:
        if daily_s <= found.start_s or daily_s > now_s + 14 * DAY_S:
            continue
        minutes = [daily_s - STANDS_S + 60.0 * number for number in range(61)]
        assert not any(has_room(when, minute_s, wish.needed_s + 120) for minute_s in minutes if minute_s > now_s)


def has_room(when: Calendar, start_s: float, needed_s: float) -> bool:
    """From that moment on for so long, by the clock on the wall."""
    moments = [start_s + 60.0 * number for number in range(int(needed_s / 60) + 1)]
    return all(in_a_window(when, moment) for moment in (*reversed(moments), start_s + needed_s))


def test_it_is_asked_often_and_answers_fast() -> None:
    """The steps of a plan are bounded: look-ups of the zone, the dear part, are a few a day."""

    class Counted:
        asked = 0

        def offset_s(self, utc_s: float) -> int:
            self.asked += 1
            return zone(BERLIN).offset_s(utc_s)

    counted = Counted()
    when = Calendar(zone=counted, windows=(parse_window("22:00-06:00"),), daily_restart_min=180)
    plan(WISH, when, SHOP, now(at("2026-03-26T12:00")))
    assert counted.asked < 60


@pytest.mark.parametrize("text", ["22:00-06:00", "00:00-24:00"])
def test_a_year_of_nights_has_a_start_in_each_of_them(text: str) -> None:
    for place, day in itertools.product(PLACES, range(0, 365, 3)):
        wall_s = at("2026-01-01T12:00", place) + day * DAY_S
        found = plan(WISH, calendar(text, place=place, spread_s=3600), SHOP, now(wall_s))
        assert found.start_s is not None and wall_s < found.start_s < wall_s + DAY_S + SLACK_S + QUIET_STEP_S
