"""What a check is given: the configuration, the board, and the agent's own ports to boot control and records.

Rules: everything a check asks goes through here, so that a test can give it another board. Questions that several
checks ask are answered here, or raise `CannotTell`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from posagent.config import Config
from posagent.core.errors import BootControlError, PosagentError
from posagent.core.ports import BootControl, BootState, Clock, Files, Resets
from posagent.doctor.findings import CannotTell
from posagent.platform.board import LinuxBoard
from posagent.platform.commands import CommandFailed

SLOTS = ("a", "b")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)")
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "month": 2.6e6, "y": 3.2e7}


class Record(Protocol):
    """installer.slots.SlotRecord, as far as checks look at it."""

    @property
    def state(self) -> str: ...

    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One board. `ask` asks the agent for its status, `records` the installer's slot records; `read_root` and
    `read_authorities` parse what trust begins with. All of them raise PosagentError."""

    config: Config
    board: LinuxBoard
    boot: BootControl
    files: Files
    clock: Clock
    resets: Resets
    ask: Callable[[], Mapping[str, Any]]
    records: Callable[[], Mapping[str, Record]]
    running_version: str
    read_root: Callable[[bytes], None]
    read_authorities: Callable[[bytes], int]

    # slots and boot control

    def device(self, slot: str) -> str:
        return self.config.slots.a.device if slot == "a" else self.config.slots.b.device

    def boot_name(self, slot: str) -> str:
        given = self.config.slots.a.boot_name if slot == "a" else self.config.slots.b.boot_name
        return given or slot

    def booted(self) -> str:
        try:
            return self.boot.booted()
        except BootControlError as error:
            raise CannotTell(f"the running slot is not known: {error.detail}") from None

    def spare(self) -> str:
        return SLOTS[1 - SLOTS.index(self.booted())]

    def boot_state(self) -> BootState:
        try:
            return self.boot.read()
        except BootControlError as error:
            raise CannotTell(f"the boot environment cannot be read: {error.detail}") from None

    def stored_records(self) -> Mapping[str, Record] | None:
        """What the installer has recorded; None on a board where it never recorded anything."""
        if self.files.size(f"{self.config.terminal.installer_dir}/slots.json") is None:
            return None
        try:
            return self.records()
        except PosagentError as error:
            raise CannotTell(error.detail) from None

    # the agent

    def agent_state(self) -> str | None:
        """What the agent says it does; None where it does not run. Raises CannotTell where it does not answer."""
        try:
            status = self.ask()
        except PosagentError as error:
            if self.agent_runs():
                raise CannotTell(f"the agent runs and does not answer: {error.detail}") from None
            return None
        if status.get("booted") is None:
            return "looking"  # it has just started
        return str(status.get("state"))

    def agent_pids(self) -> set[int]:
        """Whoever has the agent's lock open; only root sees it of others."""
        lock = self.board.real(f"{self.config.terminal.state_dir}/agent.lock")
        return {holder.pid for holder in self.board.holders({lock})}

    def agent_runs(self) -> bool:
        return bool(self.agent_pids()) or (
            self.has_systemd()
            and self.shown("posagentd.service", "ActiveState")["ActiveState"] not in ("inactive", "failed")
        )

    def unrest(self) -> str:
        """Why nothing may be written or restarted now; empty where all is quiet. Raises CannotTell, OSError."""
        state = self.agent_state()
        if state is not None:
            return "" if state == "idle" else f"the agent's state is {state}"
        directory = self.config.terminal.installer_dir
        trials = [slot for slot in SLOTS if self.files.size(f"{directory}/trial-{slot}") is not None]
        if trials:
            return f"slot {trials[0]} is on trial"
        writing = [slot for slot, record in (self.stored_records() or {}).items() if record.state == "writing"]
        if writing:
            return f"slot {writing[0]} is half written"
        if self.boot_state().order[:1] != (self.booted(),):
            return "another slot than the running one is first in the boot order"
        return ""

    # systemd

    def has_systemd(self) -> bool:
        found = self.board.about(self.board.system("/run/systemd/system"))
        return found is not None and found.kind == "directory"

    def need_systemd(self) -> None:
        if not self.has_systemd():
            raise CannotTell("systemd does not run here")

    def shown(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, of the manager where `unit` is empty."""
        command = ["systemctl", "show", "--no-pager", f"--property={','.join(names)}", *([unit] if unit else [])]
        try:
            text = self.board.run(command)
        except CommandFailed as error:
            raise CannotTell(str(error)) from None
        pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return {name: pairs.get(name, "") for name in names}

    def unit_text(self, unit: str) -> str:
        """A unit with its drop-ins; empty where it is not installed."""
        try:
            return self.board.run(["systemctl", "cat", "--no-pager", unit])
        except CommandFailed:
            return ""

    def settings(self, unit: str, key: str) -> list[str]:
        """The values of a key in a unit's files, in order."""
        lines = [line.strip() for line in self.unit_text(unit).splitlines()]
        return [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == key]

    def boot_id(self) -> str:
        return (self.board.text(self.config.boot.boot_id_file) or "").strip()


def span_s(text: str) -> float:
    """Seconds in a time as systemd shows it: `1min 30s`, `0`, `infinity` (0: no limit is no watchdog)."""
    return sum(float(count) * _UNIT_S[unit] for count, unit in _SPAN.findall(text.replace(" ", "")))
