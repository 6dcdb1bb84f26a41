"""The simulated terminal's own peripherals on their serial lines: a printer, a card reader, a PIN pad, each a pty.

Each answers the greeting that its check in the layout sends, and nothing else. One that is broken says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from posagent.platform.loop import Loop
from posagent.sim.layout import Layout
from posagent.sim.lines import End

ANSWERS: Mapping[str, tuple[bytes, bytes]] = {
    "printer": (bytes.fromhex("100401"), bytes.fromhex("12")),  # ESC/POS: status, and that it is online
    "reader": (b"\x02V\x03", b"\x02SIMREADER 1.4\x03"),
    "pin_pad": (b"\x05", b"\x06"),
}


class Peripherals:
    """As long as the simulation runs."""

    def __init__(self, layout: Layout, loop: Loop) -> None:
        self.broken: set[str] = set()
        self._heard: dict[str, bytes] = {}
        for name in ANSWERS:
            end = End(layout.root / "dev" / name)
            loop.watch(end.master, lambda name=name, end=end: self._hear(name, end))  # type: ignore[misc]

    def _hear(self, name: str, end: End) -> None:
        asked, answer = ANSWERS[name]
        heard = (self._heard.get(name, b"") + os.read(end.master, 256))[-len(asked) :]
        self._heard[name] = heard
        if heard == asked and name not in self.broken:
            self._heard[name] = b""
            os.write(end.master, answer)
