"""GRUB's environment block in two files, as a factory would make it, and GRUB itself (grub-emu) started on it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posagent.config import BootConfig, SlotConfig, SlotsConfig

CFG = Path(__file__).parents[2] / "docs/boot/grub.cfg"
COPIES = ("grubenv", "grubenv2")
FACTORY = ("BOOT_ORDER=a", "BOOT_a_LEFT=3", "BOOT_b_LEFT=0")

KERNEL = """
function linux {
    if [ ! -f "$1" ]; then false; else
        for word in $*; do echo "argument: $word"; done
        for copy in $copies; do
            unset BOOT_a_LEFT
            unset BOOT_b_LEFT
            load_env --skip-sig --file "$copy"
            echo "saved: a=$BOOT_a_LEFT b=$BOOT_b_LEFT"
        done
        halt
    fi
}
"""
"""grub-emu has no `linux`. This one takes over the machine as a kernel does, and tells what is on the disk by then."""


def make_block(path: Path, *words: str) -> None:
    for command in (["create"], ["set", *words]) if words else (["create"],):
        subprocess.run(["grub-editenv", str(path), *command], check=True, capture_output=True)


def make_environment(
    directory: Path, words: tuple[str, ...] = (*FACTORY, "made_by=factory"), **changes: Any
) -> tuple[BootConfig, SlotsConfig]:
    """Two equal copies, and the configuration that belongs to them."""
    for name in COPIES:
        make_block(directory / name, *words)
    cmdline = directory / "cmdline"
    cmdline.write_text("BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz posagent.slot=a quiet\n")
    files = tuple(str(directory / name) for name in COPIES)
    names = {"kind": "grub", "grub_files": files, "cmdline_file": str(cmdline)}
    slots = SlotsConfig(a=SlotConfig(device="/none/a"), b=SlotConfig(device="/none/b"))
    return BootConfig(**{**names, **changes}), slots


def variables(path: Path) -> Mapping[str, str]:
    said = subprocess.run(["grub-editenv", str(path), "list"], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in said.splitlines())


class Started:
    """What GRUB did in one start."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.arguments: list[str] = re.findall(r"argument: (\S+)", said)
        self.saved: list[tuple[str, str]] = re.findall(r"saved: a=(\d*) b=(\d*)", said)

    @property
    def slot(self) -> str:
        """The slot that was started; empty where none was and GRUB restarted the machine."""
        return "".join(word.partition("=")[2] for word in self.arguments if word.startswith("posagent.slot="))


class Machine:
    """A disk with GRUB's directory and a disk for each slot; both copies in `directory` go there and come back."""

    def __init__(self, directory: Path, broken_slots: str = "") -> None:
        self._directory = directory
        self._disks = directory / "disks"
        for slot in "ab":
            tree = self._disks / slot
            (tree / "boot").mkdir(parents=True)
            if slot not in broken_slots:
                (tree / "boot/vmlinuz").write_bytes(b"kernel")
            self._make_disk(f"slot-{slot}", tree)

    def start(self, read_only: bool = False, **changes: str) -> Started:
        """Power on. `changes` are settings of grub.cfg to be changed. GRUB cannot write to a loopback device."""
        boot = self._disks / "boot"
        grub = boot / "boot/grub"
        grub.mkdir(parents=True, exist_ok=True)
        for name in COPIES:
            (grub / name).unlink(missing_ok=True)
            if (self._directory / name).exists():
                (grub / name).write_bytes((self._directory / name).read_bytes())
        text = CFG.read_text(encoding="utf-8")
        for name, value in {"slot_a": "hd1", "slot_b": "hd2", **changes}.items():
            text, count = re.subn(rf"^set {name}=.*$", f"set {name}={value}", text, flags=re.MULTILINE)
            assert count == 1, name
        if read_only:
            text = "loopback inner (hd0)/boot/grub/inner.img\n" + text.replace("$prefix", "(inner)/boot/grub")
            inner = self._make_disk("inner", boot, 1)
            (grub / "inner.img").write_bytes(inner.read_bytes())
        (grub / "grub.cfg").write_text(KERNEL + text, encoding="utf-8")
        disk = self._make_disk("boot", boot)
        devices = self._disks / "device.map"
        devices.write_text(
            "".join(f"(hd{n}) {self._disks}/{name}.img\n" for n, name in enumerate(("boot", "slot-a", "slot-b")))
        )
        done = subprocess.run(
            ["grub-emu", "-m", str(devices), "-r", "hd0", "-d", "/boot/grub"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "TERM": "dumb"},
        )
        for name in COPIES:
            if (self._directory / name).exists():
                dump = ["debugfs", "-R", f"dump /boot/grub/{name} {self._directory / name}", str(disk)]
                subprocess.run(dump, check=True, capture_output=True)
        return Started(done.stdout.decode(errors="replace"))

    def _make_disk(self, name: str, tree: Path, mebibytes: int = 4) -> Path:
        disk = self._disks / f"{name}.img"
        disk.unlink(missing_ok=True)
        with disk.open("wb") as stream:
            stream.truncate(mebibytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-d", str(tree), str(disk)], check=True, capture_output=True)
        return disk
