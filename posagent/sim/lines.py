"""The simulated serial cable: two ptys joined end to end, the terminal's port and the laptop's."""

from __future__ import annotations

import os
import pty
import termios
import tty
from pathlib import Path

from posagent.platform.loop import Loop
from posagent.sim.layout import Layout


class Lines:
    """Passes bytes both ways as long as the simulation runs, whatever either end does."""

    def __init__(self, layout: Layout, loop: Loop) -> None:
        self._loop = loop
        self._ends = [self._open(layout.serial), self._open(layout.laptop)]
        for index, (master, _) in enumerate(self._ends):
            loop.watch(master, lambda index=index: self._pass_on(index))  # type: ignore[misc]

    @staticmethod
    def _open(link: Path) -> tuple[int, int]:
        """Both descriptors stay open here, so that the line survives either end's going away."""
        master, slave = pty.openpty()
        tty.setraw(slave, termios.TCSANOW)
        os.set_blocking(master, False)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        return master, slave

    def _pass_on(self, index: int) -> None:
        try:
            data = os.read(self._ends[index][0], 4096)
            os.write(self._ends[1 - index][0], data)
        except BlockingIOError:
            pass  # nobody reads at the other end: a serial line drops bytes

    def forget(self) -> None:
        """Power went away: what was in the line towards the terminal is gone."""
        termios.tcflush(self._ends[0][1], termios.TCIOFLUSH)
