"""What a terminal of the campaign has been through."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any


@dataclasses.dataclass(slots=True)
class Notes:
    restarts: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    outcomes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    waits: dict[str, float] = dataclasses.field(default_factory=dict)
    cuts_in: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    open_at_end: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    outages: list[tuple[float, float, bool, int]] = dataclasses.field(default_factory=list)
    cuts: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    wrong_clock: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    asked: int = 0
    interrupted: int = 0
    cut_payments: int = 0
    power_cuts: int = 0
    clock_faults: int = 0
    flat: int = 0
