"""One laptop says goodbye and the next one calls in the same breath: the agent answers the second."""

from __future__ import annotations

from collections.abc import Callable

from posagent.core.talk import NUMBER_BYTES, Guest
from posagent.field.link import Line, Terminal
from posagent.sim.inprocess import InProcessTerminal
from tests.field.bench import Bench


class HeldCable:
    """field.link.Line that keeps back what is written while `holding`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.holding = False
        self.held = b""

    def read(self, timeout_s: float) -> bytes:
        return self._line.read(timeout_s)

    def write(self, data: bytes) -> None:
        if self.holding:
            self.held += data
        else:
            self._line.write(data)

    def close(self) -> None:
        return None


def test_goodbye_and_a_new_call_at_once(in_process: Callable[..., InProcessTerminal]) -> None:
    bench = Bench(in_process())
    cable = HeldCable(bench.open())
    first = Terminal(lambda: cable, clock=bench, bytes_per_s=bench.bytes_per_s)
    first.connect()
    cable.holding = True
    first.close()
    assert cable.held, "it says goodbye"
    call = Guest(number=b"2" * NUMBER_BYTES, bytes_per_s=bench.bytes_per_s).poll(bench.monotonic())
    bench.console.feed(cable.held + call)
    assert bench.laptop().call("status")["state"] == "idle"
