"""A field engineer's visit: a whole terminal, its noisy or quiet line in virtual time, and the laptop's real link."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posagent.console.access import SessionLimits
from posagent.console.question import Api
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Worker
from posagent.field.link import Terminal
from posagent.sim.fieldline import FieldLine, Noise
from posagent.sim.inprocess import InProcessTerminal
from tests.console.engineers import sign


class Visit:
    """`laptop` is plugged into `terminal` by `line`; `states` is what it told of the line."""

    def __init__(
        self,
        terminal: InProcessTerminal,
        certificates: Mapping[str, Path],
        *,
        noise: Noise | None = None,
        seed: int = 0,
        baud: int = 115200,
        limits: SessionLimits | None = None,
        engineer: Worker | None = None,
        api: Callable[[InProcessTerminal], Api] | None = None,
    ) -> None:
        self.terminal = terminal
        self.states: list[str] = []
        self._certificates = certificates
        self.line = FieldLine(
            terminal,
            noise=noise,
            seed=seed,
            baud=baud,
            limits=limits,
            engineer=engineer,
            api=api(terminal) if api is not None else None,
        )
        self.laptop = self.another_laptop()

    def another_laptop(self, **how: Any) -> Terminal:
        """One more, on the same line."""
        return Terminal(
            self.line.open, clock=self.line, on_state=self.states.append, bytes_per_s=self.line.bytes_per_s, **how
        )

    def sign(self, who: str = "update") -> Callable[[str], str]:
        return lambda challenge: sign(self._certificates[who], challenge)

    def unlock(self, role: str = "update", laptop: Terminal | None = None) -> dict[str, Any]:
        return (laptop or self.laptop).unlock(role, self.sign(role))

    def code(self, verb: str, laptop: Terminal | None = None, **args: Any) -> str:
        """The code of the error that the verb is answered with; empty where it is not."""
        try:
            (laptop or self.laptop).call(verb, args)
        except PosagentError as error:
            return error.code
        return ""

    def locked(self) -> bool:
        return self.line.console.access.session is None

    def human(self, text: str) -> str:
        """What the screen of a terminal program shows for that."""
        end = self.line.open()
        end.write(text.encode())
        shown = b""
        while data := end.read(1.0):
            shown += data
        return shown.decode("utf-8", "replace")

    def run_until(self, state: State) -> None:
        """Let the terminal get so far, with the line alive."""
        for _ in range(20_000):
            if self.terminal.state is state:
                return
            self.line.sleep(0.01)
        raise AssertionError(f"{state} not reached, in {self.terminal.state}")
