"""A field engineer's laptop on a rig: a serial port, a key, a certificate, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serial

from posagent.console.grammar import PROMPT
from posagent.field.link import Terminal
from posagent.field.parcel import Parcels
from posagent.field.ports import open_port
from tests.console.engineers import certify, make_key, sign

ANSWER_S = 20.0
UNLOCK_S = 120.0


class Laptop:
    """On the field line at that path; `ca` certifies its key for the role `update`."""

    def __init__(self, line: str, ca: Path, folder: Path) -> None:
        self._certificate = certify(ca, make_key(folder / "key"))
        self._port = serial.Serial(line, 115200, timeout=0.2, write_timeout=ANSWER_S)

    def close(self) -> None:
        self._port.close()

    def ask(self, line: str) -> list[str]:
        """What is answered to a line, without its echo. Raises TimeoutError."""
        self._port.reset_input_buffer()
        self._port.write(line.encode() + b"\r")
        said, deadline = b"", time.monotonic() + ANSWER_S
        while not said.endswith(b"\n" + PROMPT):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer to {line[:40]!r} in {ANSWER_S:.0f} s: {said[-200:]!r}")
            said += self._port.read(self._port.in_waiting or 1)
        return said.removesuffix(PROMPT).decode().splitlines()[1:]

    def ask_json(self, line: str) -> dict[str, Any]:
        """The one object that is answered. Raises TimeoutError."""
        value: dict[str, Any] = json.loads(next(said for said in self.ask(f"{line} --json") if said.startswith("{")))
        return value

    def unlock(self) -> list[str]:
        """Ask for a challenge, sign it, paste the signature; what the terminal says. While its installer is at work, as
        after a start, it is asked again."""
        deadline = time.monotonic() + UNLOCK_S
        while True:
            challenge = self.ask_json("unlock update")["challenge"]
            said = self.ask(sign(self._certificate, challenge).rstrip("\n").replace("\n", "\r"))
            if "[busy]" not in " ".join(said) or time.monotonic() > deadline:
                return said

    def wait(self, reached: Callable[[dict[str, Any]], object], timeout_s: float) -> dict[str, Any]:
        """Status, asked for again and again, through restarts of the terminal. Raises TimeoutError."""
        deadline, last = time.monotonic() + timeout_s, "nothing"
        while True:
            try:
                status = self.ask_json("status")
                if "state" not in status:  # the line lost its beginning while the agent opened the port
                    raise ValueError(status.get("code", status))
                if reached(status):
                    return status
                last = f"{status['state']}, {status['failure']}, {status['last_outcome']}"
            except (TimeoutError, StopIteration, ValueError) as error:  # it restarts
                last = repr(error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not reached in {timeout_s:.0f} s; last: {last}")


class Program:
    """The same line, used by a program: `terminal` is unlocked for the role `update`."""

    def __init__(self, line: str, ca: Path, folder: Path) -> None:
        self._certificate, self._folder = certify(ca, make_key(folder / "key")), folder
        self.terminal = Terminal(lambda: open_port(line, 115200))
        self._unlock()

    def _unlock(self) -> None:
        """Its installer may be at work after a start."""
        self.terminal.unlock_soon("update", lambda challenge: sign(self._certificate, challenge), patience_s=UNLOCK_S)

    def bring(self, bundle: Path) -> dict[str, Any]:
        """Upload what of it this terminal should need, install it, and stay until the end; the outcome. Raises
        PosagentError."""
        status = self.terminal.call("status", {})
        part, *_ = Parcels(bundle, self._folder).for_terminal(status["slots"][status["booted"]]["digest"])
        source = self.terminal.upload(part)["path"]
        self._unlock()  # on a slow machine an upload lasts longer than a session, as for posagent-field
        name = self.terminal.call("update", {"source": source})["id"]
        outcome: dict[str, Any] = self.terminal.follow(name, lambda _: None)["outcome"]
        return outcome

    def close(self) -> None:
        self.terminal.close()
