"""When an update begins: within the maintenance window, with the daily restart, in the quietest minutes, or not yet.

Rules: between its start and the window's end there is room for the installation (the old version still sells), the
outage and a way back, each as long as nine times in ten. With a daily restart the update's restart takes its place:
the next one that a window has room for is waited for, two weeks if need be, and what was missed waits for the one after
it. Where there is none, none before the deadline, or no daily restart at all, the next window long enough is taken,
inside it the quietest place, and where several are about as quiet, one that spreads the fleet. Once the planned moment
has come it stays open as long as there is room, whatever kept it from being used: what is planned does not depend on
when it is asked. Two updates do not restart the terminal in one night, unless it is the deadline's.
Without windows, or in one longer than a day, the learned quiet hours are the windows; without these, any moment is.
From the deadline on neither windows nor blackouts nor a deferral count; safety gates are elsewhere. A clock that cannot
be right judges nothing: then a while without payments opens, so that no terminal is locked out.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from posagent.core.hours import DAY_MIN, DAY_S, Calendar, Span, Spell, daily_s, local_s, spells
from posagent.core.quiet import Profile, Quiet

JOIN_LATER_S = 14.0 * DAY_S
"""A start besides the daily restart is left for one with it that is at most this much later."""
AHEAD_S = JOIN_LATER_S + 8 * DAY_S
BEHIND_S = DAY_S + 7200.0
"""So far back a window's beginning is looked for; a day may have 25 hours."""
BLACKOUT_AHEAD_S = 100.0 * DAY_S
"""Where blackouts take the next days altogether, so far ahead is looked for their end."""
DEFERRAL_S_MAX = 400.0 * DAY_S
"""No calendar is made for later: who defers for ever has a typing error."""
JOIN_S = 60.0
"""The update's restart comes this long before the daily one, so that it is the update that is under way."""
STANDS_S = 3600.0
"""A start of the terminal so shortly before its daily restart stands for it."""
APART_S = 20 * 3600.0
"""Without a daily restart one update restarts the terminal so long after another."""
SLACK_S = 300.0
"""The last moment for a start is not planned, where there is another: the gates are asked only so often."""
STEP_S = 600.0
QUIET_STEP_S = 1800.0
"""Starts are compared this far apart; payments are known by the half hour."""
PLACES_MAX = 48
AS_QUIET = 1.25
AS_QUIET_PER_S = 0.2 / 3600
"""About as quiet: a quarter more payments than in the quietest place and a fifth of a payment an hour."""
IDLE_S = 1800.0
CLOCK_BEHIND_S = DAY_S
CLOCK_AHEAD_S = 10 * 365.25 * DAY_S


