"""The watchdog: the service manager's (sd_notify) and, where configured, the hardware device itself.

Rules: whoever calls `pet` has just made sure that work goes on; there is no thread and no timer here. The device is
closed without the magic character, so a dead agent is followed by a reset.
Source: sd_notify(3); Linux Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from posagent.core.errors import PosagentError

WDIOC_SETTIMEOUT = 0xC0045706
INTERVAL_S_MAX = 20.0


class SystemWatchdog:
    """core.ports.Watchdog. Raises PosagentError `config_bad_value` when the configured device cannot be opened."""

    def __init__(self, *, systemd: bool, device: str = "", device_timeout_s: int = 60) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "") if systemd else ""
        self._device = -1
        intervals = []
        if self._address and os.environ.get("WATCHDOG_USEC", "").isdigit():
            intervals.append(int(os.environ["WATCHDOG_USEC"]) / 1e6 / 3)
        if device:
            self._device = self._open(device, device_timeout_s)
            intervals.append(device_timeout_s / 3)
        self.interval_s: float | None = min([*intervals, INTERVAL_S_MAX]) if intervals else None

    def _open(self, device: str, timeout_s: int) -> int:
        try:
            descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise PosagentError("config_bad_value", f"watchdog.device {device}: {error.strerror}") from error
        try:
            fcntl.ioctl(descriptor, WDIOC_SETTIMEOUT, struct.pack("i", timeout_s))
        except OSError:
            pass  # a driver with a fixed time-out; it is petted often enough for 60 s
        return descriptor

    def _notify(self, text: bytes) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            try:
                notify.sendto(text, address)
            except OSError:
                pass  # the manager is gone; it will notice that we are not petting

    def ready(self) -> None:
        self._notify(b"READY=1")

    def pet(self) -> None:
        self._notify(b"WATCHDOG=1")
        if self._device >= 0:
            try:
                os.write(self._device, b"\0")
            except BlockingIOError:
                pass
