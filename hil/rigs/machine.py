"""The virtual terminal as labgrid sees it: a driver with a power switch and a console."""

from __future__ import annotations

from typing import Any

import attr
from labgrid.driver import Driver
from labgrid.driver.consoleexpectmixin import ConsoleExpectMixin
from labgrid.factory import target_factory
from labgrid.protocol import ConsoleProtocol, PowerProtocol
from pexpect import TIMEOUT

from hil.machine import Machine


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualMachineDriver(ConsoleExpectMixin, Driver, PowerProtocol, ConsoleProtocol):  # type: ignore[misc]
    txdelay: float = attr.ib(default=0.0)

    machine: Machine
    """Set before it is switched on."""

    def on_deactivate(self) -> None:
        self.off()

    def on(self) -> None:
        self.machine.on()

    def off(self) -> None:
        self.machine.off()

    def cycle(self) -> None:
        self.off()
        self.on()

    # labgrid's console

    def _read(self, size: int = 1, timeout: float = 0.0, max_size: int | None = None) -> bytes:
        try:
            data = self.machine.read(timeout, max_size or max(size, 4096))
        except OSError as error:
            raise TIMEOUT(str(error)) from None
        if not data:
            raise TIMEOUT(f"nothing in {timeout:.1f} s")
        return data

    def _write(self, data: bytes) -> Any:
        try:
            self.machine.write(data)
        except OSError as error:
            raise TIMEOUT(str(error)) from None
        return len(data)
