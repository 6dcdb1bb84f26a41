"""Boot control keeps the same promises with U-Boot's and GRUB's real tools, a vendor's program, and simulated."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from posagent.core.ports import BootControl, BootState
from posagent.crash.medium import Medium
from posagent.platform.grub import GrubBootControl
from posagent.platform.uboot import UbootBootControl
from posagent.platform.vendor import VendorBootControl
from posagent.sim import bootloader
from tests.platform import grub, uboot, vendor

REAL = [pytest.param(kind, marks=pytest.mark.real) for kind in ("uboot", "grub", "custom")]


@pytest.fixture(params=[*REAL, "medium"])
def boot(request: pytest.FixtureRequest, tmp_path: Path) -> BootControl:
    if request.param == "medium":
        return Medium().boot
    if request.param == "grub":
        return GrubBootControl(*grub.make_environment(tmp_path))
    if request.param == "custom":
        return VendorBootControl(*vendor.make_program(tmp_path))
    return UbootBootControl(*uboot.make_environment(tmp_path))


def test_the_booted_slot_is_known(boot: BootControl) -> None:
    assert boot.booted() == "a"


def test_a_factory_environment_starts_slot_a_only(boot: BootControl) -> None:
    assert boot.read() == BootState(order=("a",), tries={"a": 3, "b": 0})


def test_what_is_written_is_read(boot: BootControl) -> None:
    for order, a, b in itertools.product([("a",), ("b", "a"), ("a", "b")], (1, 3), (0, 9)):
        state = BootState(order=order, tries={"a": a, "b": b})
        if order == ("b", "a") and b == 0:
            continue
        boot.write(state)
        assert boot.read() == state


def test_tries_that_are_not_named_stay(boot: BootControl) -> None:
    boot.write(BootState(order=("a",), tries={"a": 2}))
    assert boot.read() == BootState(order=("a",), tries={"a": 2, "b": 0})


def test_the_bootloader_counts_down_and_falls_back(boot: BootControl) -> None:
    boot.write(BootState(order=("b", "a"), tries={"a": 3, "b": 2}))
    store = boot.store if hasattr(boot, "store") else boot.write
    assert [bootloader.choose(boot.read, store) for _ in range(3)] == ["b", "b", "a"]
    assert boot.read().tries == {"a": 2, "b": 0}
