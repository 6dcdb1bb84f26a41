"""docs/boot/grub.cfg in GRUB itself: what is started, and what is on the disk by the time the kernel is loaded."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from posagent.core.ports import BootState
from posagent.platform.grub import GrubBootControl
from posagent.sim import bootloader
from tests.platform.grub import CFG, COPIES, Machine, make_block, make_environment, variables

pytestmark = pytest.mark.real


def terminal(directory: Path, state: BootState, broken_slots: str = "") -> tuple[GrubBootControl, Machine]:
    boot = GrubBootControl(*make_environment(directory))
    boot.write(state)
    return boot, Machine(directory, broken_slots)


def test_its_syntax_is_grubs() -> None:
    subprocess.run(["grub-script-check", str(CFG)], check=True)


def test_a_try_is_counted_down_and_saved_before_the_kernel_is_loaded(tmp_path: Path) -> None:
    boot, machine = terminal(tmp_path, BootState(order=("b", "a"), tries={"a": 3, "b": 2}))
    started = machine.start()
    assert started.slot == "b" and started.saved[0] == ("3", "1")
    assert started.arguments[:2] == ["/boot/vmlinuz", "root=PARTLABEL=slot-b"]
    assert boot.read() == BootState(order=("b", "a"), tries={"a": 3, "b": 1})


def test_a_trial_that_nobody_confirms_ends_in_the_old_slot(tmp_path: Path) -> None:
    boot, machine = terminal(tmp_path, BootState(order=("b", "a"), tries={"a": 3, "b": 3}))
    assert [machine.start().slot for _ in range(4)] == ["b", "b", "b", "a"]
    assert boot.read().tries == {"a": 2, "b": 0}


def test_when_no_slot_has_a_try_left_those_in_the_order_are_refilled(tmp_path: Path) -> None:
    _, machine = terminal(tmp_path, BootState(order=("b",), tries={"a": 0, "b": 0}))
    started = machine.start(tries_full="5")
    assert "refilled" in started.said and started.slot == "b"
    assert started.saved[0] == ("0", "4"), "slot a is not in the order: it may be half written"


def test_grub_chooses_as_the_simulated_bootloader_does(tmp_path: Path) -> None:
    boot, machine = terminal(tmp_path, BootState(order=("a",), tries={"a": 1, "b": 0}))
    for order, a, b in itertools.product([("a",), ("b", "a"), ("a", "b")], (0, 1, 9), (0, 2)):
        boot.write(BootState(order=order, tries={"a": a, "b": b}))
        slot = bootloader.choose(boot.read, boot.write) or bootloader.choose(boot.read, boot.write)
        expected = boot.read()
        boot.write(BootState(order=order, tries={"a": a, "b": b}))
        assert (machine.start().slot, boot.read()) == (slot, expected), (order, a, b)


@pytest.mark.parametrize("damage", ["empty", "ones", "torn", "without an order", "missing"])
def test_without_the_first_copy_the_second_is_used_and_counted(tmp_path: Path, damage: str) -> None:
    boot, machine = terminal(tmp_path, BootState(order=("b", "a"), tries={"a": 3, "b": 3}))
    spoil(tmp_path / COPIES[0], damage)
    before = (tmp_path / COPIES[0]).read_bytes() if damage != "missing" else None
    assert [machine.start().slot for _ in range(4)] == ["b", "b", "b", "a"]
    assert boot.read() == BootState(order=("b", "a"), tries={"a": 2, "b": 0}), "Linux looks at the same copy"
    if before is not None:
        assert (tmp_path / COPIES[0]).read_bytes() == before


def spoil(path: Path, damage: str) -> None:
    if damage == "without an order":
        make_block(path, "BOOT_a_LEFT=3")
    elif damage == "torn":
        path.write_bytes(path.read_bytes().replace(b"posagent_end=", b"posagent_end=0", 1)[:1024])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"\xff" * 1024)


def test_without_any_copy_the_fallback_is_started_and_else_the_other_slot(tmp_path: Path) -> None:
    _, machine = terminal(tmp_path, BootState(order=("a",), tries={"a": 3, "b": 3}), broken_slots="b")
    for name in COPIES:
        spoil(tmp_path / name, "ones")
    assert machine.start().slot == "a"
    assert machine.start(fallback="b").slot == "a"


def test_a_slot_that_does_not_start_uses_up_its_tries(tmp_path: Path) -> None:
    boot, machine = terminal(tmp_path, BootState(order=("b", "a"), tries={"a": 3, "b": 2}), broken_slots="b")
    assert [machine.start().slot for _ in range(3)] == ["", "", "a"]
    assert boot.read().tries == {"a": 2, "b": 0}


def test_where_nothing_can_be_saved_the_tested_slot_is_started(tmp_path: Path) -> None:
    boot, machine = terminal(tmp_path, BootState(order=("b", "a"), tries={"a": 3, "b": 3}))
    state = boot.read()
    started = machine.start(read_only=True)
    assert "error:" in started.said and started.slot == "a"
    assert boot.read() == state


def test_what_is_not_ours_in_the_block_changes_nothing_in_grub(tmp_path: Path) -> None:
    words = ("BOOT_ORDER=rescue a", "BOOT_a_LEFT=2", "slot_a=hd9", "prefix=(hd9)/x", "fallback=b", "kernel=/etc/passwd")
    boot = GrubBootControl(*make_environment(tmp_path, words))
    assert Machine(tmp_path).start().slot == "a"
    assert boot.read().tries["a"] == 1
    assert variables(tmp_path / COPIES[0])["prefix"] == "(hd9)/x"
