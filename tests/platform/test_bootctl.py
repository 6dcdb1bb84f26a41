"""The U-Boot environment through the real tools: what is trusted, what is refused, what stays untouched."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from posagent.config import SlotConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.core.ports import BootState
from posagent.platform.uboot import UbootBootControl
from tests.platform.uboot import ENV_SIZE, make_environment

pytestmark = pytest.mark.real


def code_of(boot: UbootBootControl, verb: str) -> str:
    with pytest.raises(BootControlError) as caught:
        getattr(boot, verb)()
    return caught.value.code


def test_one_damaged_copy_is_survived_and_repaired_by_the_next_writes(tmp_path: Path) -> None:
    boot = UbootBootControl(*make_environment(tmp_path))
    env = tmp_path / "uboot.env"
    for place in (100, ENV_SIZE + 100):
        state = BootState(order=("a",), tries={"a": 1 + place % 3, "b": 0})
        boot.write(state)
        boot.write(state)
        data = bytearray(env.read_bytes())
        data[place] ^= 0xFF
        env.write_bytes(data)
        assert boot.read() == state


def test_an_environment_without_a_valid_copy_is_reported_and_never_written(tmp_path: Path) -> None:
    boot = UbootBootControl(*make_environment(tmp_path))
    env = tmp_path / "uboot.env"
    env.write_bytes(b"\xff" * 2 * ENV_SIZE)
    assert code_of(boot, "read") == "boot_env_missing"
    with pytest.raises(BootControlError, match="boot_env_missing"):
        boot.write(BootState(order=("a",), tries={"a": 3}))
    assert env.read_bytes() == b"\xff" * 2 * ENV_SIZE


def test_a_missing_tool_or_configuration_is_reported(tmp_path: Path) -> None:
    config, slots = make_environment(tmp_path)
    no_tool = dataclasses.replace(config, fw_printenv="/none/fw_printenv")
    assert code_of(UbootBootControl(no_tool, slots), "read") == "boot_env_missing"
    no_places = dataclasses.replace(config, env_config="/none/fw_env.config")
    assert code_of(UbootBootControl(no_places, slots), "read") == "boot_env_missing"


def test_a_tool_that_fails_or_lies_about_writing_is_found_out(tmp_path: Path) -> None:
    config, slots = make_environment(tmp_path)
    for tool in ("/bin/false", "/bin/true"):
        boot = UbootBootControl(dataclasses.replace(config, fw_setenv=tool), slots)
        with pytest.raises(BootControlError, match="boot_env_write"):
            boot.write(BootState(order=("b", "a"), tries={"a": 3, "b": 3}))


@pytest.mark.parametrize("same", ["", "{env} 0x0 0x2000\n"])
def test_a_single_copy_is_refused_unless_the_integrator_accepts_the_risk(tmp_path: Path, same: str) -> None:
    config, slots = make_environment(tmp_path)
    env = tmp_path / "uboot.env"
    (tmp_path / "fw_env.config").write_text(f"{env} 0x0 {ENV_SIZE:#x}\n" + same.format(env=env))
    assert code_of(UbootBootControl(config, slots), "read") == "boot_env_not_redundant"
    env.write_bytes(b"\xff" * ENV_SIZE)
    (tmp_path / "fw_env.config").write_text(f"{env} 0x0 {ENV_SIZE:#x}\n")
    command = ["fw_setenv", "-c", config.env_config, "-f", str(tmp_path / "defaults"), "made_by", "factory"]
    subprocess.run(command, check=True, capture_output=True)
    risky = UbootBootControl(dataclasses.replace(config, require_redundant_env=False), slots)
    assert risky.read() == BootState(order=("a",), tries={"a": 3, "b": 0})


@pytest.mark.parametrize(
    ("said", "meant"), [("2", 2), ("", 0), ("-1", 0), ("0x3", 0), ("three", 0), ("500", 99), ("9" * 40, 0), ("٣", 0)]
)
def test_a_counter_that_is_no_sensible_number_counts_as_no_try(tmp_path: Path, said: str, meant: int) -> None:
    boot = UbootBootControl(*make_environment(tmp_path, f"BOOT_ORDER=a b\nBOOT_a_LEFT=3\nBOOT_b_LEFT={said}\n"))
    assert boot.read().tries["b"] == meant


def test_an_order_with_strange_repeated_or_no_names_is_read_as_far_as_it_makes_sense(tmp_path: Path) -> None:
    boot = UbootBootControl(*make_environment(tmp_path, "BOOT_ORDER=rescue b b a  x\n"))
    assert boot.read().order == ("b", "a")
    boot.write(BootState(order=("a", "b"), tries={"a": 3}))
    text = subprocess.run(
        ["fw_printenv", "-c", str(tmp_path / "fw_env.config")], capture_output=True, text=True, check=True
    ).stdout
    assert "BOOT_ORDER=a b rescue x\n" in text
    assert "made_by=factory\n" in text


def test_without_an_order_nothing_is_assumed(tmp_path: Path) -> None:
    boot = UbootBootControl(*make_environment(tmp_path, "x=y\n"))
    assert boot.read() == BootState(order=(), tries={"a": 0, "b": 0})


def test_names_are_those_of_the_integrators_boot_script(tmp_path: Path) -> None:
    config, _ = make_environment(
        tmp_path,
        "order=B A\ntries_A=1\ntries_B=2\n",
        order_variable="order",
        tries_variable="tries_{slot}",
        cmdline_key="rauc.slot",
    )
    slots = SlotsConfig(a=SlotConfig(device="/a", boot_name="A"), b=SlotConfig(device="/b", boot_name="B"))
    boot = UbootBootControl(config, slots)
    (tmp_path / "cmdline").write_text("quiet rauc.slot=B rw")
    assert boot.booted() == "b"
    assert boot.read() == BootState(order=("b", "a"), tries={"a": 1, "b": 2})
    boot.write(BootState(order=("a",), tries={"a": 3, "b": 0}))
    assert boot.read() == BootState(order=("a",), tries={"a": 3, "b": 0})


@pytest.mark.parametrize(
    "cmdline",
    ["quiet", "posagent.slot=", "posagent.slot=c", "xposagent.slot=a", "posagent.slot=a posagent.slot=b", "\udcff\0"],
)
def test_a_command_line_that_does_not_name_one_slot_is_refused(tmp_path: Path, cmdline: str) -> None:
    boot = UbootBootControl(*make_environment(tmp_path))
    (tmp_path / "cmdline").write_bytes(cmdline.encode(errors="surrogateescape"))
    assert code_of(boot, "booted") == "booted_slot_unknown"
    (tmp_path / "cmdline").unlink()
    assert code_of(boot, "booted") == "booted_slot_unknown"
