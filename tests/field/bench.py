"""A terminal with a serial line and a laptop at its other end, all of it the real code, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from posagent import config as configuration
from posagent.console.access import Access, SessionLimits
from posagent.console.auth import Gatekeeper
from posagent.console.machine import Machine
from posagent.console.session import Session
from posagent.console.switch import Switch
from posagent.console.upload import Inbox
from posagent.field.diary import Diary
from posagent.field.link import Terminal
from posagent.field.visit import Plan, Visit
from posagent.installer.service import Installer, linux_ports
from posagent.platform.storage import LinuxFiles
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import Layout
from posagent.sim.virtual import LocalWorker

BYTES_PER_S = 11_520.0


class WiredTerminal(InProcessTerminal):
    """`said` is what it has put on the line."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.said = bytearray()

    def start_agent(self) -> None:
        super().start_agent()
        config = configuration.load(str(self.layout.config))
        engineer = LocalWorker(Installer(config, linux_ports(config)).verbs, self.time)
        gatekeeper = Gatekeeper(
            files=LinuxFiles(),
            path=f"{config.terminal.state_dir}/console.json",
            clock=self.time,
            terminal="t",
            boot_id=f"boot {self.boots}",
        )

        def access() -> Access:
            return Access(
                timers=self.time, clock=self.time, engineer=engineer, gatekeeper=gatekeeper, limits=SessionLimits()
            )

        machine = Machine(
            api=self.api,
            write=self.said.extend,
            timers=self.time,
            clock=self.time,
            access=access(),
            inbox=Inbox(
                files=LinuxFiles(),
                directory=config.fetch.inbox_dir,
                timers=self.time,
                clock=self.time,
                bytes_max=config.fetch.download_bytes_max,
                keep_free_bytes=config.fetch.keep_free_bytes,
                in_use=lambda: self.situation.update.source if self.situation.update else "",
            ),
            files=LinuxFiles(),
            terminal="t",
            bytes_per_s=BYTES_PER_S,
        )
        session = Session(api=self.api, write=self.said.extend, timers=self.time, clock=self.time, access=access())
        self.said.clear()
        self.console = Switch(session, machine)

    def pass_time(self, seconds: float, enough: Callable[[], object] = lambda: False) -> None:
        """Live for so long, or until `enough`."""
        until, armed = self.time.monotonic() + seconds, -1
        while not enough() and self.time.monotonic() < until:
            if armed != self.boots:  # a restart forgets all timers
                self.time.call_later(until - self.time.monotonic(), lambda: None)
                armed = self.boots
            self.step()


class Cable:
    """field.link.Line to it. Whatever `out` holds for happens to it at each use; while `out` is true it is pulled."""

    def __init__(self, terminal: WiredTerminal, out: Callable[[], bool]) -> None:
        self._terminal = terminal
        self._out = out

    def read(self, timeout_s: float) -> bytes:
        said = self._terminal.said
        self._check()
        self._terminal.pass_time(timeout_s, enough=lambda: said or self._out())
        self._check()
        data = bytes(said)
        said.clear()
        return data

    def write(self, data: bytes) -> None:
        self._check()
        self._terminal.pass_time(len(data) / BYTES_PER_S, enough=self._out)
        self._check()
        self._terminal.console.feed(data)

    def close(self) -> None:
        return None

    def _check(self) -> None:
        if self._out():
            raise OSError(5, "the cable is out")


class Bench:
    """A laptop beside one terminal. `out` says whether the cable is out; it is asked each time the line is used."""

    def __init__(self, terminal: WiredTerminal, folder: Path) -> None:
        self.terminal = terminal
        self.folder = folder
        self.out: Callable[[], bool] = lambda: False
        self.diary = Diary("t", "/dev/ttyUSB0", terminal.time.wall, lambda: None)

    # field.link.LaptopClock

    def monotonic(self) -> float:
        return self.terminal.time.monotonic()

    def sleep(self, seconds: float) -> None:
        self.terminal.pass_time(seconds)

    def line(self) -> Terminal:
        def open_line() -> Cable:
            if self.out():
                raise OSError(2, "no port")
            return Cable(self.terminal, lambda: self.out())

        return Terminal(open_line, clock=self, bytes_per_s=BYTES_PER_S)

    def visit(self, plan: Plan) -> dict[str, Any]:
        """All of it; the record."""
        line = self.line()
        Visit(line, "t", self.diary, plan).run()
        line.close()
        return self.diary.record()
