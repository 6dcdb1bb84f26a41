"""One laptop says goodbye and the next one calls in the same breath: the agent answers the second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from posagent.core.talk import NUMBER_BYTES, Guest
from posagent.field.link import Terminal
from posagent.sim import layout
from posagent.sim.layout import Settings
from tests.conftest import HARDWARE, Desk
from tests.field.bench import BYTES_PER_S, Bench, Cable, WiredTerminal


class HeldCable(Cable):
    """Keeps back what is written while `holding`."""

    holding = False
    held = b""

    def write(self, data: bytes) -> None:
        if self.holding:
            self.held += data
        else:
            super().write(data)


@pytest.fixture
def bench(desk: Desk, short_path: Path) -> Iterator[Bench]:
    made = layout.create(
        short_path / "t", image=desk.images["1.0.0"], keys_dir=desk.keys, settings=Settings(hardware=HARDWARE)
    )
    terminal = WiredTerminal(made)
    terminal.boot()
    yield Bench(terminal, short_path)
    terminal.time.end()


def test_goodbye_and_a_new_call_at_once(bench: Bench) -> None:
    cable = HeldCable(bench.terminal, lambda: False)
    first = Terminal(lambda: cable, clock=bench, bytes_per_s=BYTES_PER_S)
    first.connect()
    cable.holding = True
    first.close()
    assert cable.held, "it says goodbye"
    call = Guest(number=b"2" * NUMBER_BYTES, bytes_per_s=BYTES_PER_S).poll(bench.monotonic())
    bench.terminal.console.feed(cable.held + call)
    assert bench.line().call("status")["state"] == "idle"
