"""What the rigs are made of, without labgrid and without a machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest

from hil.image import power, variant
from hil.repository import Repository
from hil.rigs import options, sim
from hil.rigs.options import Options
from hil.terminal import NotOnThisRig

# where updates are served


def test_updates_are_served_on_the_given_address_alone(tmp_path: Path) -> None:
    served = Repository(tmp_path / "served", "127.0.0.2", bind="127.0.0.2", port=0)
    try:
        (tmp_path / "served/file").write_text("an update")
        url = served.url("file")
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"an update"
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url.replace("127.0.0.2", "127.0.0.1"))
    finally:
        served.close()


# the bench


def command(path: Path, code: int = 0) -> str:
    """A program of a bench, which notes what it was called with."""
    path.write_text(f'#!/bin/sh\necho "$@" >>{path}.calls\nexit {code}\n')
    path.chmod(0o755)
    return str(path)


def bench(**more: str) -> Options:
    return Options.of(
        {"host": "192.168.7.1", "field": "/dev/field", "make_bundle": "/bin/false", "factory": "/bin/true"} | more
    )


def test_a_bench_sets_the_battery_by_its_command(tmp_path: Path) -> None:
    rig = bench(set_power=command(tmp_path / "set-power"))
    rig.power(20, False)
    rig.power(90, True)
    assert (tmp_path / "set-power.calls").read_text() == "20 off\n90 on\n"


def test_a_bench_without_a_supply_to_program_skips_what_needs_one() -> None:
    with pytest.raises(NotOnThisRig, match="battery"):
        bench().power(20, False)


def test_a_battery_that_could_not_be_set_fails_the_scenario(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        bench(set_power=command(tmp_path / "set-power", code=1)).power(20, False)


def test_a_terminal_that_is_not_back_in_its_factory_state_is_not_tried(tmp_path: Path) -> None:
    bench(factory=command(tmp_path / "factory")).reset()
    assert (tmp_path / "factory.calls").read_text() == "\n"
    with pytest.raises(subprocess.CalledProcessError):
        bench(factory=command(tmp_path / "broken", code=1)).reset()


def test_engineers_come_to_a_bench_only_with_a_key_made_for_it() -> None:
    assert bench(engineer_ca="/srv/bench/ca").desk() == Path("/srv/bench/ca")
    with pytest.raises(NotOnThisRig, match="engineers"):
        bench().desk()


def test_the_file_to_copy_for_a_bench_names_every_option() -> None:
    text = (
        (Path(options.__file__).parent / "bench.yaml").read_text().partition("options:")[2].partition("resources:")[0]
    )
    assert set(re.findall(r"^ +(?:# )?(\w+):", text, re.MULTILINE)) == {one.name for one in fields(Options)}


def test_options_that_are_missing_or_unknown_are_refused() -> None:
    with pytest.raises(ValueError, match="make_bundle"):
        Options.of({"host": "192.168.7.1", "field": "/dev/field"})
    with pytest.raises(ValueError, match="setpower"):
        bench(setpower="/bin/true")


# faults


def test_the_simulator_and_qemu_know_the_same_faults() -> None:
    assert sim.FAULTS.keys() == variant.FAULTS.keys()


# the battery in QEMU


def test_the_battery_in_qemu_is_the_same_after_a_power_cut() -> None:
    *now, later = power.command(20, False).split(" && ")
    assert "echo 20 >/sys/module/test_power/parameters/battery_capacity" in now
    program, variable, words = shlex.split(later)
    assert (program, variable) == ("fw_setenv", "hil_power")
    assert words.split() == [
        "test_power.battery_capacity=20",
        "test_power.ac_online=off",
        "test_power.usb_online=off",
        "test_power.battery_status=discharging",
    ]
    assert " ${hil_power};" in (Path(power.__file__).parent / "uboot.env").read_text()


# whether a machine can build the virtual terminal


def possible(*words: str | Path, **more: str) -> tuple[list[str], int]:
    command = [Path(power.__file__).parent / "possible.sh", *words]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | more, check=False)
    return said.stdout.splitlines(), said.returncode


@pytest.mark.parametrize(
    ("release", "told"),
    [("ID=debian\nVERSION_ID=13\n", "debian 13"), ("ID=else\nVERSION_ID=12\n", "else 12"), (None, "another system")],
)
def test_another_release_is_told_as_what_the_machine_lacks(tmp_path: Path, release: str | None, told: str) -> None:
    file = tmp_path / "os-release"
    if release is not None:
        file.write_text(release)
    said, code = possible("machine", file)
    assert code == 1 and f"hil: lacks Debian 12, of which the image is made; this is {told}" in said


@pytest.mark.parametrize(
    ("apt", "code", "lacking"),
    [
        ("echo \"'http://x/pool/u-boot_2023.01.dsc' u-boot_2023.01.dsc\"", 0, []),
        ("echo 'E: Unable to find a source package for u-boot' >&2; exit 100", 1, ["source"]),
        ("echo 'E: the lists are damaged' >&2; exit 100", 2, []),
    ],
)
def test_only_what_is_lacking_is_told_so_and_trouble_stays_trouble(
    tmp_path: Path, apt: str, code: int, lacking: list[str]
) -> None:
    for name, text in (("apt-get", apt), ("python", "echo 3.11")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    said, ended = possible("means", tmp_path / "python", PATH=path, B="/nowhere")
    assert (ended, [line.split()[2] for line in said if line.startswith("hil: lacks")]) == (code, lacking)


def test_another_python_is_told_as_what_the_machine_lacks(tmp_path: Path) -> None:
    said, code = possible("means", tmp_path / "no-python", B="/nowhere")
    assert code != 0 and said[0].startswith("hil: lacks Python 3.11 in .venv")
