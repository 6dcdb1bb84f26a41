"""There is enough energy before anything begins, waiting has an end, and the person there is told what helps."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from posagent.core import battery
from posagent.core.energy import EnergyLimits, Supply, budget, enough_in_s, gate, supply
from posagent.core.model import Gate, State
from posagent.core.policy import gates
from posagent.core.ports import PowerReading
from posagent.core.trend import Trend

LIMITS = EnergyLimits()
MIN = 60.0
NEW = PowerReading(
    battery_present=True,
    battery_percent=80,
    charging=False,
    mains=False,
    battery_full_wh=9.6,
    battery_design_wh=9.6,
    cycles=20,
    temperature_c=25.0,
    voltage_v=4.0,
)


def on(reading: PowerReading, **changes: object) -> PowerReading:
    """The same on a charger that charges."""
    return dataclasses.replace(reading, **{"mains": True, "charging": True, **changes})  # type: ignore[arg-type]


def off(**changes: object) -> PowerReading:
    return dataclasses.replace(NEW, **changes)  # type: ignore[arg-type]


def asked(reading: PowerReading, need_s: float = 0.0, trend: Trend | None = None, **how: object) -> Gate:
    values: dict[str, object] = {"name": "power_install", "needed_for": State.INSTALL, "limits": LIMITS, **how}
    limits = values.pop("limits")
    return gate(reading, trend or Trend(), limits, need_s, **values)  # type: ignore[arg-type]


def watched(levels: list[int], reading: PowerReading, every_s: float = 60.0) -> Trend:
    trend = Trend()
    for number, percent in enumerate(levels):
        trend = trend.after(number * every_s, dataclasses.replace(reading, battery_percent=percent))
    return trend


# words


def test_a_short_update_is_a_matter_of_floors() -> None:
    found = asked(off(battery_percent=20), 5 * MIN)
    assert (found.open, found.reason, found.remedy) == (
        False,
        "battery 20 %, needs 30 %",
        "Put the terminal on its charger.",
    )
    assert (found.reason_zh, found.remedy_zh) == ("电量 20 %，需要 30 %", "请将终端接上充电器。")
    assert asked(on(off(battery_percent=20)), 5 * MIN).open


def test_a_long_update_on_a_worn_battery_asks_for_what_it_costs() -> None:
    found = asked(off(battery_percent=40, battery_full_wh=4.5), 40 * MIN)
    assert found.reason == "battery 40 %, needs 61 % for 40 min of work; the battery is worn"
    assert found.reason_zh == "电量 40 %，40 分钟的操作需要 61 %；电池已老化"
    assert found.remedy == "Put the terminal on its charger: charge about 36 min."
    assert found.remedy_zh == "请将终端接上充电器，充电约 36 分钟。"


def test_the_time_to_charge_is_that_of_this_charger() -> None:
    reading = on(off(battery_percent=40, battery_full_wh=4.5))
    slow = watched([36, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 40], reading)
    assert slow.percent_per_h == pytest.approx(20.0)
    assert asked(reading, 40 * MIN, slow).remedy == (
        "Leave the terminal on its charger: charge about 72 min, to at least 64 %."
    )
    assert asked(reading, 40 * MIN).remedy == (
        "Leave the terminal on its charger: charge about 36 min, to at least 64 %."
    )


def test_an_update_that_no_charge_is_enough_for_is_told_as_such() -> None:
    need_s, worn = 120 * MIN, off(battery_percent=100, battery_full_wh=4.5)
    for reading in (worn, off(battery_percent=30, battery_full_wh=4.5)):
        found = asked(reading, need_s)
        assert not found.open and found.reason.startswith(
            "needs 7.5 Wh and a reserve, the full battery gives 4.5 Wh; the battery is worn"
        )
        assert found.remedy.startswith("Put the terminal on its charger and leave it there: it can start when full")
    charging = asked(on(off(battery_percent=90, battery_full_wh=4.5)), need_s)
    assert not charging.open
    assert charging.remedy == (
        "Leave the terminal on its charger: it can start when the battery is full, in about 30 min."
    )
    plugged_in = asked(on(worn, battery_full=True), need_s)
    assert not plugged_in.open and plugged_in.remedy.endswith("in about 15 min.")
    kept = watched([100] * 16, on(worn))
    full = asked(on(worn, battery_full=True), need_s, kept)
    assert full.open and "leave it there" in full.reason and "请勿拔下" in full.reason_zh
    strict = asked(on(worn, battery_full=True), need_s, kept, limits=EnergyLimits(charger_may_carry=False))
    assert not strict.open and strict.remedy.startswith("Call service: the battery holds too little")


def test_a_charger_that_loses_against_the_terminal_counts_as_none() -> None:
    reading = on(off(battery_percent=20))
    assert asked(reading, 5 * MIN).open
    losing = watched([26, 26, 25, 25, 24, 24, 23, 23, 22, 22, 21, 21, 20], reading)
    found = asked(reading, 5 * MIN, losing)
    assert (found.open, found.reason) == (False, "battery 20 %, needs 30 %; the charger is too weak")
    assert "充电器功率不足" in found.reason_zh and "wall socket" in found.remedy and "原装充电器" in found.remedy_zh
    emptied = asked(on(off(battery_percent=20), charging=False, draw_w=1.2), 5 * MIN)
    assert not emptied.open and "the charger is too weak" in emptied.reason


def test_one_look_at_a_printer_at_work_does_not_make_a_charger_weak() -> None:
    reading = on(off(battery_percent=20), draw_w=6.0)
    rising = watched([17, 17, 18, 18, 19, 19, 20], reading)
    assert supply(reading, Trend()) is Supply.WEAK and supply(reading, rising) is Supply.CHARGER


def test_a_charger_that_does_not_charge_is_told_from_a_weak_one() -> None:
    reading = on(off(battery_percent=20), charging=False)
    found = asked(reading)
    assert (found.open, found.reason) == (False, "battery 20 %, needs 30 %; on the charger, but not charging")
    assert "contacts" in found.remedy
    assert asked(reading, trend=watched([20] * 20, reading)).open, "it holds the level: that is enough"


def test_a_terminal_that_must_be_on_its_charger_is_not_content_with_a_weak_one() -> None:
    limits = EnergyLimits(install_needs_charger=True)
    assert asked(off(battery_percent=90), limits=limits).reason == "not on the charger"
    assert asked(on(off(battery_percent=90), draw_w=2.0), limits=limits).reason == "the charger is too weak"
    assert asked(on(off(battery_percent=90)), limits=limits).open


@pytest.mark.parametrize(("temperature_c", "remedy"), [(-0.5, "warmer"), (45.5, "cool down")])
def test_a_battery_too_cold_or_too_hot_begins_nothing_but_a_download(temperature_c: float, remedy: str) -> None:
    reading = off(temperature_c=temperature_c)
    assert not asked(reading).open and remedy in asked(reading).remedy
    assert asked(reading, needed_for=State.DOWNLOAD).open


def test_a_cold_battery_gives_less() -> None:
    warm, cold = off(battery_percent=58), off(battery_percent=58, temperature_c=2.0)
    assert asked(warm, 75 * MIN).open
    assert asked(cold, 75 * MIN).reason == "battery 58 %, needs 66 % for 75 min of work; the battery is cold"


def test_a_voltage_that_sags_is_believed_more_than_the_gauge() -> None:
    found = asked(off(battery_percent=80, voltage_v=3.35))
    assert found.reason.startswith("battery 9 %, needs 30 %; it shows 80 %, but its voltage is too low")
    assert asked(off(battery_percent=80, voltage_v=3.75)).open, "a terminal's load lowers the voltage of a good battery"
    assert asked(off(battery_percent=80, voltage_v=3.2, technology="LiFe")).open, "another curve"
    assert asked(off(battery_percent=80, voltage_v=7.4)).open and not asked(off(voltage_v=6.4)).open, "two cells"


def test_a_battery_without_a_history_is_taken_for_worn() -> None:
    unknown = PowerReading(battery_percent=50, mains=False)
    assert battery.usable_wh(unknown, 9.6) == pytest.approx(9.6 * 0.8)
    assert battery.usable_wh(dataclasses.replace(unknown, cycles=1000), 9.6) == pytest.approx(9.6 * 0.6)
    never_learned = off(battery_full_wh=9.6, cycles=750)
    assert battery.usable_wh(never_learned, 9.6) == pytest.approx(9.6 * 0.7)


def test_what_goes_on_after_the_installation_needs_less_than_what_begins() -> None:
    reading = off(battery_percent=26)
    assert not asked(reading, 5 * MIN).open
    assert asked(reading, 3 * MIN, needed_for=State.ACTIVATE).open


@pytest.mark.parametrize("need_s", [math.nan, math.inf, -1.0])
def test_a_need_that_is_not_known_keeps_it_closed(need_s: float) -> None:
    assert not asked(NEW, need_s).open and asked(NEW, need_s).remedy


def test_the_gates_of_an_update_know_of_need_trend_and_hysteresis() -> None:
    reading = off(battery_percent=40, battery_full_wh=4.5)
    found = {one.name: one.open for one in gates(reading, LIMITS, None, need_s=40 * MIN)}
    assert found == {"power_download": True, "power_install": False, "boot_control": False}
    edge = off(battery_percent=31)
    assert [one.open for one in gates(edge, LIMITS, None, was_open={"power_download"})] == [True, False, False]
    assert [one.open for one in gates(edge, LIMITS, None)] == [True, True, False]
    assert gates(edge, LIMITS, None, was_open=())[1].reason == "battery 31 %, needs 33 %"


# laws


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


READINGS = st.builds(
    PowerReading,
    battery_present=st.sampled_from([None, True, False]),
    battery_percent=maybe(st.integers(0, 100)),
    charging=st.sampled_from([None, True, False]),
    mains=st.sampled_from([None, True, False]),
    battery_full=st.booleans(),
    battery_full_wh=maybe(st.floats(0.5, 30)),
    battery_design_wh=maybe(st.floats(0.5, 30)),
    cycles=maybe(st.integers(1, 20_000)),
    temperature_c=maybe(st.floats(-40, 100)),
    voltage_v=maybe(st.floats(2.0, 30.0)),
    draw_w=maybe(st.floats(-30, 30)),
    technology=st.sampled_from([None, "Li-ion", "LiFe", "Unknown"]),
)
ALL_LIMITS = st.builds(
    EnergyLimits,
    download_percent_min=st.integers(0, 100),
    install_percent_min=st.integers(0, 100),
    install_on_charger_percent_min=st.integers(0, 100),
    install_needs_charger=st.booleans(),
    charger_may_carry=st.booleans(),
    install_power_w=st.floats(0.1, 100),
    margin=st.floats(1, 10),
    reserve_percent=st.integers(0, 50),
    capacity_wh_default=st.floats(0.5, 500),
    hysteresis_percent=st.integers(0, 20),
    charge_percent_per_h_default=st.floats(1, 500),
)
NEEDS = st.floats(1, 6 * 3600) | st.sampled_from([0.0, 60.0, 1e9])
STATES = st.sampled_from([State.DOWNLOAD, State.READY, State.INSTALL, State.ACTIVATE])


@st.composite
def trends(draw: st.DrawFn) -> Trend:
    level, now, trend = draw(st.integers(0, 100)), 0.0, Trend()
    plugged = draw(st.booleans())
    for elapsed, step in draw(st.lists(st.tuples(st.floats(1, 400), st.integers(-1, 1)), max_size=30)):
        now, level = now + elapsed, min(max(level + step, 0), 100)
        trend = trend.after(now, PowerReading(battery_percent=level, mains=plugged))
    return trend


def gives_wh(reading: PowerReading, limits: EnergyLimits) -> float:
    """The formula of posagent/core/energy.py's and battery.py's docstrings, written down a second time."""
    full, design, wear = reading.battery_full_wh, reading.battery_design_wh, 0.8
    if reading.cycles is not None:
        wear = max(0.5, 1 - reading.cycles * 0.2 / 500)
    if full is not None and design is not None:
        held = min(full, design * wear) if reading.cycles is not None else min(full, design)
    elif full is not None or design is not None:
        held = (full or design or 0) * wear
    else:
        held = limits.capacity_wh_default * wear
    warmth = 1.0
    if reading.temperature_c is not None and reading.temperature_c < 20:
        warmth = max(0.5, 1 - (20 - reading.temperature_c) / 100)
    if reading.temperature_c is not None and reading.temperature_c > 40:
        warmth = max(0.5, 1 - (reading.temperature_c - 40) / 100)
    return held * warmth


def covers(reading: PowerReading, limits: EnergyLimits, need_s: float) -> bool:
    assert reading.battery_percent is not None
    above_reserve = (reading.battery_percent - limits.reserve_percent) / 100
    return gives_wh(reading, limits) * above_reserve >= limits.install_power_w * need_s / 3600 * limits.margin * (
        1 - 1e-9
    )


@settings(max_examples=400)
@given(READINGS, trends(), ALL_LIMITS, NEEDS, STATES, st.booleans())
def test_no_gate_opens_below_the_energy_needed(
    reading: PowerReading, trend: Trend, limits: EnergyLimits, need_s: float, state: State, was_open: bool
) -> None:
    found = asked(reading, need_s, trend, limits=limits, needed_for=state, was_open=was_open)
    assert found.reason and found.reason_zh and (found.open or (found.remedy and found.remedy_zh))
    if not found.open:
        return
    assert reading.battery_percent is not None, "what is not known keeps it closed"
    floors = (limits.install_percent_min, limits.install_on_charger_percent_min)
    floor = limits.download_percent_min if state is State.DOWNLOAD else min(floors)
    assert reading.battery_percent >= floor
    if state is not State.DOWNLOAD and reading.temperature_c is not None:
        assert 0 <= reading.temperature_c <= 45
    if need_s < 1e-3 or covers(reading, limits, need_s):  # less than a millisecond of work is none
        return
    plugged = reading.mains is True or (reading.mains is None and reading.charging is True)
    assert limits.charger_may_carry and plugged and reading.battery_percent >= 90, "the one exception: carried"
    assert trend.plugged and trend.span_s > 0 and not trend.falling


@settings(max_examples=300)
@given(READINGS, trends(), ALL_LIMITS, NEEDS, STATES, st.booleans(), st.integers(0, 100))
def test_more_charge_never_closes_a_gate(
    reading: PowerReading,
    trend: Trend,
    limits: EnergyLimits,
    need_s: float,
    state: State,
    was_open: bool,
    more: int,
) -> None:
    assume(reading.battery_percent is not None)
    assert reading.battery_percent is not None
    if asked(reading, need_s, trend, limits=limits, needed_for=state, was_open=was_open).open:
        fuller = dataclasses.replace(reading, battery_percent=min(reading.battery_percent + more, 100))
        assert asked(fuller, need_s, trend, limits=limits, needed_for=state, was_open=was_open).open


@settings(max_examples=200)
@given(READINGS, trends(), ALL_LIMITS, NEEDS, STATES)
def test_a_closed_gate_is_harder_to_open_than_an_open_one_to_close(
    reading: PowerReading, trend: Trend, limits: EnergyLimits, need_s: float, state: State
) -> None:
    closed, opened = (
        asked(reading, need_s, trend, limits=limits, needed_for=state, was_open=was_open) for was_open in (False, True)
    )
    assert opened.open or not closed.open


@given(st.integers(0, 100), st.integers(0, 20), st.booleans())
def test_the_hysteresis_is_exactly_as_wide_as_configured(floor: int, hysteresis: int, was_open: bool) -> None:
    limits = EnergyLimits(install_percent_min=floor, hysteresis_percent=hysteresis)
    opens = min(
        level
        for level in range(101)
        if asked(off(battery_percent=level, voltage_v=None), limits=limits, was_open=was_open).open
    )
    assert opens == (floor if was_open else min(floor + hysteresis, 100))


# lives of a battery


class Cell:
    """A battery with a gauge in whole percent, a terminal that lives on it, chargers of all kinds."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.design_wh = chance.choice([9.6, 13.0])
        self.health = chance.uniform(0.4, 1.0)
        self.level = chance.uniform(0.0, 1.0)
        self.top = chance.choice([100, 100, 98, 93])
        """What the gauge shows at most."""
        self.tells, self.says_full = chance.random() < 0.7, chance.random() < 0.7
        self.charger_w = 0.0
        self.temperature_c = 25.0

    @property
    def full_wh(self) -> float:
        return self.design_wh * self.health

    def live(self, seconds: float, load_w: float) -> None:
        watts = min(self.charger_w, load_w + 5.0) - load_w
        self.level = min(max(self.level + watts * seconds / 3600 / self.full_wh, 0.0), 1.0)

    def reading(self) -> PowerReading:
        full, plugged = self.level > 0.999, self.charger_w > 0
        return PowerReading(
            battery_present=True,
            battery_percent=math.floor(self.level * self.top + 1e-9),
            charging=plugged,
            mains=plugged,
            battery_full=plugged and full and self.says_full,
            battery_full_wh=self.full_wh if self.tells else None,
            battery_design_wh=self.design_wh if self.tells else None,
            temperature_c=self.temperature_c,
        )


