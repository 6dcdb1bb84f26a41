"""For how long which gates kept the work in hand waiting: what the record of the update says of it.

Owns: the waits since the last journal record, which takes them along (core.update_record). Rules: a gate counts as
closed from one look to the next; only while work waits that has not begun. What a payment application gives as its
reason is kept without card numbers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from posagent.core import redact
from posagent.core.model import Decision, Facts, Situation
from posagent.core.ports import Clock
from posagent.core.update_record import WHY_CHARACTERS_MAX


class Waits:
    """Asked by the engine around every decision."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_s = clock.monotonic()
        self._closed: dict[str, str] = {}
        self._waited: dict[str, dict[str, Any]] = {}

    def added(self, facts: Facts, situation: Situation, working: bool) -> Facts:
        """The facts with what was waited; from here on, what is closed now counts."""
        now = self._clock.monotonic()
        for name, why in self._closed.items():
            kept = self._waited.setdefault(name, {"s": 0.0, "why": why})
            kept["s"] += now - self._looked_s
        waits = situation.update is not None and not working
        closed = facts.closed_gates(situation.state) if waits else ()
        self._closed = {one.name: redact.cards(one.reason)[:WHY_CHARACTERS_MAX] for one in closed}
        self._looked_s = now
        return dataclasses.replace(facts, waited={name: dict(one) for name, one in self._waited.items()})

    def settled(self, decision: Decision, working: bool) -> None:
        """What a record has is not told again; work that has begun, or ended, waits for nothing."""
        if decision.record is not None:
            self._waited = {}
        if working or decision.situation.update is None:
            self._closed = {}
