"""What every kind of boot control does alike: variables of the bootloader become slots, and slots variables.

Rules: names are those of the integrator's boot script; names in the order that are not ours (a rescue system) stay
behind ours. A counter that is no sensible number counts as no try. What was written is read back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path

from posagent.config import BootConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.core.ports import BootState

TIMEOUT_S = 30.0
TRIES_MAX = 99
Variables = Mapping[str, str]


class BootVariables(ABC):
    """core.ports.BootControl for a bootloader that keeps order and tries in variables. Raises BootControlError."""

    def __init__(self, boot: BootConfig, slots: SlotsConfig, *, order_variable: str, tries_variable: str) -> None:
        self._boot = boot
        self._names = {"a": slots.a.boot_name or "a", "b": slots.b.boot_name or "b"}
        self._slots = {name: slot for slot, name in self._names.items()}
        self._order_variable = order_variable
        self._tries_variables = {slot: tries_variable.format(slot=name) for slot, name in self._names.items()}

    @abstractmethod
    def _load(self) -> Variables:
        """Every variable there is. Raises `boot_env_missing`."""

    @abstractmethod
    def _store(self, wanted: Variables, present: Variables) -> None:
        """Make `wanted` part of `present`, atomically and durably. Raises `boot_env_write`."""

    def booted(self) -> str:
        """The slot that the kernel's command line names."""
        path, key = self._boot.cmdline_file, self._boot.cmdline_key
        try:
            words = Path(path).read_text(encoding="utf-8", errors="replace").split()
        except OSError as error:
            raise BootControlError("booted_slot_unknown", f"{path}: {error.strerror}") from error
        return self._only_slot({word.partition("=")[2] for word in words if word.startswith(f"{key}=")}, path, key)

    def read(self) -> BootState:
        variables = self._load()
        order = dict.fromkeys(self._slots[name] for name in self._order(variables) if name in self._slots)
        tries = {slot: _tries(variables.get(name, "")) for slot, name in self._tries_variables.items()}
        return BootState(order=tuple(order), tries=tries)

    def write(self, state: BootState) -> None:
        present = self._load()
        foreign = [name for name in self._order(present) if name not in self._slots]
        wanted = {self._order_variable: " ".join([*(self._names[slot] for slot in state.order), *foreign])}
        wanted |= {self._tries_variables[slot]: str(count) for slot, count in state.tries.items()}
        self._store(wanted, present)
        found = self._load()
        if any(found.get(name) != value for name, value in wanted.items()):
            raise BootControlError("boot_env_write", "what was read back is not what was written")

    def _order(self, variables: Variables) -> list[str]:
        return variables.get(self._order_variable, "").split()

    def _only_slot(self, said: Collection[str], where: str, key: str) -> str:
        slots = [self._slots[name] for name in said if name in self._slots]
        if len(said) != 1 or len(slots) != 1:
            raise BootControlError(
                "booted_slot_unknown", f"{where}: {key}= must name one of {', '.join(self._slots)}, once"
            )
        return slots[0]


def pairs(text: bytes) -> list[tuple[str, str]]:
    """Lines of NAME=VALUE, as all the tools print them; bytes that are no UTF-8 come out again as they went in."""
    lines = text.decode(errors="surrogateescape").split("\n")
    return [(name, value) for name, mark, value in (line.partition("=") for line in lines) if mark]


def script(variables: Variables) -> bytes:
    """The same lines, for a tool's standard input."""
    return "".join(f"{name}={value}\n" for name, value in variables.items()).encode(errors="surrogateescape")


def _tries(text: str) -> int:
    return min(int(text), TRIES_MAX) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