class Why(StrEnum):
    """What the planned moment comes from, or why there is none."""

    NOW = "now"  # any moment is as good
    WINDOW = "window"
    DAILY_RESTART = "daily_restart"
    QUIET = "quiet"
    DEADLINE = "deadline"  # it begins whatever the windows say
    DEFERRED = "deferred"  # without the deferral it would be earlier
    BLACKOUT = "blackout"  # without the blackout it would be earlier
    NO_WINDOW_FITS = "no_window_fits"
    CLOCK_UNKNOWN = "clock_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An update that waits to begin. `lead_s` until its restart, `outage_s` until the new version sells, `rollback_s`
    until the old one does again: each at its p90."""

    terminal: str
    lead_s: float
    outage_s: float
    rollback_s: float
    not_before_s: float | None = None
    not_after_s: float | None = None

    @property
    def needed_s(self) -> float:
        return self.lead_s + self.outage_s + self.rollback_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now. `floor_s`: the latest of image build, last journal record and last signed metadata; the time cannot be
    before. `idle_s`: how long there was no payment activity, counted by the monotonic clock, at most since the start.
    `up_s`: since the terminal started. `updated_s`: when an update restarted it last.
    """

    wall_s: float
    floor_s: float
    idle_s: float
    up_s: float
    updated_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`start_s` is the asked moment itself as soon as it may begin, None where no window of the next weeks fits.
    Where it takes a daily restart, that one has to wait for it: what begins late restarts a little later.

    `ends_s` is the end of its window, None where nothing ends it; `longest_s` the longest window of these weeks,
    to be told together with `needed_s` where none fits. The text comes from `why`.
    """

    why: Why
    start_s: float | None
    restart_s: float | None = None
    ends_s: float | None = None
    needed_s: float = 0.0
    longest_s: float | None = None


def time_of_day_known(wall_s: float, floor_s: float) -> bool:
    """Whether the clock may be right: a battery that was empty sets it back, a broken one anywhere."""
    return floor_s - CLOCK_BEHIND_S <= wall_s <= floor_s + CLOCK_AHEAD_S


def may_start(wish: Wish, calendar: Calendar, quiet: Quiet, moment: Moment, idle_needed_s: float = IDLE_S) -> bool:
    """Whether the planned moment has come."""
    start_s = plan(wish, calendar, quiet, moment, idle_needed_s).start_s
    return start_s is not None and start_s <= moment.wall_s


def plan(wish: Wish, calendar: Calendar, quiet: Quiet, moment: Moment, idle_needed_s: float = IDLE_S) -> Plan:
    """When it begins, as seen now."""
    now_s = moment.wall_s
    if not time_of_day_known(now_s, moment.floor_s):
        start_s = now_s + max(idle_needed_s - moment.idle_s, 0.0)
        put_off_s = wish.not_before_s or 0.0  # by the same clock; unless it was set since
        return _from(wish, Why.CLOCK_UNKNOWN, max(start_s, put_off_s) if put_off_s - now_s <= DAY_S else start_s)
    deadline_s = wish.not_after_s
    if deadline_s is not None and deadline_s <= now_s:
        return _from(wish, Why.DEADLINE, now_s)
    found = _explained(wish, calendar, quiet, moment)
    if deadline_s is None or _by(found, deadline_s):
        return found
    besides = _explained(wish, replace(calendar, daily_restart_min=None), quiet, replace(moment, updated_s=None))
    if _by(besides, deadline_s):  # a second restart in a window is better than the deadline outside of one
        return besides
    why = Why.NO_WINDOW_FITS if found.why is Why.NO_WINDOW_FITS else Why.DEADLINE
    return replace(_from(wish, why, deadline_s), longest_s=found.longest_s)


def _from(wish: Wish, why: Why, start_s: float) -> Plan:
    return Plan(why=why, start_s=start_s, restart_s=start_s + wish.lead_s, needed_s=wish.needed_s)


def _by(found: Plan, deadline_s: float) -> bool:
    return found.start_s is not None and found.start_s <= deadline_s


def _explained(wish: Wish, calendar: Calendar, quiet: Quiet, moment: Moment) -> Plan:
    """The plan without a deadline; a wait is blamed on what it would be shorter without."""
    found = free = _Outlook(wish, calendar, quiet, moment).plan()
    if found.start_s == moment.wall_s:
        return found
    if calendar.blackouts:
        free = _Outlook(wish, replace(calendar, blackouts=()), quiet, moment).plan()
        if found.start_s is None and free.start_s is not None:
            found = _Outlook(wish, calendar, quiet, moment, BLACKOUT_AHEAD_S).plan()
    if wish.not_before_s is not None and wish.not_before_s > moment.wall_s:
        soon = _Outlook(replace(wish, not_before_s=None), calendar, quiet, moment).plan()
        if _earlier(soon, found):
            return replace(found, why=Why.DEFERRED)
    return replace(found, why=Why.BLACKOUT) if _earlier(free, found) else found


def _earlier(one: Plan, other: Plan) -> bool:
    return one.start_s is not None and (other.start_s is None or one.start_s < other.start_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A start that could be chosen: it opens at `start_s` and may still be used until `closes_s`."""

    start_s: float
    closes_s: float
    ends_s: float
    why: Why


