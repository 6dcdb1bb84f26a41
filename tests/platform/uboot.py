"""A U-Boot environment in a file, as a factory would make it, for tests that use the real tools."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from posagent.config import BootConfig, SlotConfig, SlotsConfig

ENV_SIZE = 0x2000


def make_environment(
    directory: Path, text: str = "BOOT_ORDER=a\nBOOT_a_LEFT=3\nBOOT_b_LEFT=0\n", **changes: Any
) -> tuple[BootConfig, SlotsConfig]:
    """A redundant environment holding the lines of `text`, and the configuration that belongs to it."""
    env, places, cmdline = directory / "uboot.env", directory / "fw_env.config", directory / "cmdline"
    env.write_bytes(b"\xff" * 2 * ENV_SIZE)
    places.write_text(f"# file offset size\n{env} 0x0 {ENV_SIZE:#x}\n{env} {ENV_SIZE:#x} {ENV_SIZE:#x}\n")
    defaults = directory / "defaults"
    defaults.write_text(text)
    for _ in range(2):  # once for each copy
        command = ["fw_setenv", "-c", str(places), "-f", str(defaults), "made_by", "factory"]
        subprocess.run(command, check=True, capture_output=True)
    cmdline.write_text("console=ttyS0 posagent.slot=a quiet\n")
    names = {"env_config": str(places), "cmdline_file": str(cmdline)}
    slots = SlotsConfig(a=SlotConfig(device="/none/a"), b=SlotConfig(device="/none/b"))
    return BootConfig(**{**names, **changes}), slots
