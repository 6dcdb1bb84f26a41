"""`upload` for people: how long it takes, what to do on the laptop, then what has come.

While the file comes the line belongs to the receiver: nothing is shown, and nothing that is typed is a command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from posagent.console.display import Display
from posagent.console.screen import BITS_PER_BYTE
from posagent.console.verbs import Command, usage
from posagent.console.wording import say
from posagent.core.errors import FetchError, PosagentError, Refusal
from posagent.core.ports import Job, Message, Notify
from posagent.texts import duration

EFFICIENCY = 0.9
"""Of a line whose speed was not measured yet: what the protocol leaves of it."""
MEASURED_BYTES_MIN = 64 * 1024
_SIZE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,3}))?([kMG]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
RESUME = "--resume"


class Receiver(Protocol):
    """platform.receiver.ZmodemReceiver."""

    def room(self) -> int:
        """How many bytes a file may have. Raises PosagentError: none can be received at all."""

    def kept(self) -> tuple[str, int] | None:
        """Name and size of what has come of a file that did not come whole."""

    def start(self, *, resume: bool, notify: Notify) -> Job:
        """Take the line and receive one file: progress, then `{name, path, size, sha256, seconds}` or an error."""


class Receive:
    """One upload after the other. `on_progress` hears that bytes come."""

    def __init__(
        self, receiver: Receiver | None, *, display: Display, baud: int, on_progress: Callable[[], None]
    ) -> None:
        self._receiver = receiver
        self._display = display
        self._baud = baud
        self._on_progress = on_progress
        self._bytes_per_s = baud / BITS_PER_BYTE * EFFICIENCY
        self._job: Job | None = None
        self.brought: Mapping[str, str] = {}
        """Name and digest of the file that came last."""

    @property
    def open(self) -> bool:
        """Whether the line belongs to a file."""
        return self._job is not None

    def begin(self, command: Command, lang: str, on_end: Callable[[PosagentError | None], None]) -> None:
        """Raises PosagentError; `on_end` hears it when it comes later, or None when all was shown."""
        if self._receiver is None:
            raise Refusal("no_zmodem")
        resume = RESUME in command.words
        sizes = [word for word in command.words if word != RESUME]
        if len(sizes) > 1:
            raise PosagentError("bad_request", f"usage: {usage('upload')}")
        size = size_of(sizes[0]) if sizes else None
        room = self._receiver.room()
        if size is not None and size > room:
            raise FetchError("spool_full", f"{size} bytes, there is room for {room}")
        if not command.json:
            kept = self._receiver.kept() if resume else None
            self._display.text(self._announced(size, room, kept, lang))

        def ended(message: Message) -> None:
            if "progress" in message:
                self._on_progress()
                return
            self._job, self.brought = None, {}
            if "error" in message:
                on_end(PosagentError.from_dict(message["error"]))
                return
            self.brought = {name: message["result"][name] for name in ("name", "sha256")}
            self._measure(message["result"])
            self._show(message["result"], command, lang)
            on_end(None)

        self._job = self._receiver.start(resume=resume, notify=ended)

    def give_up(self) -> None:
        """The line is gone."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _announced(self, size: int | None, room: int, kept: tuple[str, int] | None, lang: str) -> list[str]:
        if size is None:
            a_million = duration(10**6 / self._bytes_per_s, lang)
            lines = [say("about_upload", lang, self._baud, a_million, _size(room))]
        else:
            left = size - min(size, kept[1] if kept else 0)
            lines = [say("upload_takes", lang, _size(size), duration(left / self._bytes_per_s, lang), self._baud)]
        if kept is not None:
            lines.append(say("goes_on_from", lang, kept[0], _size(kept[1])))
        return [*lines, say("send_now", lang), say("give_up", lang)]

    def _measure(self, result: Message) -> None:
        """The next one is foretold from this."""
        if result["came"] >= MEASURED_BYTES_MIN and result["seconds"] > 0:
            self._bytes_per_s = result["came"] / result["seconds"]

    def _show(self, result: Message, command: Command, lang: str) -> None:
        if command.json:
            self._display.verbatim(json.dumps(result))
            return
        took = duration(result["seconds"], lang)
        self._display.text([say("received", lang, result["name"], result["size"], took)])
        self._display.verbatim(say("digest", lang, result["sha256"]))
        self._display.verbatim(say("then_update", lang, f"update {result['path']}"))


def size_of(word: str) -> int:
    """Bytes in a size as people write it: 2500000, 2.5M, 800k. Raises PosagentError `bad_request`."""
    found = _SIZE.fullmatch(word)
    if found is None:
        raise PosagentError("bad_request", f"a size is like 2.5M or 800k, not {word[:20]!r}")
    unit = _UNITS[found[3].lower()]
    return int(found[1]) * unit + int((found[2] or "").ljust(3, "0")) * unit // 1000


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 10**6 else f"{size / 1e3:.0f} kB"
