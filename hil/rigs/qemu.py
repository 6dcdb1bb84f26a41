"""The rig in QEMU: a card fresh from the factory for each scenario, bundles made from the built image."""

from __future__ import annotations

from pathlib import Path

from labgrid import Environment

from hil.image import start, variant
from hil.rigs import machine
from hil.rigs.bench import LabgridRig

HOST = "10.0.2.2"


class QemuRig(LabgridRig):
    """hil.terminal.Terminal in QEMU, switched on."""

    def __init__(self, base: Path) -> None:
        target = Environment(str(Path(__file__).parent / "qemu.yaml")).get_target("terminal")
        driver = target.get_driver(machine.VirtualMachineDriver, activate=False)
        driver.folder, driver.card = str(base), str(start.fresh(base / "card.img"))
        super().__init__(base, target, variant.build, HOST)
        self.power_on()
