"""The U-Boot environment through the real fw_printenv and fw_setenv: which slot is tried next, and how often.

Rules: order and tries go out in one `fw_setenv` script. libubootenv then writes the copy that is not in use, with a
higher counter, and syncs it: with two copies this is atomic, with one it is not, so one copy is refused. Variables are
those of RAUC's U-Boot scripts unless configured otherwise.
Source: libubootenv 0.3.2, fw_setenv -s: lines of NAME=VALUE, `/dev/stdin` works, `-` does not.
"""

from __future__ import annotations

from pathlib import Path

from posagent.config import BootConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.platform.bootctl import TIMEOUT_S, BootVariables, Variables, pairs, script
from posagent.platform.commands import CommandFailed, run

ENV_BYTES_MAX = 1 << 20


class UbootBootControl(BootVariables):
    """core.ports.BootControl. Raises BootControlError."""

    def __init__(self, boot: BootConfig, slots: SlotsConfig) -> None:
        super().__init__(boot, slots, order_variable=boot.order_variable, tries_variable=boot.tries_variable)

    def _load(self) -> Variables:
        self._check_redundant()
        command = [self._boot.fw_printenv, "-c", self._boot.env_config]
        try:
            return dict(pairs(run(command, timeout_s=TIMEOUT_S, output_bytes_max=ENV_BYTES_MAX)))
        except CommandFailed as error:
            raise BootControlError("boot_env_missing", str(error)) from None

    def _store(self, wanted: Variables, present: Variables) -> None:
        command = [self._boot.fw_setenv, "-c", self._boot.env_config, "-s", "/dev/stdin"]
        try:
            run(command, timeout_s=TIMEOUT_S, stdin=script(wanted))
        except CommandFailed as error:
            raise BootControlError("boot_env_write", str(error)) from None

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
