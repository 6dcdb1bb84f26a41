"""A laptop beside one terminal, at the end of its simulated line, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from posagent.console.access import SessionLimits
from posagent.console.question import Api
from posagent.field.diary import Diary
from posagent.field.link import Terminal
from posagent.field.visit import Plan, Visit
from posagent.sim.fieldline import FieldLine
from posagent.sim.inprocess import InProcessTerminal


class Bench(FieldLine):
    """`out` says whether the cable is out; it is asked after every step of the terminal. The laptop has other things to
    do for `busy_s` before it reads."""

    def __init__(
        self, terminal: InProcessTerminal, *, api: Api | None = None, limits: SessionLimits | None = None
    ) -> None:
        super().__init__(terminal, api=api, limits=limits)
        self.terminal = terminal
        self.out: Callable[[], bool] = lambda: False
        self.busy_s = 0.0
        self.new_diary()

    def new_diary(self) -> None:
        self.diary = Diary("t", "/dev/ttyUSB0", self.time.wall, lambda: None)

    def laptop(self) -> Terminal:
        return Terminal(self.open, clock=self, bytes_per_s=self.bytes_per_s)

    def visit(self, plan: Plan) -> dict[str, Any]:
        """All of it; the record."""
        laptop = self.laptop()
        Visit(laptop, "t", self.diary, plan).run()
        laptop.close()
        return self.diary.record()

    def read(self, timeout_s: float) -> bytes:
        self._live(self.monotonic() + self.busy_s, lambda: False)
        return super().read(timeout_s)

    def _live(self, until: float, reached: Callable[[], bool]) -> None:
        super()._live(until, lambda: self._moved() or reached())

    def _moved(self) -> bool:
        """Whether somebody has just pulled the cable or plugged it in."""
        out = self.out()
        if out == self.plugged:
            (self.pull if out else self.plug_in)()
            return True
        return False
