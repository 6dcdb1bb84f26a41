"""A cable in real time between two ptys: no faster than its baud rate, noisy if wanted, and it can be pulled.

For programs that talk to a simulated terminal, whose own line is as fast as the machine is.
"""

from __future__ import annotations

import math
import os
import pty
import select
import threading
import time
import tty
from pathlib import Path

from posagent.sim.fieldline import Direction, Noise

READ_BYTES = 512
AHEAD_S = 0.02
IDLE_S = 0.05


class Bridge:
    """Joins the port `terminal` with a new one at `laptop`, a link that is there while the cable is."""

    def __init__(
        self, terminal: Path, laptop: Path, *, baud: int = 115200, noise: Noise | None = None, seed: int = 0
    ) -> None:
        self._laptop = laptop
        self._far = os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._far)
        noise = noise or Noise()
        self._ways = Direction(noise, baud, 2 * seed), Direction(noise, baud, 2 * seed + 1)
        self._lock = threading.Lock()
        self._near: tuple[int, int] | None = None
        self._ended = False
        self.plug_in()
        self._thread = threading.Thread(target=self._run, daemon=True, name="bridge")
        self._thread.start()

    def pull(self) -> None:
        """The laptop's port is gone, and what was in the cable."""
        with self._lock:
            self._laptop.unlink(missing_ok=True)
            if self._near is not None:
                for descriptor in self._near:
                    os.close(descriptor)
                self._near = None
            for way in self._ways:
                way.forget()

    def plug_in(self) -> None:
        with self._lock:
            if self._near is None:
                self._near = pty.openpty()
                tty.setraw(self._near[1])
                os.set_blocking(self._near[0], False)
                self._laptop.unlink(missing_ok=True)
                self._laptop.symlink_to(os.ttyname(self._near[1]))

    def end(self) -> None:
        self._ended = True
        self._thread.join()
        self.pull()
        os.close(self._far)

    def _run(self) -> None:
        while not self._ended:
            with self._lock:
                ends = [None if self._near is None else self._near[0], self._far]
                wait_s = self._pass_on(ends)
                # what is in the cable already is enough: the sender's own buffers hold the rest back, as a port does
                open_ends = [
                    end for end, way in zip(ends, self._ways, strict=True) if end is not None and self._has_room(way)
                ]
            ready = select.select(open_ends, [], [], wait_s)[0] if open_ends or wait_s else []
            with self._lock:
                for index, end in enumerate(ends):
                    if end in ready and (index or self._near is not None):
                        self._take(end, self._ways[index])

    def _has_room(self, way: Direction) -> bool:
        return way.busy_until < time.monotonic() + AHEAD_S

    def _pass_on(self, ends: list[int | None]) -> float:
        """Give what has arrived to the other ends; how long until the next has."""
        now = time.monotonic()
        for way, end in zip(self._ways, reversed(ends), strict=True):
            while way.next_at <= now:
                data = way.take()
                try:
                    if end is not None:
                        os.write(end, data)
                except BlockingIOError:
                    pass  # nobody reads: a line drops bytes
        nearest = min(way.next_at for way in self._ways)
        return min(IDLE_S, max(0.001, nearest - now)) if nearest < math.inf else IDLE_S

    def _take(self, end: int, way: Direction) -> None:
        try:
            data = os.read(end, READ_BYTES)
        except OSError:
            return  # the other end is closed, or it was pulled in between
        if data:
            way.send(data, time.monotonic())