class _Outlook:
    """The windows around a moment, and what they offer to an update."""

    def __init__(self, wish: Wish, calendar: Calendar, quiet: Quiet, moment: Moment, ahead_s: float = AHEAD_S) -> None:
        self._wish = wish
        self._calendar = calendar
        self._now_s = now_s = moment.wall_s
        self._from_s = -float("inf") if wish.not_before_s is None else min(wish.not_before_s, now_s + DEFERRAL_S_MAX)
        if moment.updated_s is not None and calendar.daily_restart_min is None:
            self._from_s = max(self._from_s, min(moment.updated_s, now_s) + APART_S)
        base_s = max(now_s, self._from_s)
        self._spells: Sequence[Spell] = spells(calendar.zone, base_s - BEHIND_S, base_s + ahead_s)
        self._begin_s, self._end_s = base_s - BEHIND_S, base_s + ahead_s
        self._spans = [span for span in calendar.allowed(self._spells) if span.end_s > base_s]
        self._booted_s = now_s - moment.up_s
        self._quiet = quiet
        self._profile: Profile = quiet.profile()

    def plan(self) -> Plan:
        place = self._chosen()
        longest_s = max((span.length_s for span in self._spans), default=0.0)
        if place is None:
            return Plan(why=Why.NO_WINDOW_FITS, start_s=None, needed_s=self._wish.needed_s, longest_s=longest_s)
        start_s = max(place.start_s, self._now_s)
        return replace(
            _from(self._wish, place.why, start_s),
            ends_s=place.ends_s if place.ends_s < self._end_s else None,
            longest_s=longest_s,
        )

    def _chosen(self) -> _Place | None:
        joining = next((place for place in self._joining() if place.closes_s >= self._now_s), None)
        other = next((place for place in self._others() if place.closes_s >= self._now_s), None)
        if joining is None or (other is not None and other.start_s + JOIN_LATER_S < joining.start_s):
            return other
        return joining

    def _room(self, span: Span) -> tuple[float, float] | None:
        """The first and the last start for which there is room in the span."""
        first_s, last_s = max(span.begin_s, self._from_s), span.end_s - self._wish.needed_s
        return (first_s, last_s) if first_s <= last_s else None

    def _joining(self) -> Iterator[_Place]:
        """Starts whose restart takes the place of a daily one, in order."""
        for daily, span in itertools.product(self._calendar.restarts_s(self._spells), self._spans):
            room = self._room(span)
            if room is None:
                continue
            first_s = max(room[0], daily - STANDS_S)
            start_s = max(min(daily - JOIN_S - self._wish.lead_s, room[1] - SLACK_S), first_s)
            last_s = min(daily, room[1] - JOIN_S)  # with some time to be asked in
            if self._booted_s < start_s <= last_s:  # what has started since has had its restart
                closes_s = min(max(daily, start_s + SLACK_S), room[1])
                yield _Place(start_s=start_s, closes_s=closes_s, ends_s=span.end_s, why=Why.DAILY_RESTART)

    def _others(self) -> Iterator[_Place]:
        """Starts in windows, whether or not there is a daily restart besides."""
        for span in self._spans:
            room = self._room(span)
            if room is None:
                continue
            if span.length_s <= DAY_S:
                yield self._in_window(span, *room)
            elif self._quiet.learned:
                yield from self._in_quiet_hours(span, *room)
            else:
                yield self._at_once(span, *room)

    def _in_window(self, span: Span, first_s: float, last_s: float) -> _Place:
        """The quietest place of a window; it stays open from there as long as there is room."""
        end_s = max(first_s, last_s - SLACK_S)
        step_s = max(STEP_S, (end_s - first_s) / PLACES_MAX)
        starts = [first_s + step_s * number for number in range(int((end_s - first_s) / step_s) + 1)]
        quiet = self._as_quiet(starts)
        start_s = min(self._spread([start_s for start_s, is_quiet in quiet if is_quiet], step_s), end_s)
        why = Why.WINDOW if all(is_quiet for _, is_quiet in quiet) else Why.QUIET
        return _Place(start_s=start_s, closes_s=last_s, ends_s=span.end_s, why=why)

    def _in_quiet_hours(self, span: Span, first_s: float, last_s: float) -> Iterator[_Place]:
        """The quiet hours of each day, from noon to noon so that no night is cut, are windows."""
        noons = (noon for noon in daily_s(DAY_MIN // 2, self._spells) if span.begin_s < noon < span.end_s)
        latest_s = max(last_s - SLACK_S, first_s)
        for begin_s, end_s in itertools.pairwise((span.begin_s, *noons, span.end_s)):
            if end_s + 2 * SLACK_S <= max(self._now_s, first_s) or begin_s > latest_s:
                continue
            count = int((min(end_s - 1.0, latest_s) - begin_s) / QUIET_STEP_S) + 1
            places = self._as_quiet([begin_s + QUIET_STEP_S * number for number in range(count)])
            why = Why.NOW if all(is_quiet for _, is_quiet in places) and not self._calendar.windows else Why.QUIET
            for is_quiet, run in itertools.groupby(places, key=lambda place: place[1]):
                starts = [start_s for start_s, _ in run]
                start_s = self._spread(starts, QUIET_STEP_S)
                until_s = max(start_s, end_s if starts[-1] + QUIET_STEP_S >= end_s else starts[-1])
                closes_s = min(until_s + SLACK_S, last_s)
                if is_quiet and until_s >= first_s:
                    start_s = min(max(start_s, first_s), closes_s)
                    yield _Place(start_s=start_s, closes_s=closes_s, ends_s=span.end_s, why=why)

    def _at_once(self, span: Span, first_s: float, last_s: float) -> _Place:
        """Nothing tells one moment from another; after a beginning that all terminals share they are spread."""
        start_s = first_s
        if first_s == span.begin_s > self._begin_s:
            start_s = min(first_s + self._share() * min(self._calendar.spread_s, DAY_S), max(last_s - SLACK_S, first_s))
        why = Why.WINDOW if self._calendar.windows else Why.NOW
        return _Place(start_s=start_s, closes_s=last_s, ends_s=span.end_s, why=why)

    def _as_quiet(self, starts: Sequence[float]) -> list[tuple[float, bool]]:
        """Each start, and whether its outage costs about as few payments as the best of them."""
        lead_s, outage_s, expected = self._wish.lead_s, self._wish.outage_s, self._profile.expected
        lost = []
        for start_s in starts:
            begin_s = local_s(self._spells, start_s + lead_s)
            lost.append(expected(begin_s, begin_s + outage_s))
        most = min(lost) * AS_QUIET + AS_QUIET_PER_S * outage_s
        return [(start_s, cost <= most) for start_s, cost in zip(starts, lost, strict=True)]

    def _spread(self, starts: Sequence[float], step_s: float) -> float:
        """A moment at one of the starts or between it and the next, within the spread from the first."""
        spread_s = self._calendar.spread_s
        near = [start_s for start_s in starts if start_s < starts[0] + spread_s] or [starts[0]]
        number = int(place := self._share() * len(near))
        start_s = near[number]
        following = starts[number + 1] if number + 1 < len(starts) else float("inf")
        between_s = step_s if following - start_s <= step_s * 1.01 else SLACK_S  # what follows may be busy
        return start_s + (place - number) * min(between_s, max(starts[0] + spread_s - start_s, 0.0))

    def _share(self) -> float:
        """The same for a terminal always, evenly from 0 to 1 over the fleet."""
        digest = hashlib.sha256(self._wish.terminal.encode()).digest()
        return int.from_bytes(digest[:6], "big") / (1 << 48)
