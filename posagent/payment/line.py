"""The one connection of a payment application to the agent.

Owns: all of the application's holds; every line says all of them, so a new connection needs nothing but the next line.
Never: threads, exceptions for an agent that is away, or more than `timeout_s` of waiting for any call.
Rules: when the agent does not answer the payment goes on, but not on the data of a version on trial; it is not asked to
answer again until it has.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from posagent import wire
from posagent.core.errors import PosagentError

TIMEOUT_S = 0.2
RETRY_S = 1.0
NEWS_BYTES_MAX = 1 << 20
PAYMENTS_MAX = 10_000
TRIAL = "/run/posagent-data/current.trial"


class Held:
    """One hold, until `release` or the end of its `with`. `granted` is False when an update has begun to restart the
    terminal, and while a new version is on trial: then do not begin a payment, and show
    `Holds.outlook["expected_s"]`."""

    def __init__(self, line: Holds, reason: str) -> None:
        self._line = line
        self.reason = reason
        self.since_s = line.clock()
        self.granted = True

    def release(self) -> None:
        self._line.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Holds:
    """The application's end of the line. `path` is the agent's API socket; the file `trial` is there while what is paid
    might be lost by a rollback (docs/data.md). Use it from one thread."""

    def __init__(
        self,
        path: str,
        name: str,
        *,
        lease_s: int = 60,
        timeout_s: float = TIMEOUT_S,
        trial: str = TRIAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.outlook: Mapping[str, Any] = {}
        """What the agent said last: state, may_hold, expected_s, question, and error where a line was refused."""
        self._path = path
        self._name = name
        self._lease_s = lease_s
        self._timeout_s = timeout_s
        self._trial = trial
        self._held: list[Held] = []
        self._payments = 0
        self._socket: socket.socket | None = None
        self._buffer = wire.LineBuffer()
        self._seq = itertools.count(1)
        self._sent = self._answered = 0
        self._sent_at_s = 0.0
        self._try_at_s = clock()
        self._deaf = False
        """It has let us wait once: it is not waited for until it answers."""
        self.tick()

    # what the application does

    def hold(self, reason: str) -> Held:
        """Hold from now on: transaction, card_in_reader, printing, unsettled_batch or offline_queue."""
        held = Held(self, reason)
        self._held.append(held)
        self._hear()
        self._say()
        self._hear(wait=True)
        said = self.outlook.get("may_hold")
        held.granted = bool(said) if said is not None else not os.path.exists(self._trial)
        return held

    def release(self, held: Held) -> None:
        """No longer hold; a second time does nothing."""
        if held in self._held:
            self._held.remove(held)
            self._say()
            self._hear()

    def paid(self, count: int = 1) -> None:
        """So many payments were taken; the agent learns from it when the terminal is quiet. Told with the next line."""
        self._payments = min(self._payments + count, PAYMENTS_MAX)

    @property
    def question(self) -> Mapping[str, Any] | None:
        """What the agent wants to ask the person here: id, text, text_zh, expires_s."""
        return self.outlook.get("question") if self.connected else None

    def answer(self, question: str, yes: bool) -> None:
        """To `question["id"]`: now, or later."""
        self._say(answer={"question": question, "answer": "yes" if yes else "later"})
        self._hear()

    def tick(self) -> None:
        """Renew the lease where it is time, connect again where the agent was away, read what it said. Never waits."""
        self._hear()
        now_s = self.clock()
        if self._socket is None or now_s - self._sent_at_s >= self._lease_s / 3:
            self._say()
            self._hear()

    def close(self) -> None:
        """Release everything and hang up."""
        self._held.clear()
        self._lose(RETRY_S)

    # how it stands

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        """To wait in select or poll until there is something to read; -1 while the agent is away."""
        return -1 if self._socket is None else self._socket.fileno()

    # the line

    def _connect(self) -> None:
        if self._socket is not None or self.clock() < self._try_at_s:
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.setblocking(False)  # a full queue of the agent's is an error here, not a wait
            made.connect(self._path)
        except OSError:
            made.close()
            self._lose(RETRY_S)
            return
        self._socket, self._buffer = made, wire.LineBuffer()
        self._answered, self._deaf = self._sent, False

    def _lose(self, retry_s: float) -> None:
        """The agent is away; a lost connection is tried again at once, a refused one after a while."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.outlook = {}
        self._try_at_s = self.clock() + retry_s

    def _say(self, **more: object) -> None:
        for _ in range(2):  # an agent that was started again is only noticed by writing to the old one
            self._connect()
            if self._socket is None or self._send(self._socket, more):
                return

    def _send(self, connection: socket.socket, more: Mapping[str, object]) -> bool:
        now_s, self._sent = self.clock(), next(self._seq)
        args: dict[str, object] = {
            "name": self._name,
            "lease_s": self._lease_s,
            "holds": [{"reason": held.reason, "since_s": round(now_s - held.since_s, 1)} for held in self._held],
            "seq": self._sent,
            **more,
        }
        if self._payments:
            args["payments"] = self._payments
        line = wire.encode({"verb": "payment", "args": args})
        try:
            whole = connection.send(line) == len(line)
        except BlockingIOError:
            whole = False
        except OSError:
            self._lose(0.0)
            return False
        if not whole:  # it has not read for long; half a line can only be ended by hanging up
            self._lose(RETRY_S)
            return False
        self._payments, self._sent_at_s = 0, now_s
        return True

    def _hear(self, *, wait: bool = False) -> None:
        """Read what has come; `wait` for the answer to the last line, but not for long, nor again and again."""
        end_s = self.clock() + self._timeout_s
        heard = 0
        while self._socket is not None and heard < NEWS_BYTES_MAX:
            left_s = end_s - self.clock() if wait and not self._deaf and self._answered < self._sent else 0.0
            self._socket.settimeout(max(left_s, 0.0))
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, TimeoutError):
                if wait and self._answered < self._sent:
                    self._deaf = True
                return
            except OSError:
                data = b""
            if not data:
                self._lose(0.0)
                return
            heard += len(data)
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            messages = [wire.decode(line) for line in self._buffer.feed(data)]
        except PosagentError:
            self._lose(RETRY_S)
            return
        for message in messages:
            if "error" in message:  # not allowed, or no room: the agent keeps no session of ours
                self._lose(RETRY_S)
                self.outlook = {"error": message["error"]}
                return
            progress = message.get("progress")
            if isinstance(progress, dict):
                self.outlook = progress
                seq = progress.get("seq")
                if "error" in progress or seq == self._sent:
                    self._answered = self._sent
                    self._deaf = False
