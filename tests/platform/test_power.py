"""What the terminal's power supplies say, and that what they do not say stays unknown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.config import PowerConfig
from posagent.core.energy import EnergyLimits
from posagent.core.model import State
from posagent.core.policy import gates
from posagent.core.ports import PowerReading
from posagent.platform.power import SysfsPower
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal


def supply(root: Path, name: str, **values: str) -> None:
    (root / name).mkdir(parents=True)
    for key, value in values.items():
        (root / name / key).write_text(value + "\n")


def test_a_battery_on_its_charger(tmp_path: Path) -> None:
    supply(tmp_path, "bat", type="Battery", capacity="57", status="Charging")
    supply(tmp_path, "ac", type="Mains", online="1")
    reading = SysfsPower(str(tmp_path)).read()
    assert reading == PowerReading(battery_present=True, battery_percent=57, charging=True, mains=True)


def test_a_peripherals_battery_is_not_the_terminals(tmp_path: Path) -> None:
    supply(tmp_path, "hid", type="Battery", capacity="90", status="Discharging", scope="Device")
    reading = SysfsPower(str(tmp_path)).read()
    assert reading.battery_percent is None and reading.battery_present is False


def test_the_weakest_of_several_batteries_counts(tmp_path: Path) -> None:
    supply(tmp_path, "b0", type="Battery", capacity="90", status="Discharging")
    supply(tmp_path, "b1", type="Battery", capacity="20", status="Discharging")
    assert SysfsPower(str(tmp_path)).read().battery_percent == 20


@pytest.mark.parametrize("text", ["", "full", "-3", "101", "7" * 60, "5\n5", "５"])
def test_a_capacity_with_text_in_it_is_unknown(tmp_path: Path, text: str) -> None:
    supply(tmp_path, "bat", type="Battery", capacity=text, status="Discharging")
    assert SysfsPower(str(tmp_path)).read().battery_percent is None


def test_a_missing_capacity_file_is_unknown_even_beside_a_good_battery(tmp_path: Path) -> None:
    supply(tmp_path, "b0", type="Battery", capacity="90", status="Full")
    supply(tmp_path, "b1", type="Battery", status="Full")
    assert SysfsPower(str(tmp_path)).read().battery_percent is None


def test_binary_garbage_and_a_missing_tree_are_unknown(tmp_path: Path) -> None:
    supply(tmp_path, "bat", type="Battery", status="Full")
    (tmp_path / "bat/capacity").write_bytes(b"\xff\x00\x80")
    assert SysfsPower(str(tmp_path)).read().battery_percent is None
    assert SysfsPower(str(tmp_path / "none")).read() == PowerReading()


def closed(reading: PowerReading, **limits: object) -> set[str]:
    found = gates(reading, EnergyLimits(**limits), None)  # type: ignore[arg-type]
    return {gate.name for gate in found if not gate.open and gate.name != "boot_control"}


def test_unknown_power_closes_both_gates() -> None:
    assert closed(PowerReading()) == {"power_download", "power_install"}


def test_thresholds_depend_on_the_charger() -> None:
    assert closed(PowerReading(battery_percent=20, mains=False)) == {"power_install"}
    assert closed(PowerReading(battery_percent=20, mains=True)) == set()
    assert closed(PowerReading(battery_percent=10, mains=True)) == {"power_download", "power_install"}
    assert closed(PowerReading(battery_percent=90, mains=False), install_needs_charger=True) == {"power_install"}


def test_a_terminal_without_a_battery_must_be_configured_so() -> None:
    mains_only = PowerReading(battery_present=False, mains=True)
    assert closed(mains_only) == {"power_download", "power_install"}
    assert closed(mains_only, battery_required=False) == set()


def test_every_closed_gate_has_a_remedy_in_both_languages() -> None:
    for reading in (PowerReading(), PowerReading(battery_percent=1, mains=False), PowerReading(battery_percent=1)):
        for gate in gates(reading, EnergyLimits(install_needs_charger=True), None):
            assert gate.open or (gate.remedy and gate.remedy_zh and gate.reason_zh)
            assert gate.needed_for in (State.DOWNLOAD, State.INSTALL)


# what a battery tells beside its percent


def told(tmp_path: Path, **values: str) -> PowerReading:
    supply(tmp_path, "bat", **{"type": "Battery", "capacity": "57", "status": "Discharging", **values})
    return SysfsPower(str(tmp_path)).read()


def test_a_battery_that_tells_its_energy(tmp_path: Path) -> None:
    reading = told(
        tmp_path,
        energy_full="7800000",
        energy_full_design="9620000",
        cycle_count="312",
        temp="235",
        voltage_now="3890000",
        power_now="1400000",
        technology="Li-ion",
    )
    assert reading == PowerReading(
        battery_present=True,
        battery_percent=57,
        charging=False,
        battery_full_wh=7.8,
        battery_design_wh=9.62,
        cycles=312,
        temperature_c=23.5,
        voltage_v=3.89,
        draw_w=1.4,
        technology="Li-ion",
    )


def test_a_battery_that_counts_charge_is_not_promised_the_voltage_of_a_full_one(tmp_path: Path) -> None:
    reading = told(
        tmp_path, charge_full="2000000", charge_full_design="2600000", voltage_now="4180000", current_now="-300000"
    )
    assert reading.battery_full_wh == pytest.approx(2.0 * 3.7)
    assert reading.battery_design_wh == pytest.approx(2.6 * 3.7)
    assert reading.draw_w == pytest.approx(0.3 * 4.18)


def test_the_designers_voltage_counts_where_it_is_told(tmp_path: Path) -> None:
    reading = told(tmp_path, charge_full="1800000", voltage_now="8300000", voltage_min_design="7200000")
    assert reading.battery_full_wh == pytest.approx(1.8 * 7.2)
    assert told(tmp_path / "none", charge_full="1800000").battery_full_wh is None, "charge without voltage"


@pytest.mark.parametrize(
    ("status", "power_now", "draw_w"),
    [
        ("Discharging", "-2000000", 2.0),
        ("Discharging", "2000000", 2.0),
        ("Charging", "2000000", -2.0),
        ("Charging", "-2000000", -2.0),
        ("Not charging", "-2000000", 2.0),
        ("Full", "0", 0.0),
        ("Full", "2000000", None),
    ],
)
def test_the_status_says_which_way_the_current_flows(
    tmp_path: Path, status: str, power_now: str, draw_w: float | None
) -> None:
    reading = told(tmp_path, status=status, power_now=power_now)
    assert (reading.draw_w, reading.battery_full) == (draw_w, status == "Full")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("battery_full_wh", {"energy_full": "0"}),
        ("battery_full_wh", {"energy_full": "-9600000"}),
        ("battery_full_wh", {"energy_full": "9600"}),  # in mWh
        ("battery_full_wh", {"energy_full": "9600000000000"}),
        ("battery_full_wh", {"energy_full": "9.6"}),
        ("battery_full_wh", {"charge_full": "100", "voltage_now": "3300"}),  # the kernel's test_power
        ("battery_design_wh", {"energy_full_design": "0x10"}),
        ("cycles", {"cycle_count": "0"}),  # of drivers that do not count
        ("cycles", {"cycle_count": "-1"}),
        ("cycles", {"cycle_count": "65535"}),
        ("temperature_c", {"temp": "-2731"}),
        ("temperature_c", {"temp": "25000"}),
        ("voltage_v", {"voltage_now": "3700"}),
        ("draw_w", {"power_now": "999000000"}),
        ("draw_w", {"current_now": "500000"}),
        ("technology", {"technology": ""}),
    ],
)
def test_nonsense_is_unknown(tmp_path: Path, name: str, values: dict[str, str]) -> None:
    assert getattr(told(tmp_path, **values), name) is None


def test_where_the_driver_has_no_percent_it_is_what_is_left(tmp_path: Path) -> None:
    supply(tmp_path, "bat", type="Battery", status="Discharging", energy_now="4000000", energy_full="9000000")
    assert SysfsPower(str(tmp_path)).read().battery_percent == 44
    (tmp_path / "bat/energy_now").write_text("9000001\n")
    assert SysfsPower(str(tmp_path)).read().battery_percent is None


def test_of_two_batteries_energies_add_up_and_the_worst_counts(tmp_path: Path) -> None:
    supply(
        tmp_path, "b0", type="Battery", capacity="90", status="Full",
        energy_full="9000000", cycle_count="100", temp="210", voltage_now="4100000", power_now="0", technology="Li-ion",
    )  # fmt: skip
    supply(
        tmp_path, "b1", type="Battery", capacity="20", status="Discharging",
        energy_full="5000000", cycle_count="900", temp="-20", voltage_now="3600000", power_now="1500000",
        technology="LiFe",
    )  # fmt: skip
    reading = SysfsPower(str(tmp_path)).read()
    assert (reading.battery_percent, reading.battery_full, reading.cycles) == (20, False, 900)
    assert (reading.temperature_c, reading.voltage_v, reading.draw_w) == (-2.0, 3.6, 1.5)
    assert (reading.battery_full_wh, reading.technology) == (14.0, "LiFe")
    (tmp_path / "b1/energy_full").unlink()
    assert SysfsPower(str(tmp_path)).read().battery_full_wh is None, "a sum with a part unknown"


def test_a_simulated_battery_tells_what_it_was_told_to(in_process: Callable[[], InProcessTerminal]) -> None:
    place = in_process().layout
    layout.set_power(
        place, battery=40, mains=False, full_wh=6.0, design_wh=9.6, cycles=480, temperature_c=-3.5, voltage_v=3.7,
        draw_w=2.25,
    )  # fmt: skip
    reading = SysfsPower(str(place.battery.parent)).read()
    assert (reading.battery_full_wh, reading.battery_design_wh, reading.cycles) == (6.0, 9.6, 480)
    assert (reading.temperature_c, reading.voltage_v, reading.draw_w) == (-3.5, 3.7, 2.25)
    layout.set_power(place, mains=True, status="Full")
    assert SysfsPower(str(place.battery.parent)).read().battery_full


def test_the_configured_limits_reach_the_gate() -> None:
    """In a process of its own: the daemon shuts OpenSSL out."""
    text = (
        '[terminal]\nid = "x"\nhardware = "y"\n[slots.a]\ndevice = "/a"\n[slots.b]\ndevice = "/b"\n[power]\n'
        'battery = "none"\ndownload_battery_percent_min = 1\ninstall_battery_percent_min = 2\n'
        "install_on_charger_battery_percent_min = 3\ninstall_needs_charger = true\ncharger_may_carry = false\n"
        "install_power_mw = 4500\nenergy_margin_percent = 250\nbattery_reserve_percent = 6\n"
        "battery_capacity_mwh = 7500\nbattery_temperature_c_min = -8\nbattery_temperature_c_max = 49\n"
        "battery_hysteresis_percent = 9\ncharge_percent_per_h = 10\n"
    )
    code = (
        "import sys; from posagent import config, settings; print(settings.power_limits_of(config.parse(sys.argv[1])))"
    )
    found = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True).stdout
    assert found.strip() == repr(
        EnergyLimits(
            battery_required=False,
            download_percent_min=1,
            install_percent_min=2,
            install_on_charger_percent_min=3,
            install_needs_charger=True,
            charger_may_carry=False,
            install_power_w=4.5,
            margin=2.5,
            reserve_percent=6,
            capacity_wh_default=7.5,
            temperature_c_min=-8,
            temperature_c_max=49,
            hysteresis_percent=9,
            charge_percent_per_h_default=10,
        )
    )


def test_without_configuration_the_limits_are_those_of_the_core() -> None:
    power = PowerConfig()
    ours = EnergyLimits()
    assert (power.install_power_mw / 1000, power.energy_margin_percent / 100) == (ours.install_power_w, ours.margin)
    assert power.battery_capacity_mwh / 1000 == ours.capacity_wh_default
    assert (power.battery_temperature_c_min, power.battery_temperature_c_max) == (
        ours.temperature_c_min,
        ours.temperature_c_max,
    )
    assert (power.battery_reserve_percent, power.battery_hysteresis_percent, power.charge_percent_per_h) == (
        ours.reserve_percent,
        ours.hysteresis_percent,
        ours.charge_percent_per_h_default,
    )