@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_battery_goes_through_it_never_starts_too_low_and_never_waits_for_ever(seed: int) -> None:
    chance = random.Random(seed)
    cell, trend, was_open, now, plugged_at = Cell(chance), Trend(), True, 0.0, 0.0
    need_s = chance.choice([4, 10, 25, 60, 240]) * MIN
    limits = EnergyLimits(capacity_wh_default=cell.design_wh / 2)

    def look() -> Gate:
        nonlocal trend, was_open
        reading = cell.reading()
        trend = trend.after(now, reading)
        found = asked(reading, need_s, trend, limits=limits, was_open=was_open)
        was_open = found.open
        return found

    for _ in range(300):  # a day
        if chance.random() < 0.05:
            charger_w = chance.choice([0.0, 0.0, 1.0, 3.0, 8.0])
            plugged_at = plugged_at if cell.charger_w and charger_w else now
            cell.charger_w = charger_w
        cell.temperature_c = min(max(cell.temperature_c + chance.uniform(-1, 1), -10), 55)
        load_w = chance.choice([0.8, 1.2, 2.5, 6.0])
        seconds = chance.choice([30.0, 300.0, 600.0])
        cell.live(seconds, load_w)
        now += seconds
        if look().open:
            assert limits.temperature_c_min <= cell.temperature_c <= limits.temperature_c_max
            spent = limits.install_power_w * need_s / 3600
            if not covers(cell.reading(), limits, need_s):
                assert cell.charger_w and now - plugged_at >= 120 and cell.level > 0.9, "carried by a charger"
            elif cell.tells:
                assert cell.level * cell.full_wh > spent, "the plug can be pulled at once"
    cell.charger_w, cell.temperature_c = 10.0, 25.0  # somebody does as they are told
    for _ in range(12 * 60):
        cell.live(60.0, 1.0)
        now += 60.0
        last = look()
    assert last.open, f"{last.reason}: {last.remedy} ({cell.reading()})"


