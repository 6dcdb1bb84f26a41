"""Files over the serial line in machine mode: one that comes into the inbox, one that goes to the laptop.

Rules: bytes come in order and without gaps, because the line below loses nothing; what does not fit ends the transfer.
What goes out is read as the line takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from posagent.console.upload import Upload, trouble
from posagent.core.arq import Link
from posagent.core.errors import PosagentError
from posagent.core.ports import Clock, Files
from posagent.core.talk import BULK_BYTES, bulk_message

PROGRESS_S = 0.5
AHEAD_BYTES = 2 * BULK_BYTES

Say = Callable[[dict[str, Any]], None]
"""Sends one answer: `progress`, `result` or `error`."""


class Receiving:
    """The upload that a request has begun; `say` answers it. `on_end` is called when nothing more will be taken."""

    def __init__(self, upload: Upload, *, say: Say, clock: Clock, on_end: Callable[[], None]) -> None:
        self._upload, self._say, self._clock, self._on_end = upload, say, clock, on_end
        self._told_at = clock.monotonic()
        say({"progress": {"offset": upload.offset, **self._done()}})
        upload.begin(self._ended)

    def take(self, offset: int, data: bytes) -> None:
        try:
            self._upload.write(offset, data)
        except PosagentError as error:
            self._ended(error)
            return
        now = self._clock.monotonic()
        if now >= self._told_at + PROGRESS_S:
            self._told_at = now
            self._say({"progress": self._done()})

    def _done(self) -> dict[str, int]:
        return {"bytes_done": self._upload.offset, "bytes_total": self._upload.announced.size}

    def _ended(self, error: PosagentError | None) -> None:
        self._on_end()
        if error is None:
            self._say({"result": {"path": self._upload.path, "sha256": self._upload.announced.sha256}})
        else:
            self._say({"error": error.as_dict()})


class Sending:
    """The file at `path`, from `offset` to `size`. `on_end` hears None when all of it was given to the line."""

    def __init__(
        self,
        files: Files,
        path: str,
        *,
        offset: int,
        size: int,
        on_end: Callable[[PosagentError | None], None],
    ) -> None:
        self._files, self._path, self._on_end = files, path, on_end
        self._offset, self._size = offset, size

    def go_on(self, link: Link) -> bool:
        """Give the line what it has room for; False when that was the last."""
        while self._offset < self._size and link.backlog < AHEAD_BYTES:
            try:
                data = self._files.read(self._path, self._offset, min(BULK_BYTES, self._size - self._offset))
                if not data:
                    raise OSError(0, "shorter than it was", self._path)
            except OSError as error:
                self._on_end(trouble(error))
                return False
            link.send(bulk_message(self._offset, data))
            self._offset += len(data)
        if self._offset < self._size:
            return True
        self._on_end(None)
        return False
