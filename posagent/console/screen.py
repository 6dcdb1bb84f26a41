"""What the engineer sees of the agent's answers: few, short lines, for 9600 baud.

Rules: progress is a line a state, and between states at most one in PROGRESS_S, only when it changed.
"""

from __future__ import annotations

from posagent import texts
from posagent.core.ports import Clock, Message

PROGRESS_S = 2.0


def answer_lines(verb: str, answer: Message, lang: str) -> list[str]:
    """The lines for the result of a verb that is not followed."""
    match verb:
        case "status":
            return texts.status_lines(answer, lang)
        case "why":
            return texts.why_lines(answer, lang)
        case "check":
            return texts.check_lines(answer, lang)
        case "history":
            return texts.history_lines(answer, lang)
        case "estimate":
            return texts.estimate_lines(answer, lang)
        case "defer":
            return [texts.say("deferred", lang, texts.moment(answer["deferred_until"]))]
        case "support":
            return texts.support_lines(answer, lang)
        case "confirm":
            return [texts.say("confirmed", lang)]
        case _:
            return [texts.say("cancelled_now", lang)]


class Progress:
    """Thins out the statuses of one update that is followed."""

    def __init__(self, clock: Clock, lang: str) -> None:
        self._clock = clock
        self._lang = lang
        self._state = ""
        self._line = ""
        self._shown_at = 0.0

    def lines(self, status: Message) -> list[str]:
        """The line to show now, if any."""
        line, state, now = texts.progress_line(status, self._lang), str(status["state"]), self._clock.monotonic()
        if state == self._state and (line == self._line or now - self._shown_at < PROGRESS_S):
            return []
        self._line, self._state, self._shown_at = line, state, now
        return [line]