def test_a_gate_does_not_flutter_with_the_last_digit_of_the_gauge() -> None:
    reading, was_open, changes = off(battery_percent=30), True, 0
    for number in range(100):
        level = 30 - number % 2
        found = asked(dataclasses.replace(reading, battery_percent=level), was_open=was_open)
        changes += found.open is not was_open
        was_open = found.open
    assert changes == 1


def test_a_level_that_rises_no_further_is_not_asked_to_for_the_hysteresis() -> None:
    limits = EnergyLimits(charger_may_carry=False, install_on_charger_percent_min=91)
    full = on(off(battery_percent=93, battery_full=True, voltage_v=None))
    assert asked(full, limits=limits, was_open=False).open
    assert not asked(dataclasses.replace(full, battery_full=False), limits=limits, was_open=False).open
    held = on(off(battery_percent=16), charging=False)
    assert not asked(held, was_open=False).open
    assert asked(held, trend=watched([16] * 20, held), was_open=False).open
    stuck = asked(on(off(battery_percent=10)), trend=watched([10] * 20, on(NEW)))
    assert stuck.remedy.startswith("The level does not rise"), "more waiting is no help"


def test_have_and_need_can_be_told_in_watt_hours() -> None:
    found = budget(off(battery_percent=50), Trend(), LIMITS, 24 * MIN, State.INSTALL)
    assert found is not None
    assert found.need_wh == pytest.approx(1.5) and found.usable_wh == pytest.approx(9.6 * 0.992)
    assert found.have_wh == pytest.approx(9.6 * 0.992 * 0.45) and found.needed_percent == 30


