"""How long a terminal's phases took: the last few measurements of each, kept small and read strictly.

Owns: what of a record's `measured` counts as a measurement. The form of records is that of every earlier release.
Rules: total over anything that a journal may hold; what is no sound measurement is left out, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

KEPT_MAX = 8
PHASES_MAX = 16
"""More names than there are phases: a later release may know some that this one does not."""
NAME_CHARACTERS_MAX = 32
SECONDS_MAX = 30 * 86400.0
BYTES_MAX = float(1 << 40)

Measurement = tuple[float, float]
"""Seconds and bytes; no bytes where the phase does not depend on them."""
Measurements = Mapping[str, tuple[Measurement, ...]]


def added(known: Measurements, measured: object) -> Measurements:
    """With what a record says `{phase: {seconds, bytes?}}`, newest last."""
    if not isinstance(measured, Mapping) or not measured:
        return known
    kept = dict(known)
    for name, one in measured.items():
        sound = _measurement(one.get("seconds"), one.get("bytes", 0.0)) if isinstance(one, Mapping) else None
        if sound is not None and _is_name(name) and (name in kept or len(kept) < PHASES_MAX):
            kept[name] = (*kept.get(name, ()), sound)[-KEPT_MAX:]
    return kept


def restored(data: object, measured: object) -> Measurements:
    """From a snapshot `{phase: [[seconds, bytes], …]}`; one of an older release only has the last of each phase."""
    if not isinstance(data, Mapping):
        return added({}, measured)
    kept: dict[str, tuple[Measurement, ...]] = {}
    for name, several in data.items():
        if not _is_name(name) or not isinstance(several, list | tuple) or len(kept) == PHASES_MAX:
            continue
        pairs = (_measurement(*one) for one in several if isinstance(one, list | tuple) and len(one) == 2)
        sound = tuple(pair for pair in pairs if pair is not None)[-KEPT_MAX:]
        if sound:
            kept[name] = sound
    return kept


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= NAME_CHARACTERS_MAX


def _measurement(seconds: Any, size: Any) -> Measurement | None:
    if not _number(seconds) or not _number(size):
        return None
    if not 0.0 < seconds <= SECONDS_MAX or not 0.0 <= size <= BYTES_MAX:
        return None
    return float(seconds), float(size)


def _number(value: object) -> bool:
    """Neither a truth value nor a whole number too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= BYTES_MAX if isinstance(value, int) else isfinite(value)
