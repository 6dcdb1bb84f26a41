"""The serial line's mode for programs: frames instead of lines, the same agent behind them (docs/console.md).

Owns: the time of one stay in this mode. It begins locked, each conversation begins locked, and it ends when the laptop
says so or is silent for SILENCE_S; a cable that is pulled for less changes nothing.
Rules: whatever ends, an update that is under way goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from posagent.console.access import Access
from posagent.console.conversation import Conversation
from posagent.console.question import Api
from posagent.console.upload import Inbox
from posagent.core.deadline import Alarm
from posagent.core.ports import Clock, Files, Timers
from posagent.core.talk import NUMBER_BYTES, Ended, Host, Opened

BACKLOG_BYTES_END = 512 * 1024
"""Whoever lets so much be waiting for him does not read at all."""


class Machine:
    """Between `begin` and `on_end` the line's bytes are its own; `write` gets bytes for the other end. `bytes_per_s` is
    what the line carries."""

    def __init__(
        self,
        *,
        api: Api,
        write: Callable[[bytes], None],
        timers: Timers,
        clock: Clock,
        access: Access,
        inbox: Inbox,
        files: Files,
        terminal: str,
        bytes_per_s: float,
        new_number: Callable[[], bytes] = lambda: secrets.token_bytes(NUMBER_BYTES),
    ) -> None:
        self._api, self._write, self._clock, self._access = api, write, clock, access
        self._inbox, self._files = inbox, files
        self._terminal, self._bytes_per_s, self._new_number = terminal, bytes_per_s, new_number
        self.on_end: Callable[[], None] = lambda: None
        access.on_over = self._over
        self._alarm = Alarm(timers, clock, self._pump)
        self._host: Host | None = None
        self._conversation: Conversation | None = None
        self._feeding = False

    @property
    def open(self) -> bool:
        return self._host is not None

    def begin(self) -> None:
        """Somebody asked for this mode."""
        self._host = Host(
            terminal=self._terminal,
            new_number=self._new_number,
            bytes_per_s=self._bytes_per_s,
            now=self._clock.monotonic(),
        )
        self._write(f"machine 1 {self._terminal}\r\n".encode())
        self._pump()

    def feed(self, data: bytes) -> None:
        """Bytes from the line."""
        if self._host is None:
            return
        self._feeding = True  # what is said meanwhile goes out together
        for happened in self._host.feed(data, self._clock.monotonic()):
            match happened:
                case Opened(version) if self._host is not None and self._host.link is not None:
                    self._open(version)  # else it has said goodbye in the same breath
                case Ended():
                    self._end()
                case bytes() if self._conversation is not None:
                    self._conversation.message(happened)
                case _:
                    pass
        self._feeding = False
        self._pump()

    def _open(self, version: int) -> None:
        """A new conversation, locked; of an earlier one nothing is left."""
        self._close()
        assert self._host is not None and self._host.link is not None
        self._conversation = Conversation(
            link=self._host.link,
            api=self._api,
            access=self._access,
            inbox=self._inbox,
            files=self._files,
            clock=self._clock,
            introduction={"terminal": self._terminal, "version": version},
            tell=self._pump,
        )

    def _close(self) -> None:
        self._access.lock()
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close()

    def _end(self) -> None:
        if self._host is not None:
            self._host = None
            self._close()
            self._alarm.clear()
            self.on_end()

    def _over(self, why: str) -> None:
        """The session ended while nothing came."""
        if self._conversation is not None:
            self._conversation.over(why)

    def _pump(self) -> None:
        """Send what is to be sent, and come again when there will be more."""
        host, now = self._host, self._clock.monotonic()
        if host is None or self._feeding:
            return
        if now >= host.silent_at or (host.link is not None and host.link.backlog > BACKLOG_BYTES_END):
            self._end()
            return
        due = None if self._conversation is None else self._conversation.tick(now)
        if data := host.poll(now):
            self._write(data)
        wake = host.next_wake()
        self._alarm.set(wake if due is None else min(wake, due))
