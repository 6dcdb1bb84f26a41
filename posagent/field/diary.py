"""What happens at one terminal during a visit: written down by its thread, looked at by the screen, kept by the report.

Owns: the phases and their seconds, the gates that were waited for, the times the cable was out, the problems.
Rules: time is the laptop's and comes in as `clock`; everything is bounded, however long a visit lasts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from posagent import texts
from posagent.core.errors import PosagentError
from posagent.core.words import State

NOTES_MAX = 50
PROBLEMS_MAX = 20
GATES_MAX = 16
TOUCH = "touch"
"""The note that the engineer's key waits for a finger."""


class Stage(StrEnum):
    """What the laptop does at a terminal; while an update runs there, the stage is the update's own state."""

    LOOKING = "looking"
    UNLOCKING = "unlocking"
    ASSESSING = "assessing"
    SENDING = "sending"
    DONE = "done"


class Ending(StrEnum):
    """How a visit to a terminal ended, besides the outcomes of an update."""

    CURRENT = "current"  # it runs that version already
    REFUSED = "refused"  # the terminal did not begin
    LEFT = "left"  # it went on when the engineer left
    LOST = "lost"  # it did not answer any more


GOOD = frozenset({"committed", Ending.CURRENT.value})

_STATES = frozenset(state.value for state in State)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One terminal as the screen shows it now. `part` is 0 to 1, or None where nothing is counted."""

    port: str
    terminal: str
    before: str
    wanted: str
    stage: str
    ending: str = ""
    part: float | None = None
    left_s: float | None = None
    pulled: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""
    support_code: str = ""

    @property
    def ended(self) -> bool:
        return bool(self.ending)


class Diary:
    """Of one terminal. `clock` gives seconds since 1970."""

    def __init__(self, terminal: str, port: str, clock: Callable[[], float], on_change: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._on_change = on_change
        self._terminal = terminal
        self._ports = [port]
        self._started_at = clock()
        self._ended_at: float | None = None
        self._stage, self._since = Stage.LOOKING.value, self._started_at
        self._phases: dict[str, float] = {}
        self._gates: dict[str, dict[str, Any]] = {}
        self._problems: list[dict[str, Any]] = []
        self._notes: deque[str] = deque(maxlen=NOTES_MAX)
        self._pulled_at: float | None = None
        self._pulls: list[float] = []
        self._status: Mapping[str, Any] = {}
        self._waits: tuple[str, float] | None = None
        self._sent = (0, 0)
        self._sending_s = 0.0
        self._refetched = 0
        self._kept: dict[str, Any] = {"before": "", "after": "", "wanted": ""}
        self._end: dict[str, str] = {"outcome": "", "code": "", "detail": ""}
        self._support: dict[str, str] = {}

    # what its thread writes

    def enter(self, stage: str) -> None:
        """From now on this is done; the seconds so far count for what was done before."""
        with self._lock:
            now = self._clock()
            self._phases[self._stage] = self._phases.get(self._stage, 0.0) + now - self._since
            changed, self._stage, self._since = stage != self._stage, stage, now
            if changed:
                self._notes.append(stage)
        self._on_change()

    def note(self, text: str) -> None:
        with self._lock:
            self._notes.append(text[:200])
        self._on_change()

    def versions(self, **known: str) -> None:
        """`before`, `after`, `wanted`, as far as they are known now."""
        with self._lock:
            self._kept |= known
        self._on_change()

    def status(self, status: Mapping[str, Any]) -> None:
        """A status of the terminal. While an update runs there, its state is the stage."""
        with self._lock:
            self._status = status
            update = status.get("update")
            if update is not None:
                self._refetched = max(self._refetched, int(update.get("bytes_refetched") or 0))
                self._kept["wanted"] = self._kept["wanted"] or str(update.get("version") or "")
            self._wait_for(texts.closed_gate(status) if update is not None else None)
        if update is not None and status["state"] != self._stage:
            self.enter(str(status["state"]))
        self._on_change()

    def sent(self, done: int, total: int, left_s: float) -> None:
        """So many bytes of the bundle are there; the rest will take about so long."""
        with self._lock:
            self._sent, self._sending_s = (done, total), left_s
        self._on_change()

    def problem(self, error: PosagentError) -> None:
        with self._lock:
            if len(self._problems) < PROBLEMS_MAX:
                self._problems.append({"code": error.code, "detail": error.detail, "remedy": error.spec.remedy})
            self._notes.append(f"{error.detail} [{error.code}]"[:200])
        self._on_change()

    def pulled(self) -> None:
        """The cable is out."""
        with self._lock:
            if self._pulled_at is not None:
                return
            self._pulled_at = self._clock()
            self._notes.append("pulled")
        self._on_change()

    def plugged(self, port: str) -> None:
        """A line to the terminal is open, perhaps under another name than before."""
        with self._lock:
            if port != self._ports[-1]:
                self._ports.append(port)
            if self._pulled_at is not None:
                self._pulls.append(self._clock() - self._pulled_at)
                self._pulled_at = None
                self._notes.append("plugged")
        self._on_change()

    def support(self, **made: str) -> None:
        """A support bundle's `code` and, where it was fetched, `file`."""
        with self._lock:
            self._support |= made
        self._on_change()

    def end(self, outcome: str, code: str = "ok", detail: str = "") -> None:
        with self._lock:
            if self._end["outcome"]:
                return
            self._wait_for(None)
            self.enter(Stage.DONE.value)
            self._ended_at = self._since
            self._end = {"outcome": outcome, "code": code, "detail": detail}
            self._notes.append(outcome)
        self._on_change()

    def _wait_for(self, gate: Mapping[str, Any] | None) -> None:
        """Closed gates are remembered with the seconds they were waited for."""
        now = self._clock()
        if self._waits is not None:
            name, since = self._waits
            self._gates[name]["seconds"] = round(self._gates[name]["seconds"] + now - since, 1)
        self._waits = None
        if gate is not None and (str(gate["gate"]) in self._gates or len(self._gates) < GATES_MAX):
            name = str(gate["gate"])
            told = {key: str(gate.get(key, "")) for key in ("reason", "reason_zh", "remedy", "remedy_zh")}
            self._gates[name] = {"gate": name, **told, "seconds": self._gates.get(name, {}).get("seconds", 0.0)}
            self._waits = (name, now)

    # what others see

    @property
    def ended(self) -> bool:
        return bool(self._end["outcome"])

    def row(self) -> Row:
        with self._lock:
            part, left_s = self._part()
            return Row(
                port=self._ports[-1],
                terminal=self._terminal,
                before=self._kept["before"],
                wanted=self._kept["after"] if self.ended and self._kept["after"] else self._kept["wanted"],
                stage=self._stage,
                ending=self._end["outcome"],
                part=part,
                left_s=left_s,
                pulled=self._pulled_at is not None,
                status=self._status,
                notes=tuple(self._notes),
                code=self._end["code"],
                detail=self._end["detail"],
                support_code=self._support.get("code", ""),
            )

    def _part(self) -> tuple[float | None, float | None]:
        """How much of the present stage is done, and the seconds left of all that is ahead."""
        if self.ended:
            return None, None
        if self._stage == Stage.SENDING:
            done, total = self._sent
            return (done / total if total else None), self._sending_s
        update, estimate = self._status.get("update"), self._status.get("estimate")
        if update is None or self._stage not in _STATES:
            return None, None
        total = int(update.get("bytes_total") or 0)
        part = min(1.0, update["bytes_done"] / total) if total else None
        left_s = self._status.get("expected_s") or (estimate["total"]["p50"] if estimate else None)
        return part, left_s

    def record(self) -> dict[str, Any]:
        """The terminal's part of the visit report; docs/field.md has its shape."""
        with self._lock:
            phases = {**self._phases}
            if not self.ended:
                phases[self._stage] = phases.get(self._stage, 0.0) + self._clock() - self._since
            return {
                "terminal": self._terminal,
                "ports": list(self._ports),
                "before": self._kept["before"],
                "after": self._kept["after"],
                "wanted": self._kept["wanted"],
                **(self._end if self.ended else {**self._end, "outcome": Ending.LEFT.value}),
                "started_at": round(self._started_at, 1),
                "ended_at": None if self._ended_at is None else round(self._ended_at, 1),
                "phases": [{"phase": name, "seconds": round(s, 1)} for name, s in phases.items() if name != Stage.DONE],
                "bytes_sent": self._sent[0],
                "bytes_refetched": self._refetched,
                "gates": [dict(gate) for gate in self._gates.values()],
                "problems": [dict(problem) for problem in self._problems],
                "pulled": {"times": len(self._pulls), "seconds": round(sum(self._pulls), 1)},
                "support": dict(self._support),
            }