# how long until there is enough


def test_it_is_told_how_long_to_charge_until_there_is_enough() -> None:
    def wait_s(reading: PowerReading, trend: Trend | None = None) -> float | None:
        return enough_in_s(reading, trend or Trend(), LIMITS, 5 * MIN, State.INSTALL)

    assert wait_s(NEW) == 0.0
    low = on(NEW, battery_percent=10)
    assert wait_s(low) == pytest.approx((18 - 10) / 40 * 3600), "to the floor and the hysteresis, at the usual rate"
    assert wait_s(off(battery_percent=10)) == wait_s(low), "on a charger, once it is connected"
    assert wait_s(on(NEW, battery_percent=10, charging=False)) is None, "no waiting helps while it is not charged"
    weak = watched([12, 11, 10, 9, 8], on(NEW), every_s=600)
    assert wait_s(on(NEW, battery_percent=8), weak) is None
    assert wait_s(off(battery_percent=None)) is None


def test_a_battery_that_is_too_small_is_to_be_full() -> None:
    old = on(NEW, battery_percent=50, battery_full_wh=0.5)
    seconds = enough_in_s(old, Trend(), LIMITS, 30 * MIN, State.INSTALL)
    assert seconds is not None and seconds > (100 - 50) / 40 * 3600
    never = dataclasses.replace(LIMITS, charger_may_carry=False)
    assert enough_in_s(old, Trend(), never, 30 * MIN, State.INSTALL) is None


@given(percent=st.integers(0, 100), need_s=st.floats(0, 7200), plugged=st.booleans())
def test_there_is_nothing_to_wait_for_exactly_where_the_gate_is_open_or_a_charger_opens_it(
    percent: int, need_s: float, plugged: bool
) -> None:
    reading = dataclasses.replace(NEW, battery_percent=percent, mains=plugged, charging=plugged, voltage_v=None)
    opened = asked(reading, need_s).open or asked(on(reading), need_s, was_open=False).open
    assert (enough_in_s(reading, Trend(), LIMITS, need_s, State.INSTALL) == 0.0) == opened
