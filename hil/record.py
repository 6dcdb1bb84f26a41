"""Records what a terminal on a rig shows to posagent: golden fixtures, to which readers and simulator are held.

`python -m hil.record OUT` writes one JSON file: the boot environment, power supplies, what is left of a panic, of a
watchdog's bite and of a power cut, the main console of one start, a session on the field line. It restarts the terminal
several times. The terminal is that in QEMU, or with `--rig FILE` one on a bench; what its rig cannot do is left out.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from hil import network
from hil.laptop import Laptop
from hil.recording import packed
from hil.rigs.bench import NO_ANSWER, BenchRig, LabgridRig
from hil.rigs.qemu import QemuRig
from hil.terminal import NotOnThisRig

STATE_S = 300.0
CONSOLE_LINES_MAX = 400
POWER = {"nearly empty": (4, False), "on the battery": (55, False), "on the charger": (90, True)}
"""The last is what the terminal goes on with."""
RESETS: dict[str, str] = {"panic": "echo c >/proc/sysrq-trigger", "watchdog": "kill -SEGV 1"}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_ID = re.compile(r"[0-9a-f-]{36}")
STORES = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
FILES = ("type", "scope", "online", "status", "capacity")
"""Of each power supply, those that matter to the agent."""
LINES = (
    "status --json",
    "why --json",
    "history --json",
    "update --json",
    "unlock root --json",
    "nonsense --json",
)
UNLOCKED_LINES = ("history --json", "cancel --json", "check nowhere --json", "logout --json")


def record(rig: LabgridRig, folder: Path) -> dict[str, Any]:
    """Everything, as values for JSON. Raises TimeoutError, RuntimeError."""
    rig.wait_state("idle", STATE_S)
    recorded: dict[str, Any] = {"environment": _environment(rig)}
    if rig.transcript is not None:
        recorded["console"] = _console(rig.transcript)
    with contextlib.suppress(NotOnThisRig):
        recorded["power"] = {name: _power(rig, *levels) for name, levels in POWER.items()}
    recorded["starts"] = [_start(rig, cause) for cause in ("power", *RESETS, "power")]
    with contextlib.suppress(NotOnThisRig):
        recorded["field"] = _field(rig, folder)
    return recorded


def _said(rig: LabgridRig, command: str) -> str:
    said, code = rig.run(command)
    if code:
        raise RuntimeError(f"{command}: {code}: {said}")
    return said


def _text(rig: LabgridRig, path: str) -> str:
    return _said(rig, f"cat {path}")


def _bytes(rig: LabgridRig, command: str) -> bytes:
    """What a command writes, whatever it is; noise on the console would be noticed."""
    return gzip.decompress(base64.b64decode(_said(rig, f"{command} | gzip -9 | base64 -w0")))


def _environment(rig: LabgridRig) -> dict[str, Any]:
    """Each copy of the boot environment as it lies on the medium, and what the tool makes of them."""
    config = _text(rig, "/etc/fw_env.config")
    places = [line.split()[:3] for line in config.splitlines() if line.strip() and not line.startswith("#")]
    copies = []
    for device, offset, size in places:
        sectors = f"skip={int(offset, 16) // 512} count={int(size, 16) // 512}"
        copies.append(packed(_bytes(rig, f"dd if={device} bs=512 {sectors} 2>/dev/null")))
    printed = sorted(_said(rig, "fw_printenv").splitlines())
    return {"config": config, "copies": copies, "printed": printed, "cmdline": _text(rig, "/proc/cmdline")}


def _power(rig: LabgridRig, battery_percent: int, charger: bool) -> dict[str, Any]:
    """The files of each power supply, and what the agent makes of them."""
    rig.set_power(battery_percent=battery_percent, charger=charger)
    said, _ = rig.run("cd /sys/class/power_supply; grep -s . " + " ".join(f"*/{name}" for name in FILES))
    files = dict(line.split(":", 1) for line in said.splitlines())
    return {"files": files, "answer": rig.ask("status")["power"]}


def _start(rig: LabgridRig, cause: str) -> dict[str, Any]:
    """What a start finds that this cause made necessary, and what the agent made of it."""
    before = _text(rig, BOOT_ID)
    if cause in RESETS:
        with contextlib.suppress(*NO_ANSWER):  # it dies
            rig.run(RESETS[cause], timeout_s=5)
    else:
        rig.power_cut(0.5)
    _wait_for_another_start(rig, before)
    rig.wait_state("idle", STATE_S)
    names = _said(rig, f"find {' '.join(STORES)} -type f").split()
    return {
        "cause": cause,
        "cmdline": _text(rig, "/proc/cmdline"),
        "boot_id": _text(rig, BOOT_ID),
        "bootstatus": _text(rig, "/sys/class/watchdog/watchdog0/bootstatus"),
        "crash_store": {name: packed(_bytes(rig, f"cat {name}")) for name in names},
        "answer": json.loads(_text(rig, "/var/lib/posagent-installer/reset.json"))["cause"],
    }


def _wait_for_another_start(rig: LabgridRig, before: str) -> None:
    deadline = time.monotonic() + STATE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(*NO_ANSWER):
            said, _ = rig.run(f"cat {BOOT_ID}")
            if _ID.fullmatch(said) and said != before:  # a system that dies says other things between
                return
    raise TimeoutError(f"no restart in {STATE_S:.0f} s")


def _console(transcript: Path) -> list[str]:
    """The main console from U-Boot to the first prompt."""
    lines = transcript.read_bytes().decode(errors="replace").splitlines()
    return [line.rstrip() for line in lines[:CONSOLE_LINES_MAX]]


def _field(rig: LabgridRig, folder: Path) -> list[dict[str, Any]]:
    """Lines that an engineer types, and what is answered."""
    laptop = Laptop(rig.field_line(), rig.engineer_ca(), folder)
    try:
        told = [{"typed": line, "answered": laptop.ask(line), "unlocked": False} for line in LINES]
        laptop.unlock()
        return told + [{"typed": line, "answered": laptop.ask(line), "unlocked": True} for line in UNLOCKED_LINES]
    finally:
        laptop.close()


def _rig(folder: Path, environment: Path | None) -> LabgridRig:
    if environment is not None:
        return BenchRig(folder, environment)
    network.enter()
    return QemuRig(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Record a terminal on a rig.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rig", type=Path, metavar="FILE", help="a labgrid environment; without it, QEMU")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        rig = _rig(Path(folder), given.rig)
        try:
            recorded = record(rig, Path(folder))
        finally:
            rig.close()
    given.out.write_text(json.dumps(recorded, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
