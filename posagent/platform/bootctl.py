"""The U-Boot environment through the real fw_printenv and fw_setenv: which slot is tried next, and how often.

Rules: order and tries go out in one `fw_setenv` script. libubootenv then writes the copy that is not in use, with a
higher counter, and syncs it: with two copies this is atomic, with one it is not, so one copy is refused. What was
written is read back. Variables are those of RAUC's U-Boot scripts unless configured otherwise; names in the order that
are not ours (a rescue system) stay behind ours.
Source: libubootenv 0.3.2, fw_setenv -s: lines of NAME=VALUE, `/dev/stdin` works, `-` does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posagent.config import BootConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.core.ports import BootState
from posagent.platform.commands import CommandFailed, run

TIMEOUT_S = 30.0
ENV_BYTES_MAX = 1 << 20
TRIES_MAX = 99


class UbootBootControl:
    """core.ports.BootControl. Raises BootControlError."""

    def __init__(self, boot: BootConfig, slots: SlotsConfig) -> None:
        self._boot = boot
        self._names = {"a": slots.a.boot_name or "a", "b": slots.b.boot_name or "b"}
        self._slots = {name: slot for slot, name in self._names.items()}

    def booted(self) -> str:
        path, key = self._boot.cmdline_file, self._boot.cmdline_key
        try:
            words = Path(path).read_text(encoding="utf-8", errors="replace").split()
        except OSError as error:
            raise BootControlError("booted_slot_unknown", f"{path}: {error.strerror}") from error
        said = {word.partition("=")[2] for word in words if word.startswith(f"{key}=")}
        slots = {self._slots[name] for name in said if name in self._slots}
        if len(said) != 1 or len(slots) != 1:
            raise BootControlError(
                "booted_slot_unknown", f"{path}: {key}= must name one of {', '.join(self._slots)}, once"
            )
        return slots.pop()

    def read(self) -> BootState:
        variables = self._read()
        order = dict.fromkeys(self._slots[name] for name in self._order(variables) if name in self._slots)
        tries = {slot: _tries(variables.get(self._tries_variable(slot), "")) for slot in self._names}
        return BootState(order=tuple(order), tries=tries)

    def write(self, state: BootState) -> None:
        foreign = [name for name in self._order(self._read()) if name not in self._slots]
        wanted = {self._boot.order_variable: " ".join([*(self._names[slot] for slot in state.order), *foreign])}
        wanted |= {self._tries_variable(slot): str(count) for slot, count in state.tries.items()}
        script = "".join(f"{name}={value}\n" for name, value in wanted.items())
        command = [self._boot.fw_setenv, "-c", self._boot.env_config, "-s", "/dev/stdin"]
        try:
            run(command, timeout_s=TIMEOUT_S, stdin=script.encode())
        except CommandFailed as error:
            raise BootControlError("boot_env_write", str(error)) from None
        found = self._read()
        if any(found.get(name) != value for name, value in wanted.items()):
            raise BootControlError("boot_env_write", "what was read back is not what was written")

    def _order(self, variables: Mapping[str, str]) -> list[str]:
        return variables.get(self._boot.order_variable, "").split()

    def _tries_variable(self, slot: str) -> str:
        return self._boot.tries_variable.format(slot=self._names[slot])

    def _read(self) -> dict[str, str]:
        """Every variable of the environment."""
        self._check_redundant()
        command = [self._boot.fw_printenv, "-c", self._boot.env_config]
        try:
            text = run(command, timeout_s=TIMEOUT_S, output_bytes_max=ENV_BYTES_MAX).decode(errors="replace")
        except CommandFailed as error:
            raise BootControlError("boot_env_missing", str(error)) from None
        return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}

    def _check_redundant(self) -> None:
        """The tools take two lines of the configuration as the two copies (fw_env.config)."""
        path = self._boot.env_config
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BootControlError("boot_env_missing", f"{path}: {error}") from error
        copies = {tuple(line.split()[:2]) for line in lines if line.strip() and not line.lstrip().startswith("#")}
        if self._boot.require_redundant_env and len(copies) < 2:
            raise BootControlError("boot_env_not_redundant", f"{path} names {len(copies)} place(s), needs 2")


def _tries(text: str) -> int:
    """A counter as U-Boot keeps it; what is no sensible number counts as no try."""
    return min(int(text), TRIES_MAX) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
