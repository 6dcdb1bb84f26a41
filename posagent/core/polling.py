"""When a terminal asks its fleet server next, so that no two of a hundred thousand do it together: pure.

Owns: the spread of a fleet over time. Rules: every wait is drawn anew, so terminals that started together, or lost the
same server together, drift apart; each failure doubles the wait, up to `BACKOFF_MAX` polls, and never under what the
server asked for. After an outage nobody catches up: the next request is due when it was due.
Checked for a million terminals by tests/fleet/stampede.py.
"""

from __future__ import annotations

import math

SLEEP_S_MIN, SLEEP_S_MAX = 1.0, 7 * 86400.0
JITTER = 0.25
"""A wait is up to this part of itself shorter, or longer."""
BACKOFF_MAX = 4.0
"""Waits after failures grow to so many polls at most: a server that is back is seen soon enough."""
FAILURES_COUNTED = 8


def first_s(sleep_s: float, draw: float) -> float:
    """Seconds from the start of the agent to its first request; `draw` is from 0 to 1. Distributed as what is left of a
    wait that one comes upon: then a fleet that is switched on together asks evenly from the first second on (the
    stationary renewal process; a plain draw from 0 to the interval would peak at 1.5 times the mean)."""
    left = draw if draw <= 1 - JITTER else 1 + JITTER - math.sqrt(4 * JITTER * (1 - draw))
    return _bounded(sleep_s) * left


def next_s(sleep_s: float, draw: float, *, failures: int = 0, retry_after_s: float = 0.0) -> float:
    """Seconds to the next request, after so many failures in a row."""
    grown = _bounded(sleep_s) * min(2.0 ** min(failures, FAILURES_COUNTED), BACKOFF_MAX)
    spread = grown * (1 + JITTER * (2 * draw - 1))
    return spread + (retry_after_s if failures else 0.0)


def _bounded(sleep_s: float) -> float:
    return min(sleep_s, SLEEP_S_MAX) if sleep_s >= SLEEP_S_MIN else SLEEP_S_MIN  # no number is not more than any
