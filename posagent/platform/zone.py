"""The clock on the wall of a place by its IANA name, such as Europe/Berlin, from the system's time zone data.

Rules: what the system does not know is refused by its name when the agent starts. The library is loaded where a zone is
configured: it takes some hundred KiB.
Source: zoneinfo, which reads /usr/share/zoneinfo (Debian: tzdata); RFC 8536.
"""

from __future__ import annotations

import datetime

from posagent.core.hours import FixedZone, Zone

_UTC_S_MAX = 253_000_000_000.0  # in the year 9987; a datetime ends soon after


class IanaZone:
    """A `core.hours.Zone`. Raises ValueError for a name that is not in the time zone data."""

    def __init__(self, name: str) -> None:
        import zoneinfo

        self.name = name
        try:
            self._zone = zoneinfo.ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:  # OSError: the name of a directory, or far too long
            raise ValueError(
                f'the time zone "{name}" is not known; use a name like "Europe/Berlin" '
                "(ls /usr/share/zoneinfo; the package is tzdata)"
            ) from error

    def offset_s(self, utc_s: float) -> int:
        moment = datetime.datetime.fromtimestamp(min(max(utc_s, 0.0), _UTC_S_MAX), self._zone)
        offset = moment.utcoffset()
        assert offset is not None
        return int(offset.total_seconds())


def zone_of(name: str) -> Zone:
    """The zone of that name, UTC without a look at the data. Raises ValueError with a remedy."""
    return FixedZone() if name == "UTC" else IanaZone(name)
