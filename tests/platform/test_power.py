"""What the terminal's power supplies say, and that what they do not say stays unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from posagent.core.model import State
from posagent.core.policy import PowerLimits, gates
from posagent.core.ports import PowerReading
from posagent.platform.power import SysfsPower


def supply(root: Path, name: str, **values: str) -> None:
    (root / name).mkdir()
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
    found = gates(reading, PowerLimits(**limits), None)  # type: ignore[arg-type]
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
        for gate in gates(reading, PowerLimits(install_needs_charger=True), None):
            assert gate.open or (gate.remedy and gate.remedy_zh and gate.reason_zh)
            assert gate.needed_for in (State.DOWNLOAD, State.INSTALL)
