"""One terminal at the other end of a serial line, in machine mode: calls that outlive pulled cables.

Rules: a call that was answered was answered once. When the terminal has forgotten the conversation (it restarted, or
was alone for too long), what only looks is asked again, a transfer goes on where it was, and everything else raises
LineLost: whoever asked looks what became of it. Calls may come from several threads; whoever waits drives the line, and
`keep` does so while nobody waits.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from posagent.core.errors import PosagentError
from posagent.core.talk import BULK_BYTES, VERSIONS, Opened, bulk_message, json_message, read
from posagent.field import challenge
from posagent.field.cable import READ_S, Cable, LaptopClock, Line, LineLost, SystemClock

__all__ = ["Line", "LineLost", "Terminal"]

Answer = dict[str, Any]
OnProgress = Callable[[Answer], None]
Sign = Callable[[str], str]
Agree = Callable[[challenge.Challenge], str]
Made = TypeVar("Made")

LOOKS = frozenset({"hello", "status", "why", "estimate", "help", "check", "history", "slots", "power", "log", "audit"})
"""Asked again when nobody knows whether they were answered."""
QUIET_S = 900.0
"""A transfer or an update that nothing was heard of for so long is given up."""
AGAIN_S, PACED_S = 2.0, 10.0
AHEAD_BYTES = 2 * BULK_BYTES
DEFAULT_BYTES_PER_S = 11_520.0
OF_A_LINE = 0.9
"""What is left of a line's bytes for those of a file."""


