"""The rig in QEMU: a card fresh from the factory for each scenario, bundles made from the built image."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from labgrid import Environment

from hil.image import power, start, variant
from hil.machine import Machine
from hil.rigs import machine
from hil.rigs.bench import LabgridRig

HOST = "10.0.2.2"
PAYMENT = "/opt/pos/ask"


class QemuRig(LabgridRig):
    """hil.terminal.Terminal in QEMU, switched on."""

    def __init__(self, base: Path) -> None:
        target = Environment(str(Path(__file__).parent / "qemu.yaml")).get_target("terminal")
        driver = target.get_driver(machine.VirtualMachineDriver, activate=False)
        self._machine = driver.machine = Machine(start.fresh(base / "card.img"), base)
        self.transcript = self._machine.transcript
        # A delta is enough here; packing a whole payload as well would keep both cores busy at every scenario's start.
        bundles = functools.partial(variant.build, whole=False)
        super().__init__(base, target, bundles, variant.build_parameters, HOST, PAYMENT)
        self.power_on()

    def set_power(self, *, battery_percent: int, charger: bool) -> None:
        said, code = self.run(power.command(battery_percent, charger))
        if code:
            raise RuntimeError(f"the battery was not set: {code}: {said}")

    def set_clock_offset(self, seconds: int) -> None:
        self._machine.clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + seconds))

    def field_line(self) -> str:
        return self._machine.field

    def engineer_ca(self) -> Path:
        return start.BUILT / "keys/engineer-ca"
