"""A signature that is pasted, line by line, until its end; not shown, bounded, and not waited for without end."""

from __future__ import annotations

from collections.abc import Callable

from posagent.console.auth import CHALLENGE_S
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError
from posagent.core.ports import Clock, Timers

ANSWER_BYTES_MAX = 8192
BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


class Paste:
    """`on_whole` gets the signature, `on_trouble` hears why there is none; it is over when they are called."""

    def __init__(
        self,
        *,
        timers: Timers,
        clock: Clock,
        on_whole: Callable[[str], None],
        on_trouble: Callable[[PosagentError], None],
    ) -> None:
        self._clock = clock
        self._on_whole = on_whole
        self._on_trouble = on_trouble
        self._late = Deadline(timers, clock, self._too_late)
        self._answer: str | None = None

    @property
    def open(self) -> bool:
        return self._answer is not None

    def take(self, line: str) -> None:
        """The next line."""
        if self._answer is None:
            self._answer = ""
            self._late.set(self._clock.monotonic() + CHALLENGE_S)
        self._answer += line + "\n"
        if len(self._answer) > ANSWER_BYTES_MAX:
            self.give_up()
            self._on_trouble(PosagentError("line_too_long", "the signature is too long", detail_zh="签名过长"))
        elif line == _END:
            self._on_whole(self.give_up())

    def give_up(self) -> str:
        """It does not count; returns what had come."""
        answer, self._answer = self._answer or "", None
        self._late.clear()
        return answer

    def _too_late(self) -> None:
        """The end of the signature was lost on the line: without this the next engineer would type unheard."""
        self.give_up()
        self._on_trouble(
            PosagentError("unlock_expired", "the end of the signature did not come", detail_zh="签名不完整")
        )
