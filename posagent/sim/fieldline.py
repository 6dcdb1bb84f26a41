"""The field line of a terminal in virtual time: a noisy cable, the terminal's real console at one end, a Line at the
other.

Time passes while the laptop waits: its `read` and `sleep` let the terminal live until something arrives. The same seed
makes the same noise.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from posagent import config as configuration
from posagent.console.access import Access, SessionLimits, nobody_hears
from posagent.console.auth import Gatekeeper
from posagent.console.commands import LineApi
from posagent.console.machine import Machine
from posagent.console.question import Api
from posagent.console.session import Session
from posagent.console.switch import Switch
from posagent.console.upload import Inbox
from posagent.core.ports import Worker
from posagent.installer.service import Installer, linux_ports
from posagent.platform.storage import LinuxFiles
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.virtual import LocalWorker, VirtualTime

BITS_A_BYTE = 10
CHUNK_BYTES = 64
"""So many bytes arrive at once, as from a port's buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What a line does to its bytes: each bit is flipped, start and stop bits too, each byte dropped or doubled with
    such probabilities; the line stands still for `stall_s` so many times a second."""

    bit_errors: float = 0.0
    drops: float = 0.0
    doubles: float = 0.0
    stalls_per_s: float = 0.0
    stall_s: float = 0.5


class Direction:
    """One way of the cable. Bytes take their time; what was sent before comes before."""

    def __init__(self, noise: Noise, baud: int, seed: int) -> None:
        self._noise = noise
        self._byte_s = BITS_A_BYTE / baud
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._error_in = self._gap(noise.bit_errors)
        self._drop_in = self._gap(noise.drops)
        self._double_in = self._gap(noise.doubles)

    @property
    def next_at(self) -> float:
        return self._waiting[0][0] if self._waiting else math.inf

    @property
    def busy_until(self) -> float:
        return self._free_at

    def send(self, data: bytes, now: float) -> None:
        self._free_at = max(self._free_at, now)
        for at in range(0, len(data), CHUNK_BYTES):
            chunk = data[at : at + CHUNK_BYTES]
            took_s = len(chunk) * self._byte_s
            if self._random.random() < self._noise.stalls_per_s * took_s:
                took_s += self._noise.stall_s
            self._free_at += took_s
            self._waiting.append((self._free_at, self._spoilt(chunk)))

    def take(self) -> bytes:
        return self._waiting.popleft()[1]

    def forget(self) -> None:
        """What is in the line is gone."""
        self._waiting.clear()
        self._free_at = 0.0

    def _gap(self, probability: float) -> float:
        """How many are spared until the next one."""
        return self._random.expovariate(probability) if probability else math.inf

    def _spoilt(self, data: bytes) -> bytes:
        made = bytearray(data)
        self._error_in -= BITS_A_BYTE * len(data)
        while self._error_in < 0:
            at, bit = divmod(int(-self._error_in), BITS_A_BYTE)
            byte = max(0, len(data) - 1 - at)
            # a start or stop bit that is missed shifts all the others
            made[byte] ^= 1 << bit if bit < 8 else self._random.randrange(1, 256)
            self._error_in += self._gap(self._noise.bit_errors)
        self._drop_in -= len(data)
        if self._drop_in < 0:
            del made[self._random.randrange(len(made))]
            self._drop_in = self._gap(self._noise.drops)
        self._double_in -= len(data)
        if self._double_in < 0 and made:
            at = self._random.randrange(len(made))
            made[at:at] = made[at : at + 1]
            self._double_in = self._gap(self._noise.doubles)
        return bytes(made)


class SimulatedConsole:
    """The console of a terminal in this process, both modes; made anew whenever its agent is. `api` and `engineer` take
    the places of the terminal's own."""

    def __init__(
        self,
        terminal: InProcessTerminal,
        write: Callable[[bytes], None],
        *,
        bytes_per_s: float,
        limits: SessionLimits | None = None,
        engineer: Worker | None = None,
        api: Api | None = None,
    ) -> None:
        self._terminal, self._write, self._bytes_per_s = terminal, write, bytes_per_s
        self._limits, self._engineer, self._other_api = limits or SessionLimits(), engineer, api
        self._config = configuration.load(str(terminal.layout.config))
        self._api: object = None

    def current(self) -> SimulatedConsole:
        """With the agent that runs now."""
        if self._terminal.api is not self._api:
            self._api = self._terminal.api
            self._wire()
        return self

    def feed(self, data: bytes) -> None:
        self.current().switch.feed(data)

    def _wire(self) -> None:
        terminal, config, time = self._terminal, self._config, self._terminal.time
        gatekeeper = Gatekeeper(
            files=LinuxFiles(),
            path=f"{config.terminal.state_dir}/console.json",
            clock=time,
            terminal=config.terminal.id,
            boot_id=terminal.layout.boot_id.read_text().strip(),
        )
        engineer = self._engineer or LocalWorker(Installer(config, linux_ports(config)).verbs, time)

        hears = nobody_hears if terminal.evidence is None else terminal.evidence.hear

        def access() -> Access:
            return Access(
                timers=time, clock=time, engineer=engineer, gatekeeper=gatekeeper, limits=self._limits, hears=hears
            )

        def source() -> str:
            update = terminal.situation.update
            return "" if update is None else update.source

        self.inbox = Inbox(
            files=LinuxFiles(),
            directory=config.fetch.inbox_dir,
            timers=time,
            clock=time,
            bytes_max=config.fetch.download_bytes_max,
            keep_free_bytes=config.fetch.keep_free_bytes,
            in_use=source,
        )
        api = self._other_api or terminal.api
        self.access, people = access(), access()
        self.human = Session(api=LineApi(api, people), write=self._write, timers=time, clock=time, access=people)
        self.machine = Machine(
            api=LineApi(api, self.access),
            write=self._write,
            timers=time,
            clock=time,
            access=self.access,
            inbox=self.inbox,
            files=LinuxFiles(),
            terminal=config.terminal.id,
            bytes_per_s=self._bytes_per_s,
        )
        self.switch = Switch(self.human, self.machine)


