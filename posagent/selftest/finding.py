"""What a check found, what it was given to compare with, and how it looks at the machine.

Rules: a failure names its measure, the value found, the limit, and in words what was wrong. What the agent hands over
is taken apart with suspicion: nonsense is a refusal, never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from posagent.config import CheckConfig
from posagent.core.errors import Refusal

Value = float | str
FIGURES_MAX = 64
TEXT_CHARACTERS_MAX = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Passed where nothing is `wrong`; then `note` has what a person should know all the same. Units are part of the
    name of the `measure`."""

    wrong: str = ""
    note: str = ""
    measure: str = ""
    value: Value = ""
    limit: Value = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotProof:
    """What the installer knows of the running slot; both digests are empty where no update has written it."""

    expected: str
    found: str
    approved: Mapping[str, str]

    @property
    def known(self) -> bool:
        return self.expected != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """By the agent: figures of the old version, and the installer's proof, None where nobody asked for it."""

    baseline: Mapping[str, float] = field(default_factory=dict)
    slot: SlotProof | None = None


def given_of(args: Mapping[str, Any]) -> Given:
    """`{baseline?, slot?}` of the verb `run`. Raises Refusal `bad_request`."""
    baseline, slot = args.get("baseline", {}), args.get("slot")
    try:
        figures = {str(name): _figure(value) for name, value in dict(baseline).items()}
        if len(figures) > FIGURES_MAX:
            raise ValueError
        proof = None if slot is None else _proof(slot)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Refusal("bad_request", "baseline and slot are not understood") from None
    return Given(baseline=figures, slot=proof)


def _figure(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError
    return float(value)  # type: ignore[arg-type]


def _proof(slot: Mapping[str, Any]) -> SlotProof:
    approved = slot["approved"]
    texts = [slot["expected"], slot["found"], *approved.keys(), *approved.values()]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return SlotProof(expected=slot["expected"], found=slot["found"], approved=dict(approved))


class Unmeasured(Exception):
    """There is no figure, and why."""


class System(Protocol):
    """The machine, as checks look at it. Each raises OSError; its strerror says what was wrong."""

    def monotonic(self) -> float: ...

    def text(self, path: str) -> str:
        """The beginning of a small file."""

    def processes(self) -> set[str]:
        """Names of all that run, as the kernel has them (at most 15 characters)."""

    def about(self, path: str) -> tuple[int, str]:
        """Permission bits and the owner's name; a link's own, not its target's."""

    def output(self, command: Sequence[str], timeout_s: float, stdin: bytes = b"") -> str:
        """What it writes to its standard output, when it ends with 0."""

    def exchange(self, path: str, host: str, port: int, line: bytes, timeout_s: float) -> str:
        """One line sent to the local socket at `path`, or to a port, and the line that comes back."""

    def handshake(
        self, device: str, baud: int, send: bytes, enough: Callable[[bytes], bool], timeout_s: float
    ) -> bytes:
        """What comes back over a serial line, until it is enough or the time is over."""

    def write_s(self, directory: str, size: int) -> float:
        """Seconds in which so many bytes are written there, durably."""


Look = Callable[[CheckConfig, Given, float], Finding]
"""A check, what it may compare with, and its time-out in seconds."""


def trouble(error: OSError) -> str:
    """In words."""
    where = f"{error.filename}: " if error.filename else ""
    return where + (error.strerror or str(error))


def shortened(text: str) -> str:
    text = text.strip()
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}…"
