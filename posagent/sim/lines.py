"""The simulated serial cable: two ptys joined end to end, the terminal's port and the laptop's, which may be pulled."""

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
        self._terminal = End(layout.serial)
        self._laptop: End | None = None
        loop.watch(self._terminal.master, lambda: self._pass_on(self._terminal, self._laptop))
        self.plug(layout.laptop)

    def plug(self, port: Path) -> None:
        """The laptop's end is at `port` from now on; one that is at another is pulled first."""
        self.unplug()
        self._laptop = end = End(port)
        self._loop.watch(end.master, lambda: self._pass_on(end, self._terminal))

    def unplug(self) -> None:
        """The laptop's port goes away with whatever was in it, as a USB adapter's does; the terminal hears nothing."""
        if self._laptop is not None:
            self._loop.watch(self._laptop.master, None)
            self._laptop.close()
        self._laptop = None

    @staticmethod
    def _pass_on(source: End, target: End | None) -> None:
        if source.master < 0:
            return  # it was pulled a moment ago, while this was on its way
        try:
            data = os.read(source.master, 4096)
            if target is not None:
                os.write(target.master, data)
        except BlockingIOError:
            pass  # nobody reads at the other end: a serial line drops bytes

    def forget(self) -> None:
        """Power went away: what was in the line towards the terminal is gone."""
        termios.tcflush(self._terminal.slave, termios.TCIOFLUSH)


class End:
    """A port at the path `link`. Both descriptors stay open here, so that the line survives a user's going away."""

    def __init__(self, link: Path) -> None:
        self.master, self.slave = pty.openpty()
        self._link = link
        tty.setraw(self.slave, termios.TCSANOW)
        os.set_blocking(self.master, False)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self.slave))

    def close(self) -> None:
        self._link.unlink(missing_ok=True)
        os.close(self.master)
        os.close(self.slave)
        self.master = self.slave = -1
