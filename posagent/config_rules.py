"""What only the parsers of the calendar know of a configuration: whether its texts can be understood."""

from __future__ import annotations

from collections.abc import Iterable

from posagent.core import hours
from posagent.platform.zone import zone_of
from posagent.tables import Reader


def check_calendar(
    reader: Reader, install: Iterable[str], blackout: Iterable[str], daily_restart: str, time_zone: str
) -> None:
    """Of `[window]`. Raises ConfigError `config_bad_value` for the first text that is not understood."""
    for key, texts, parse_one in (
        ("install", install, hours.parse_window),
        ("blackout", blackout, hours.parse_blackout),
        ("daily_restart", [daily_restart] if daily_restart else [], hours.parse_daily),
        ("time_zone", [time_zone], zone_of),
    ):
        for text in texts:
            try:
                parse_one(text)
            except ValueError as error:
                raise reader.complain("config_bad_value", f"window.{key}", str(error)) from None