class FieldLine:
    """A terminal's cable; `open` gives the laptop's end of it. Also the laptop's clock."""

    def __init__(
        self,
        terminal: InProcessTerminal,
        *,
        baud: int = 115200,
        noise: Noise | None = None,
        seed: int = 0,
        limits: SessionLimits | None = None,
        engineer: Worker | None = None,
        api: Api | None = None,
    ) -> None:
        self._terminal = terminal
        self._noise = noise or Noise()
        self.bytes_per_s = baud / BITS_A_BYTE
        self.up = Direction(self._noise, baud, seed * 2)
        self.down = Direction(self._noise, baud, seed * 2 + 1)
        self.console = SimulatedConsole(
            terminal,
            lambda data: self.down.send(data, self.monotonic()),
            bytes_per_s=self.bytes_per_s,
            limits=limits,
            engineer=engineer,
            api=api,
        )
        self.console.current()
        self.plugged = True
        self.pulls = 0
        self._received = bytearray()

    @property
    def time(self) -> VirtualTime:
        return self._terminal.time

    # the laptop's clock

    def monotonic(self) -> float:
        return self.time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._live(self.monotonic() + seconds, lambda: False)

    # the laptop's end

    def open(self) -> _End:
        if not self.plugged:
            raise OSError(2, "no such port")
        return _End(self)

    def pull(self, *, noticed: bool = False) -> None:
        """Pull the cable out: whatever is in it is gone. The terminal's port only notices where that is an adapter."""
        self.plugged = False
        self.pulls += 1
        self.up.forget()
        self.down.forget()
        self._received.clear()
        if noticed:
            self.console.current().switch.hang_up()

    def plug_in(self) -> None:
        self.plugged = True

    def read(self, timeout_s: float) -> bytes:
        self._live(self.monotonic() + timeout_s, lambda: bool(self._received))
        data = bytes(self._received)
        self._received.clear()
        return data

    def write(self, data: bytes) -> None:
        self.up.send(data, self.monotonic())

    def _live(self, until: float, reached: Callable[[], bool]) -> None:
        """Whatever happens until then, or until it holds."""
        while not reached():
            timer = self.time.next_at()
            at = min(until, math.inf if timer is None else timer, self.up.next_at, self.down.next_at)
            if at == self.down.next_at:
                self._pass_to(at)
                self._received += self.down.take()
            elif at == self.up.next_at:
                self._pass_to(at)
                self.console.feed(self.up.take())
            elif timer is not None and at == timer:
                self._terminal.step()
                self.console.current()
            else:
                self._pass_to(until)
                return

    def _pass_to(self, at: float) -> None:
        self.time.let_pass(max(0.0, at - self.monotonic()))


class _End:
    """field.link.Line, until the cable is pulled."""

    def __init__(self, line: FieldLine) -> None:
        self._line, self._pulls = line, line.pulls

    def read(self, timeout_s: float) -> bytes:
        self._check()
        data = self._line.read(timeout_s)
        self._check()
        return data

    def write(self, data: bytes) -> None:
        self._check()
        self._line.write(data)

    def close(self) -> None:
        self._pulls = -1

    def _check(self) -> None:
        if self._pulls != self._line.pulls:
            raise OSError(5, "the cable is gone")
