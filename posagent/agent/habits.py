"""The terminal's own payment activity: quiet hours learned from it, kept in a file, and how long nobody has paid.

Rules: written at most once an hour, because flash wears; what a power cut takes is an hour of one day. A damaged file
is forgotten: the hours are learned again.
"""

from __future__ import annotations

from typing import ClassVar

from posagent.core import durable, quiet
from posagent.core.hours import Zone
from posagent.core.ports import Clock, Files
from posagent.core.quiet import Quiet

SAVE_S = 3600.0
NOTED_MAX = 100
"""Of one message's payments: a nonsensical number must not take long."""


class Habits:
    """`path` is of the file; activity counts from the start of the agent on."""

    NOTHING: ClassVar[Quiet] = Quiet()

    def __init__(self, files: Files, path: str, clock: Clock, zone: Zone) -> None:
        self._files, self._path, self._clock, self._zone = files, path, clock, zone
        self.quiet = quiet.from_json(durable.read_json(files, path)) or Quiet()
        self._active_at = self._saved_at = clock.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last payment, or since the start."""
        return self._clock.monotonic() - self._active_at

    def note(self, payments: int) -> None:
        """So many payments were taken since the last time."""
        now_s, wall_s = self._clock.monotonic(), self._clock.wall()
        self._active_at = now_s
        local_s = wall_s + self._zone.offset_s(wall_s)
        for _ in range(min(payments, NOTED_MAX)):
            self.quiet = self.quiet.note(local_s)
        if now_s - self._saved_at >= SAVE_S:
            self._saved_at = now_s
            durable.replace_json(self._files, self._path, self.quiet.to_json())
