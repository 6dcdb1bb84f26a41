"""What a real U-Boot, kernel and systemd showed (hil/record.py), given to the production readers, and to the simulator.

A recording is of one terminal on a rig; all that are there are played.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.campaign.guest import KERNEL, Guest
from hil.machine import Machine
from hil.recording import unpacked
from posagent.config import BootConfig, SlotConfig, SlotsConfig
from posagent.platform.power import SysfsPower
from posagent.platform.reset import LinuxResets
from posagent.platform.storage import LinuxFiles
from posagent.platform.uboot import UbootBootControl
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk
from tests.console.engineers import certify, make_key
from tests.console.laptop import Laptop
from tests.platform.uboot import make_environment

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return value


def part(recorded: dict[str, Any], name: str) -> Any:
    """A part of it that not every rig can record."""
    if name not in recorded:
        pytest.skip(f"its rig could not record: {name}")
    return recorded[name]


def test_there_is_a_recording() -> None:
    assert RECORDINGS


# the boot environment


@pytest.mark.real
@pytest.mark.parametrize("lost", [None, 0, 1])
def test_each_copy_of_the_boot_environment_is_read_as_on_the_terminal(
    recorded: dict[str, Any], tmp_path: Path, lost: int | None
) -> None:
    environment = recorded["environment"]
    printed = dict(line.split("=", 1) for line in environment["printed"])
    boot = _boot(environment, tmp_path, lost)
    assert boot.booted() == "a"
    state = boot.read()
    assert " ".join(state.order) == printed["BOOT_ORDER"]
    assert state.tries["a"] in (int(printed["BOOT_a_LEFT"]), 2, 3), "the copies differ by one start"
    boot.write(state)
    assert boot.read() == state


def _boot(environment: dict[str, Any], folder: Path, lost: int | None) -> UbootBootControl:
    """Boot control over a file that holds both copies where the terminal has them; of one only garbage is left."""
    disk, config, cmdline = folder / "disk", folder / "fw_env.config", folder / "cmdline"
    lines = [line.split() for line in environment["config"].splitlines() if line.strip() and not line.startswith("#")]
    with disk.open("wb") as medium:
        for number, (line, copy) in enumerate(zip(lines, environment["copies"], strict=True)):
            data = unpacked(copy)
            medium.seek(int(line[1], 16))
            medium.write(b"\xff" * len(data) if number == lost else data)
    config.write_text("".join(" ".join([str(disk), *line[1:]]) + "\n" for line in lines))
    cmdline.write_text(environment["cmdline"])
    slots = SlotsConfig(a=SlotConfig(device="/none/a"), b=SlotConfig(device="/none/b"))
    return UbootBootControl(BootConfig(env_config=str(config), cmdline_file=str(cmdline)), slots)


@pytest.mark.real
def test_the_simulated_environment_has_the_variables_of_the_recorded_one(
    recorded: dict[str, Any], tmp_path: Path
) -> None:
    boot, _ = make_environment(tmp_path)
    ours = {boot.order_variable, *(boot.tries_variable.format(slot=slot) for slot in "ab")}
    assert ours <= {line.partition("=")[0] for line in recorded["environment"]["printed"]}


# power


@pytest.mark.parametrize("condition", ["on the charger", "on the battery", "nearly empty"])
def test_power_supplies_are_understood_as_on_the_terminal(
    recorded: dict[str, Any], tmp_path: Path, condition: str
) -> None:
    shown = part(recorded, "power")[condition]
    for name, value in shown["files"].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    reading = SysfsPower(str(tmp_path)).read()
    found = {"battery_percent": reading.battery_percent, "charging": reading.charging, "mains": reading.mains}
    assert found == shown["answer"]


def test_simulated_power_supplies_look_like_recorded_ones(
    recorded: dict[str, Any], in_process: Callable[[], InProcessTerminal]
) -> None:
    sim = in_process().layout
    layout.set_power(sim, battery=55, mains=False)
    real = part(recorded, "power")["on the battery"]["files"]
    by_type = {value: name.rpartition("/")[0] for name, value in real.items() if name.endswith("/type")}
    for place, kind in ((sim.battery, "Battery"), (sim.mains, "Mains")):
        for file in place.iterdir():
            value = real[f"{by_type[kind]}/{file.name}"]
            assert file.read_text() == value + "\n", file


# causes of restarts


def test_causes_of_restarts_are_told_as_on_the_terminal(recorded: dict[str, Any], tmp_path: Path) -> None:
    for start in recorded["starts"]:
        for path, data in start["crash_store"].items():
            file = tmp_path / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(unpacked(data))
        for name in ("cmdline", "bootstatus", "boot_id"):
            (tmp_path / name).write_text(start[name] + "\n")
        report = _resets(tmp_path).read()
        assert report.cause.value == start["answer"] == start["cause"]
        assert any("sysrq triggered crash" in line for line in report.log) is (start["cause"] == "panic")


def _resets(root: Path) -> LinuxResets:
    return LinuxResets(
        files=LinuxFiles(),
        cmdline_file=str(root / "cmdline"),
        pstore_dirs=(str(root / "sys/fs/pstore"), str(root / "var/lib/systemd/pstore")),
        bootstatus=str(root / "bootstatus"),
        state_dir=str(root / "state"),
        boot_id_file=str(root / "boot_id"),
    )


# consoles


class Played(Machine):
    """The main console says again what it said."""

    def __init__(self, lines: list[str]) -> None:
        self._text = "\r\n".join(lines).encode()

    def read(self, timeout_s: float, bytes_max: int = 1 << 16) -> bytes:
        text, self._text = self._text[:1000], self._text[1000:]
        return text


def test_the_phases_of_a_start_are_seen_on_the_main_console(recorded: dict[str, Any]) -> None:
    guest = Guest(Played(part(recorded, "console")))
    phases = set()
    for _ in range(100):
        guest.pump(0)
        phases.add(guest.phase)
    assert KERNEL in phases and guest.booted == "a" and guest.starts >= 1


def test_the_simulated_terminal_answers_on_the_field_line_as_the_real_one(
    recorded: dict[str, Any], in_process: Callable[[], InProcessTerminal], desk: Desk, tmp_path: Path
) -> None:
    certificate = certify(desk.keys / "engineer-ca", make_key(tmp_path / "key"))
    laptop = Laptop(in_process(), {"update": certificate})
    for told in part(recorded, "field"):
        if told["unlocked"] and "unlocked" not in laptop.screen.decode():
            laptop.unlock()
        assert shape(laptop.ask(told["typed"]).splitlines()) == shape(told["answered"]), told["typed"]


def shape(lines: list[str]) -> list[Any]:
    """What an answer looks like, whatever the values are: keys of objects, codes of errors; other lines as they are."""
    return [_kinds(json.loads(line)) if line.startswith("{") else line for line in lines if line]


def _kinds(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _kinds(one, name) for name, one in sorted(value.items()) if one is not None}
    if isinstance(value, list):
        return [_kinds(value[0])] if value and key != "problems" else []
    return value if key == "code" else type(value).__name__
