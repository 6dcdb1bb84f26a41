"""Checks of the clock and the calendar: signatures expire by it, and updates begin."""

from __future__ import annotations

import datetime

from posagent.core import hours
from posagent.core.hours import DAY_S
from posagent.core.quiet import Quiet
from posagent.core.window import Moment, Why, Wish, plan
from posagent.doctor.findings import Verdict, fault, ok, warning
from posagent.doctor.site import Site
from posagent.platform.zone import zone_of

AHEAD_S_MAX = 20 * 365 * 86400
"""As posagent/installer/trust.py: a clock that is further ahead of the image is not believed."""
RTC_APART_S_MAX = 86400
USUAL = Wish(terminal="", lead_s=300.0, outage_s=180.0, rollback_s=180.0)
"""What a window has to have room for at least."""


def sane(site: Site) -> Verdict:
    """Not before the image was built, nor in another age."""
    built, now = site.config.trust.image_built_at, site.clock.wall()
    if not built:
        return warning("trust.image_built_at is 0: a clock that begins in 1970 cannot be told from a right one")
    shown = f"{_date(now)}, the image is of {_date(built)}"
    return ok(shown) if built <= now <= built + AHEAD_S_MAX else fault(shown)


def rtc(site: Site) -> Verdict:
    """A clock that goes on without power."""
    here = site.board.system("/sys/class/rtc")
    names = site.board.names(here)
    if not names:
        return warning("there is no /sys/class/rtc/rtc0: after each power cut the clock begins anew")
    seconds = site.board.number(f"{here}/{names[0]}/since_epoch")
    if seconds is None:
        return warning(f"{names[0]} cannot be read")
    if abs(seconds - site.clock.wall()) > RTC_APART_S_MAX:
        return warning(f"{names[0]} says {_date(seconds)}, the system {_date(site.clock.wall())}")
    return ok(names[0])


def daily_restart(site: Site) -> Verdict:
    """An update can take the place of the daily restart."""
    window, now_s = site.config.window, site.clock.wall()
    if not window.daily_restart:
        return ok("the agent makes none")
    calendar = hours.calendar(zone_of(window.time_zone), install=window.install, daily_restart=window.daily_restart)
    found = plan(USUAL, calendar, Quiet(), Moment(wall_s=now_s, floor_s=now_s, idle_s=0.0, up_s=DAY_S))
    if found.why is Why.DAILY_RESTART:
        return ok(window.daily_restart)
    minutes = round(USUAL.needed_s / 60)
    return warning(
        f"no window has {minutes} min for an update at {window.daily_restart}: it restarts the terminal besides"
    )


def _date(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s"


CHECKS = {"clock.sane": sane, "clock.rtc": rtc, "window.daily_restart": daily_restart}
