"""What runs here: the boot control that is configured, and the version of the running image."""

from __future__ import annotations

from pathlib import Path

from posagent.config import BootConfig, SlotsConfig
from posagent.core.ports import BootControl

OS_RELEASE_BYTES_MAX = 1 << 16


def boot_control(boot: BootConfig, slots: SlotsConfig) -> BootControl:
    """Only the one that is configured is imported."""
    if boot.kind == "grub":
        from posagent.platform.grub import GrubBootControl

        return GrubBootControl(boot, slots)
    if boot.kind == "custom":
        from posagent.platform.vendor import VendorBootControl

        return VendorBootControl(boot, slots)
    from posagent.platform.uboot import UbootBootControl

    return UbootBootControl(boot, slots)


def running_version(path: str) -> str:
    """What os-release says of the running system: IMAGE_VERSION, else VERSION_ID, else nothing (os-release(5))."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as stream:
            lines = stream.read(OS_RELEASE_BYTES_MAX).splitlines()
    except OSError:
        return ""
    fields = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return fields.get("IMAGE_VERSION") or fields.get("VERSION_ID", "")
