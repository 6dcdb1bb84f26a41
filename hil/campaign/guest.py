"""A virtual terminal as its main console tells of it: which phase it is in, what its agent says, whether it can sell.

Rules: what is on the console is the only witness, and every line has the time at which it came. A phase is U-Boot, the
kernel, or a state of the agent; the agent's states come from `posagent watch` in the root shell, so that what happens
before the shell is there belongs to the phase `kernel`.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from hil.machine import Machine

UBOOT, KERNEL, SHELL, OFF = "u-boot", "kernel", "shell", "off"
PROMPT = re.compile(rb"root@[^ ]+:[^ ]* ?# $")
_SLOT = re.compile(rb"boot: slot (\w)")
WATCH = "posagent watch --json"
TAIL_BYTES_MAX = 1 << 20
ANSWER_S = 3.0
DECIDED_S, ENDED_S = 240.0, 900.0
"""How long to wait for the agent to decide after the power came, and for the end of an update."""
PAYMENTS = 4711
"""Port of this machine's loopback where the payment program is reached."""


class Guest:
    """One terminal; `phase` is the last one seen, `status` what its agent said last since the power came."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tail = b""
        self._said: list[bytes] = []
        self._at_prompt = self._watching = False
        self.phase, self.booted, self.starts = OFF, "", 0
        self.status: dict[str, Any] | None = None
        self.since = 0.0
        """When that phase began, on this machine's monotonic clock."""
        self.powered = 0.0
        self.decided_at: float | None = None
        """When the agent first knew its slots since the power came; and after how many passes through U-Boot."""
        self.decided_starts = 0
        self.refilled = 0
        """How often the boot script found no try left in any slot of the order."""

    def power_on(self) -> None:
        self._tail, self._at_prompt, self._watching, self.status = b"", False, False, None
        self.decided_at, self.starts = None, 0
        self._machine.on()
        self.powered = time.monotonic()

    def power_off(self) -> None:
        self._machine.off()
        self._enter(OFF)

    def pump(self, timeout_s: float) -> None:
        """Take in what the console says, for as long as nothing new comes."""
        data = self._machine.read(timeout_s)
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))
        self._tail = self._tail[-TAIL_BYTES_MAX:]
        self._at_prompt = PROMPT.search(self._tail) is not None

    def until(self, reached: Callable[[], object], timeout_s: float) -> bool:
        """Watch until then; False where it did not come in time."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.pump(min(left, 0.2))
            if self._at_prompt:
                self._type(WATCH)
        return True

    def decided(self) -> bool:
        """The agent knows which slot runs, and what it does next."""
        return self.status is not None and self.status["booted"] is not None

    def begin_update(self) -> str:
        """Ask for what is offered; the update's id. Raises TimeoutError, RuntimeError."""
        said = self.run("posagent update --json")
        name = said.partition('"id": "')[2].partition('"')[0]
        if not name:
            raise RuntimeError(f"no update was begun: {said[-200:]}")
        return name

    def ended(self, update_id: str) -> bool:
        """That update has an outcome."""
        return self.status is not None and (self.status["last_outcome"] or {}).get("id") == update_id

    def run(self, command: str, timeout_s: float = 60.0) -> str:
        """What a command in the root shell prints. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not self._at_prompt:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no shell in {timeout_s:.0f} s, phase {self.phase}")
            if self._watching:
                self._watching = False
                self._machine.write(b"\x03")
            self.pump(1.0)
        said: list[bytes] = []
        self._said = said
        self._type(f"{command}; echo :END:")
        try:
            while not any(line == b":END:" for line in said):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no end of {command} in {timeout_s:.0f} s")
                self.pump(0.2)
        finally:
            self._said = []
        return b"\n".join(said[1:-1]).decode(errors="replace")

    def _type(self, command: str) -> None:
        self._at_prompt, self._watching = False, command == WATCH
        self._tail = b""
        self._machine.write(command.encode() + b"\n")

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase, self.since = phase, time.monotonic()

    def _line(self, line: bytes) -> None:
        self._said.append(line)
        if found := _SLOT.search(line):
            self.booted, self.status = found[1].decode(), None
            self.starts += 1
            self._enter(UBOOT)
        elif b"no tries left, refilled" in line:
            self.refilled += 1
        elif line.startswith(b"Starting kernel"):
            self._enter(KERNEL)
        elif line.startswith(b'{"') and b'"booted"' in line:
            self._told(line)

    def _told(self, line: bytes) -> None:
        try:
            status = json.loads(line)
        except ValueError:
            return  # torn by a message of the kernel's
        self.status = status
        if self.decided():
            self._enter(status["state"])
            if self.decided_at is None:
                self.decided_at, self.decided_starts = time.monotonic(), self.starts


class Customer:
    """Pays again and again, in a thread: remembers every payment that was acknowledged, and when."""

    def __init__(self, port: int, pause_s: float) -> None:
        self.paid: list[tuple[float, int]] = []
        self._port, self._pause_s = port, pause_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._pay, daemon=True)
        self._thread.start()

    def ask(self, question: bytes) -> list[str]:
        """Words of the answer; none where there is no answer."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), ANSWER_S) as line, line.makefile("rb") as said:
                line.settimeout(ANSWER_S)
                line.sendall(question)
                return said.readline().decode(errors="replace").split()
        except OSError:
            return []

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _pay(self) -> None:
        while not self._ended.wait(self._pause_s):
            match self.ask(b"PAY\n"):
                case ["PAID", number]:
                    self.paid.append((time.monotonic(), int(number)))
