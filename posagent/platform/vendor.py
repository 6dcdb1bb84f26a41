"""A vendor's own bootloader behind one program, `boot.custom_command`, that is called with one more word.

    get     prints the lines `booted=a`, `order=b a`, `tries_a=3`, `tries_b=0`; other lines are ignored
    set     reads the same lines from its standard input, without `booted`: always all of them

It ends with 0, or with another code and the reason on its standard error. It has 30 s, and 64 KiB to say. What `set`
has done must be atomic and durable when it ends; we can only read it back.
"""

from __future__ import annotations

from posagent.config import BootConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.platform.bootctl import TIMEOUT_S, BootVariables, Variables, pairs, script
from posagent.platform.commands import CommandFailed, run

BOOTED, ORDER, TRIES = "booted", "order", "tries_{slot}"


class VendorBootControl(BootVariables):
    """core.ports.BootControl. Raises BootControlError."""

    def __init__(self, boot: BootConfig, slots: SlotsConfig) -> None:
        super().__init__(boot, slots, order_variable=ORDER, tries_variable=TRIES)

    def booted(self) -> str:
        said = {value for name, value in self._get("booted_slot_unknown") if name == BOOTED}
        return self._only_slot(said, f"{self._boot.custom_command[0]} get", BOOTED)

    def _load(self) -> Variables:
        variables = dict(self._get("boot_env_missing"))
        if ORDER not in variables:
            raise BootControlError("boot_env_missing", f"{self._boot.custom_command[0]} get: says no {ORDER}=")
        return {name: value for name, value in variables.items() if name in (ORDER, *self._tries_variables.values())}

    def _store(self, wanted: Variables, present: Variables) -> None:
        try:
            run([*self._boot.custom_command, "set"], timeout_s=TIMEOUT_S, stdin=script({**present, **wanted}))
        except CommandFailed as error:
            raise BootControlError("boot_env_write", str(error)) from None

    def _get(self, code: str) -> list[tuple[str, str]]:
        try:
            return pairs(run([*self._boot.custom_command, "get"], timeout_s=TIMEOUT_S))
        except CommandFailed as error:
            raise BootControlError(code, str(error)) from None
