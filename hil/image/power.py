"""The virtual terminal's battery and chargers: what the root shell does to set the kernel's fake power supply."""

from __future__ import annotations

import shlex

SUPPLY = "test_power"
"""The kernel module that stands for battery and chargers; without power it forgets what it was told."""


def command(battery_percent: int, charger: bool) -> str:
    """For the root shell: what the fake supply shows now, and, by the kernel's command line, after the next start."""
    online, status = ("on", "charging") if charger else ("off", "discharging")
    values = {"battery_capacity": battery_percent, "ac_online": online, "usb_online": online, "battery_status": status}
    now = [f"echo {value} >/sys/module/{SUPPLY}/parameters/{name}" for name, value in values.items()]
    later = " ".join(f"{SUPPLY}.{name}={value}" for name, value in values.items())
    return " && ".join([*now, f"fw_setenv hil_power {shlex.quote(later)}"])