class _Call:
    """A request under way: what has come for it. `lost` once nothing more will."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.answers: deque[Answer] = deque()
        self.lost = False

    @property
    def over(self) -> bool:
        return bool(self.answers) or self.lost


class Terminal:
    """The terminal at the other end of the lines that `open_line` gives; that raises OSError while there is none.

    `on_state` hears `connecting`, `connected` (a new conversation, locked), `resumed`, `lost`, `unlocked`, `locked`.
    It must not wait. `bytes_per_s` is what the line is said to carry.
    """

    def __init__(
        self,
        open_line: Callable[[], Line],
        *,
        clock: LaptopClock | None = None,
        on_state: Callable[[str], None] = lambda _: None,
        bytes_per_s: float = DEFAULT_BYTES_PER_S,
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        self._clock: LaptopClock = clock or SystemClock()
        self._on_state = on_state
        self._cable = Cable(
            open_line,
            clock=self._clock,
            bytes_per_s=bytes_per_s,
            versions=versions,
            on_message=self._message,
            on_opened=self._opened,
            on_state=on_state,
        )
        self._calls: dict[int, _Call] = {}
        self._number = 0
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._signer: tuple[str, Sign] | None = None
        self.terminal_id = ""
        self.version = 0

    # calls

    def connect(self, timeout_s: float = 30.0) -> None:
        """Wait until the terminal answers. Raises LineLost, PosagentError `machine_version`."""
        self._cable.wait(lambda: self._cable.connected, timeout_s, "no terminal answers on this line")

    def call(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float = 60.0,
    ) -> Answer:
        """The result of a verb. `timeout_s` bounds each wait for the next answer. Raises PosagentError: the terminal's
        own, or LineLost."""
        while True:
            number, call = self._ask(verb, args or {}, timeout_s)
            try:
                while (result := self._next(call, on_progress, timeout_s)) is None:
                    pass
                return result
            except LineLost as error:
                if verb not in LOOKS or not error.forgotten:
                    raise
            finally:
                self._calls.pop(number, None)

    def unlock(self, role: str, sign: Sign) -> Answer:
        """Prove an engineer's key: `sign` makes the armored signature of the challenge line. It is kept, to be asked
        again when the terminal has forgotten the session. `{name, role, session_s}`. Raises PosagentError."""
        line = str(self.call("unlock", {"role": role})["challenge"])
        challenge.checked(line, terminal=self.terminal_id, role=role)
        found = self.call("answer", {"signature": sign(line)})
        self._signer = role, sign
        self._on_state("unlocked")
        return found

    def unlock_soon(self, role: str, sign: Sign, *, patience_s: float) -> Answer:
        """As soon as the terminal is ready for it: its installer may be at work, or it wants us to wait."""
        return self._soon(lambda: self.unlock(role, sign), ("busy", "unlock_wait", "line_lost"), patience_s)

    def call_signed(self, verb: str, args: Mapping[str, Any] | None = None, *, agree: Agree) -> Answer:
        """The result of a verb that is signed for once more, in the role that was unlocked: `agree` makes the signature
        of the challenge, which names exactly what is done then. Nothing else is. Raises PosagentError."""
        try:  # challenges are paced
            return self._soon(lambda: self.call(verb, args), ("unlock_wait",), PACED_S)
        except PosagentError as error:
            if error.code != "sign_again" or self._signer is None:
                raise
            line = str(error.facts.get("challenge", ""))
        asked = challenge.checked(line, terminal=self.terminal_id, role=self._signer[0], verb=verb)
        self.call("answer", {"signature": agree(asked)})
        return self.call(verb, args)

    def _soon(self, ask: Callable[[], Answer], codes: Collection[str], patience_s: float) -> Answer:
        """Again while it is refused for one of those reasons."""
        until = self._clock.monotonic() + patience_s
        while True:
            try:
                return ask()
            except PosagentError as error:
                wait_s = min(float(error.facts.get("expected_s") or AGAIN_S), 60.0)
                if error.code not in codes or self._clock.monotonic() + wait_s > until:
                    raise
                self.tend(wait_s)

    def upload(self, path: Path, *, name: str = "", on_progress: OnProgress | None = None) -> Answer:
        """Put a file into the terminal's inbox: `{path, sha256}`, the path being a source for `update`. Goes on where
        an earlier try has ended. Progress is `{bytes_done, bytes_total, expected_s}`. Raises PosagentError, OSError."""
        announced = {"name": name or path.name, "size": path.stat().st_size, "sha256": _digest(path)}

        def once() -> Answer:
            number, call = self._ask("upload", announced, QUIET_S)
            try:
                with path.open("rb") as stream:
                    return self._send(call, stream, on_progress)
            finally:
                self._calls.pop(number, None)

        return self._again(once)

    def download(self, what: str, out: Path, *, on_progress: OnProgress | None = None) -> Path:
        """Fetch `support`, the support bundle, to the file `out`. Raises PosagentError, OSError."""
        part = out.with_name(out.name + ".part")
        part.write_bytes(b"")
        args: Answer = {"what": what}

        def once() -> Path:
            args["offset"] = part.stat().st_size
            number, call = self._ask("download", args, QUIET_S)
            try:
                with part.open("r+b") as stream:
                    args["sha256"] = self._receive(call, stream, on_progress)["sha256"]
            finally:
                self._calls.pop(number, None)
            if _digest(part) != args["sha256"]:
                raise PosagentError("upload_differs", f"{part} is not what the terminal has sent")
            part.replace(out)
            return out

        return self._again(once)

    def follow(self, update_id: str, on_status: OnProgress, *, quiet_s: float = QUIET_S) -> Answer:
        """Statuses of an update until it has ended: `{id, outcome}`, through restarts of the terminal and pulled
        cables. Raises PosagentError, LineLost after `quiet_s` seconds without a word."""
        heard_at = self._clock.monotonic()

        def told(status: Answer) -> None:
            nonlocal heard_at
            heard_at = self._clock.monotonic()
            on_status(status)

        while True:
            try:
                return self.call("follow", {"id": update_id}, on_progress=told, timeout_s=quiet_s)
            except LineLost:
                if self._clock.monotonic() >= heard_at + quiet_s:
                    raise
            except PosagentError as error:
                if error.code != "busy":  # it looks at its hardware first
                    raise
                self.tend(AGAIN_S)

    def estimate_s(self, count: int) -> float:
        """How long so many bytes of a file take: by what the line carried so far, else by what it is said to carry."""
        return count / (self._cable.rate or self._cable.bytes_per_s * OF_A_LINE)

    # while nobody waits

    def tend(self, seconds: float) -> None:
        """Keep the conversation alive for so long."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            self._cable.turn(min(left, READ_S))

    def keep(self) -> None:
        """From now on a thread tends the line while nobody else does."""
        self._cable.keep()

    def close(self) -> None:
        """Say goodbye: the terminal locks at once."""
        self._cable.close()

    # what comes

    def _message(self, message: bytes) -> None:
        said = read(message)
        if isinstance(said, tuple):
            self._pieces.append(said)
        elif said is not None and said.get("event") == "locked":
            self._on_state("locked")
        elif said is not None and (call := self._calls.get(said.get("id", -1))) is not None:
            if "offset" in (said.get("progress") or {}):
                self._pieces.clear()  # what came before belongs to an earlier try
            call.answers.append(said)

    def _opened(self, opened: Opened) -> None:
        """The terminal knows nothing of what was asked before."""
        self.terminal_id, self.version = opened.terminal, opened.version
        for call in self._calls.values():
            call.lost = True

    # requests

    def _ask(self, verb: str, args: Mapping[str, Any], timeout_s: float) -> tuple[int, _Call]:
        self.connect(timeout_s)
        with self._cable.held():
            self._number += 1
            call = self._calls[self._number] = _Call(verb)
            self._cable.send(json_message({"id": self._number, "verb": verb, "args": dict(args)}))
            return self._number, call

    def _next(self, call: _Call, on_progress: OnProgress | None, timeout_s: float) -> Answer | None:
        """Wait for one more answer: the result, or None after progress. Raises PosagentError."""
        self._cable.wait(lambda: call.over, timeout_s, f"no answer to {call.verb}")
        if not call.answers:
            raise LineLost(f"the terminal has forgotten that it was asked to {call.verb}", forgotten=True)
        answer = call.answers.popleft()
        if "error" in answer:
            raise PosagentError.from_dict(answer["error"])
        if on_progress is not None and "progress" in answer:
            on_progress(answer["progress"])
        result: Answer | None = answer.get("result")
        return result

    def _again(self, once: Callable[[], Made]) -> Made:
        """Try a transfer until it comes to its end, as long as the line comes back; unlock again where the terminal has
        forgotten who asks."""
        refused = False
        while True:
            try:
                return once()
            except LineLost as error:
                if not error.forgotten:
                    raise
                refused = False
            except PosagentError as error:
                if error.code != "not_allowed" or self._signer is None or refused:
                    raise
                refused = True
                self.unlock_soon(*self._signer, patience_s=QUIET_S)

    # files

    def _send(self, call: _Call, stream: BinaryIO, on_progress: OnProgress | None) -> Answer:
        size, at, heard_at = stream.seek(0, 2), -1, self._clock.monotonic()

        def told(progress: Answer) -> None:
            nonlocal at, heard_at
            at, heard_at = progress.get("offset", at), self._clock.monotonic()
            if on_progress is not None:
                on_progress({**progress, "expected_s": self.estimate_s(size - progress["bytes_done"])})

        while True:
            if call.over or at < 0:
                if (result := self._next(call, told, QUIET_S)) is not None:
                    return result
                continue
            with self._cable.held():
                while at < size and self._cable.backlog < AHEAD_BYTES and not call.over:
                    stream.seek(at)
                    data = stream.read(BULK_BYTES)
                    if not data:
                        raise OSError(0, "the file became shorter while it was sent")
                    self._cable.send(bulk_message(at, data))
                    at += len(data)
            if self._clock.monotonic() >= heard_at + QUIET_S:
                raise LineLost(f"nothing was heard of the upload for {QUIET_S:.0f} s")
            self._cable.turn(READ_S)

    def _receive(self, call: _Call, stream: BinaryIO, on_progress: OnProgress | None) -> Answer:
        at = size = 0

        def told(progress: Answer) -> None:
            nonlocal at, size
            if "offset" in progress:
                at, size = progress["offset"], progress["size"]
                stream.truncate(at)
                stream.seek(at)
                if on_progress is not None:  # with what else is known of the file, such as a code
                    on_progress({**progress, "bytes_done": at, "bytes_total": size})

        while True:
            self._cable.wait(lambda: call.over or bool(self._pieces), QUIET_S, "no more of the file came")
            while size and self._pieces:
                offset, data = self._pieces.popleft()
                if offset == at:
                    stream.write(data)
                    at += len(data)
                    if on_progress is not None:
                        left_s = self.estimate_s(size - at)
                        on_progress({"bytes_done": at, "bytes_total": size, "expected_s": left_s})
            if call.over and (result := self._next(call, told, QUIET_S)) is not None:
                return result


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
