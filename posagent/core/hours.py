"""When a terminal may be serviced: maintenance windows, blackouts and the daily restart, by the clock on its wall.

Owns: the text forms of the three, and the one rule of local time.
Rules: a moment lies in a window when the clock on the wall shows a time in it, whatever that clock does. So a window
that begins in the hour skipped in spring begins when that hour is over, and of the hour repeated in autumn each pass
counts for itself: 22:00-02:30 ends at the first 02:30 and is open again from the second 02:00 to the second 02:30; who
opens the shop by the clock never finds the terminal busy. A blackout is whole days of the same clock. The daily restart
comes once a day: skipped, it comes when the hour is over; repeated, the first time.
Units: `…_s` without another word are seconds since 1970; `local` seconds count as if the clock on the wall showed UTC.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

DAY_S = 86400
DAY_MIN = 1440
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY = frozenset(range(7))
_DAY_OF_1970 = datetime.date(1970, 1, 1).toordinal()


class Zone(Protocol):
    """The clock on the wall of the terminal's place."""

    def offset_s(self, utc_s: float) -> int:
        """Seconds east of UTC at that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedZone:
    """A clock that is never changed; without `east_s` it shows UTC."""

    east_s: int = 0

    def offset_s(self, utc_s: float) -> int:
        return self.east_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    begin_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A span in which the clock on the wall is not changed."""

    begin_s: float
    end_s: float
    offset_s: int


def spells(zone: Zone, begin_s: float, end_s: float) -> tuple[Spell, ...]:
    """The span, cut where the clock is changed. One look-up a day: no zone changes twice in a day."""
    found = []
    at, offset = begin_s, zone.offset_s(begin_s)
    last = begin_s
    while last < end_s:
        following = min(last + DAY_S, end_s)
        if (next_offset := zone.offset_s(following)) != offset:
            change_s = _change_s(zone, last, following)
            found.append(Spell(begin_s=at, end_s=change_s, offset_s=offset))
            at, offset = change_s, next_offset
        last = following
    if at < end_s:
        found.append(Spell(begin_s=at, end_s=end_s, offset_s=offset))
    return tuple(found)


def _change_s(zone: Zone, before_s: float, after_s: float) -> float:
    """The whole second at which the offset of `before_s` is no longer valid."""
    offset, low, high = zone.offset_s(before_s), int(before_s), int(after_s) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if zone.offset_s(middle) == offset else (low, middle)
    return min(float(high), after_s)


def local_s(found: Sequence[Spell], utc_s: float) -> float:
    """What the clock on the wall shows; outside of the spells it is taken not to be changed."""
    for spell in found:
        if utc_s < spell.end_s:
            return utc_s + spell.offset_s
    return utc_s + found[-1].offset_s


