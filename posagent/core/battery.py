"""What a battery really holds: its capacity by age, warmth and voltage, from what the gauge says.

Rules: cautious where the battery does not tell. More charge never makes less of it.
Sources: lithium-ion cells keep about 80 % after 500 full cycles, give about 80 % of their energy at 0 °C and 60 % at
-20 °C (makers' data sheets, small loads); the curve of the voltage at rest is that of cobalt cells.
"""

from __future__ import annotations

import itertools

from posagent.core.ports import PowerReading

HEALTH_UNKNOWN = 0.8
"""Of a battery that tells neither what it holds beside what it held when new, nor its cycles."""
HEALTH_LOST_PER_CYCLE = 0.0004
HEALTH_MIN = 0.5
WARM_C = 20.0
"""Below it every degree costs one percent of what the battery can give."""
HOT_C = 40.0
"""Above it too, because protection circuits begin to cut."""
WARMTH_MIN = 0.5

CELL_V = ((0.0, 3.3), (5.0, 3.5), (10.0, 3.62), (25.0, 3.7), (50.0, 3.8), (75.0, 3.95), (100.0, 4.15))
"""Percent of charge and volts of one cell at rest."""
SAG_V_ALLOWED = 0.25
"""How far the voltage of a good battery may be below that, under the load of a terminal."""
NOMINAL_CELL_V = 3.7
_CELLS = ((1, 2.0, 4.6), (2, 5.0, 9.2))
"""Packs of payment terminals, with volts in which no other number of cells is possible."""
_LITHIUM_ION = (None, "Unknown", "Li-ion", "Li-poly")


def cells(voltage_v: float | None, technology: str | None = None) -> int | None:
    """How many lithium-ion cells in series this is the voltage of; None where that cannot be told."""
    if voltage_v is None or technology not in _LITHIUM_ION:
        return None
    return next((count for count, low, high in _CELLS if low <= voltage_v <= high), None)


def _by_cycles(cycles: int | None) -> float | None:
    return None if cycles is None else max(HEALTH_MIN, 1.0 - HEALTH_LOST_PER_CYCLE * max(cycles, 0))


def held_wh(reading: PowerReading, default_wh: float) -> float:
    """Energy of the battery when full and warm.

    Where it tells what it holds now and what it held when new, the lesser, and no more than its cycles allow: a gauge
    that never learned says the same for both. Otherwise what it tells, or `default_wh`, less the wear of its cycles.
    """
    full, design = reading.battery_full_wh, reading.battery_design_wh
    worn = _by_cycles(reading.cycles)
    if full and design and full > 0 and design > 0:
        return min(full, design * (1.0 if worn is None else worn))
    told = next((value for value in (full, design) if value is not None and value > 0), default_wh)
    return told * (HEALTH_UNKNOWN if worn is None else worn)


def health(reading: PowerReading, default_wh: float) -> float:
    """What the battery holds, of what it held when new; 1.0 is new."""
    new = next((v for v in (reading.battery_design_wh, reading.battery_full_wh) if v is not None and v > 0), default_wh)
    return held_wh(reading, default_wh) / new


def warmth(temperature_c: float | None) -> float:
    """The part of its energy that a battery of this temperature gives; 1.0 where the temperature is not known."""
    if temperature_c is None:
        return 1.0
    away = max(WARM_C - temperature_c, temperature_c - HOT_C, 0.0)
    return max(WARMTH_MIN, 1.0 - 0.01 * away)


def usable_wh(reading: PowerReading, default_wh: float) -> float:
    """Energy between full and empty, as old and as cold as the battery is."""
    return held_wh(reading, default_wh) * warmth(reading.temperature_c)


def supported_percent(reading: PowerReading) -> int:
    """The most that the battery can be charged at its voltage; 100 where that says nothing."""
    count = cells(reading.voltage_v, reading.technology)
    if count is None or reading.voltage_v is None:
        return 100
    volts = reading.voltage_v / count + SAG_V_ALLOWED
    if volts <= CELL_V[0][1]:
        return 0
    for (percent, low), (more, high) in itertools.pairwise(CELL_V):
        if volts < high:
            return int(percent + (more - percent) * (volts - low) / (high - low))
    return 100


def believed_percent(reading: PowerReading) -> int | None:
    """The level the gauge says, unless the voltage sags below what such a level can have."""
    if reading.battery_percent is None:
        return None
    return min(reading.battery_percent, supported_percent(reading))