def weekday(day: int) -> int:
    """0 is Monday; days count from 1970-01-01, a Thursday."""
    return (day + 3) % 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When updates may begin and must be over; minutes of the day, beyond 24 hours where it passes midnight. The
    weekdays are those of its beginning."""

    begin_min: int
    end_min: int
    weekdays: frozenset[int] = _EVERY_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackout:
    """Days without any update, both ends included: (month, day) of each year or (year, month, day)."""

    first: tuple[int, ...]
    last: tuple[int, ...]

    def covers(self, day: int) -> bool:
        date = datetime.date.fromordinal(day + _DAY_OF_1970)
        if len(self.first) == 3:
            return self.first <= (date.year, date.month, date.day) <= self.last
        shown = (date.month, date.day)
        if self.first <= self.last:
            return self.first <= shown <= self.last
        return shown >= self.first or shown <= self.last  # passes new year


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """What is configured for a terminal. Without windows every time is as good; `spread_s` is how far apart the
    terminals of a fleet may begin where several moments are equally good."""

    zone: Zone = FixedZone()
    windows: tuple[Window, ...] = ()
    blackouts: tuple[Blackout, ...] = ()
    daily_restart_min: int | None = None
    spread_s: float = 0.0

    def allowed(self, found: Sequence[Spell]) -> tuple[Span, ...]:
        """When updates may run within the spells: windows without blackouts, adjoining ones joined, in order."""
        black: dict[int, bool] = {}
        spans = []
        for spell in found:
            first, last = spell.begin_s + spell.offset_s, spell.end_s + spell.offset_s
            for day in range(int(first // DAY_S) - 1, int(last // DAY_S) + 1):  # one from yesterday passes midnight
                for begin, end in self._of_day(day, black):
                    begin, end = max(begin, first), min(end, last)
                    if begin < end:
                        spans.append(Span(begin_s=begin - spell.offset_s, end_s=end - spell.offset_s))
        return joined(spans)

    def _of_day(self, day: int, black: dict[int, bool]) -> Iterable[tuple[float, float]]:
        """Local spans of the windows that begin on the day, cut into days and without those that are black."""
        for window in self.windows or (Window(begin_min=0, end_min=DAY_MIN),):
            if weekday(day) not in window.weekdays:
                continue
            begin, end = day * DAY_S + window.begin_min * 60, day * DAY_S + window.end_min * 60
            for part in range(begin // DAY_S, (end - 1) // DAY_S + 1):
                if part not in black:
                    black[part] = any(blackout.covers(part) for blackout in self.blackouts)
                if not black[part]:
                    yield max(begin, part * DAY_S), min(end, (part + 1) * DAY_S)

    def restarts_s(self, found: Sequence[Spell]) -> tuple[float, ...]:
        """The moments of the daily restart within the spells."""
        return () if self.daily_restart_min is None else daily_s(self.daily_restart_min, found)


def daily_s(minute: int, found: Sequence[Spell]) -> tuple[float, ...]:
    """When the clock on the wall shows that minute: once a day."""
    if not found:
        return ()
    first = int((found[0].begin_s + found[0].offset_s) // DAY_S)
    last = int((found[-1].end_s + found[-1].offset_s) // DAY_S)
    moments = (_once_s(day * DAY_S + minute * 60, found) for day in range(first, last + 1))
    return tuple(moment for moment in moments if moment is not None)


def _once_s(shown: float, found: Sequence[Spell]) -> float | None:
    skipped: float | None = None
    before: Spell | None = None
    for spell in found:
        if spell.begin_s <= shown - spell.offset_s < spell.end_s:
            return shown - spell.offset_s
        if before is not None and before.end_s + before.offset_s <= shown < spell.begin_s + spell.offset_s:
            skipped = spell.begin_s
        before = spell
    return skipped


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same moments in order, spans that meet or overlap joined."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.begin_s):
        if found and span.begin_s <= found[-1].end_s:
            found[-1] = Span(begin_s=found[-1].begin_s, end_s=max(found[-1].end_s, span.end_s))
        else:
            found.append(span)
    return tuple(found)


def calendar(
    zone: Zone,
    *,
    install: Iterable[str] = (),
    blackout: Iterable[str] = (),
    daily_restart: str = "",
    spread_s: float = 0.0,
) -> Calendar:
    """From the texts of a configuration. Raises ValueError with a remedy."""
    return Calendar(
        zone=zone,
        windows=tuple(map(parse_window, install)),
        blackouts=tuple(map(parse_blackout, blackout)),
        daily_restart_min=parse_daily(daily_restart) if daily_restart else None,
        spread_s=spread_s,
    )


_WINDOW_FORM = re.compile(r"(?:([a-z,\- ]*[a-z])\s+)?(\S+?)\s*-\s*(\S+)", re.ASCII)
_TIME_FORM = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_DATE_FORM = re.compile(r"(?:(\d{4})-)?(\d{1,2})-(\d{1,2})", re.ASCII)
_DAYS_OF_MONTH: Mapping[int, int] = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def parse_window(text: str) -> Window:
    """`22:00-06:00`, `mon-fri 22:00-06:00` or `sat,sun 20:00-08:00`. Raises ValueError with a remedy."""
    form = _WINDOW_FORM.fullmatch(text.strip().lower())
    if form is None:
        raise ValueError(f'"{text}" is no window; write it like "22:00-06:00" or "mon-fri 22:00-06:00"')
    begin, end = _minute(form[2], text), _minute(form[3], text, DAY_MIN)
    if begin == end:
        raise ValueError(f'the window "{text}" has no length; the whole day is "00:00-24:00"')
    days = _EVERY_DAY if form[1] is None else frozenset(_weekdays(form[1], text))
    return Window(begin_min=begin, end_min=end if end > begin else end + DAY_MIN, weekdays=days)


def _weekdays(listed: str, text: str) -> Iterable[int]:
    for part in listed.split(","):
        first, _, last = (name.strip() for name in part.partition("-"))
        for name in (first, last or first):
            if name not in WEEKDAYS:
                raise ValueError(f'"{name}" in "{text}" is no weekday; use {", ".join(WEEKDAYS)}')
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        yield from ((begin + step) % 7 for step in range((end - begin) % 7 + 1))


def _minute(shown: str, text: str, minute_max: int = DAY_MIN - 1) -> int:
    form = _TIME_FORM.fullmatch(shown)
    minute = int(form[1]) * 60 + int(form[2]) if form is not None and int(form[2]) < 60 else DAY_MIN + 1
    if minute > minute_max:
        raise ValueError(f'"{shown}" in "{text}" is no time of the day; write hours and minutes like "22:00"')
    return minute


def parse_blackout(text: str) -> Blackout:
    """`12-20..12-27` in each year, `2026-12-20..2026-12-27` once, or a single day. Raises ValueError with a remedy."""
    first, dots, last = text.strip().partition("..")
    begin = _date(first.strip(), text)
    end = _date(last.strip(), text) if dots else begin
    if len(begin) != len(end):
        raise ValueError(f'the blackout "{text}" has a year on one side only; give it on both sides or on none')
    if len(begin) == 3 and end < begin:
        raise ValueError(f'the blackout "{text}" ends before it begins; put the earlier day first')
    return Blackout(first=begin, last=end)


def _date(shown: str, text: str) -> tuple[int, ...]:
    form = _DATE_FORM.fullmatch(shown)
    if form is not None:
        month, day = int(form[2]), int(form[3])
        if form[1] is None:
            if 1 <= month <= 12 and 1 <= day <= _DAYS_OF_MONTH.get(month, 31):
                return (month, day)
        else:
            try:
                datetime.date(int(form[1]), month, day)
            except ValueError:
                pass  # said below
            else:
                return (int(form[1]), month, day)
    raise ValueError(
        f'"{shown}" in "{text}" is no day; write month and day like "12-20..12-27", or "2026-12-20..2026-12-27"'
    )


def parse_daily(text: str) -> int:
    """The minute of the day of a daily restart such as `03:00`. Raises ValueError with a remedy."""
    return _minute(text.strip(), text)
