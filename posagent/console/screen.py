"""What the engineer sees of the agent's answers: few, short lines, for 9600 baud.

Rules: progress takes at most a tenth of the line; between states it is one line that is redrawn, only when it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from posagent import audit_texts, texts, texts_data, texts_inspection, texts_selftest
from posagent.console.columns import COLUMNS, width
from posagent.console.display import Display
from posagent.core.ports import Clock, Message

PROGRESS_S = 0.5
PROGRESS_SHARE = 0.1
BAR_WIDTH = 24
BITS_PER_BYTE = 10
"""On the line: start bit, eight bits, stop bit."""

Lines = Callable[[Message, str], list[str]]

_ANSWERS: Mapping[str, Lines] = {
    "status": texts.status_lines,
    "why": texts.why_lines,
    "check": texts.check_lines,
    "history": texts.history_lines,
    "estimate": texts.estimate_lines,
    "slots": texts_inspection.slots_lines,
    "power": texts_inspection.power_lines,
    "log": texts_inspection.log_lines,
    "version": texts_inspection.version_lines,
    "network": lambda answer, lang: [texts_inspection.say("network_ok" if answer["ok"] else "network_fault", lang)],
    "selftest": texts_selftest.lines,
    "data": texts_data.lines,
    "audit": audit_texts.lines,
    "allow": lambda answer, lang: [audit_texts.allowed_line(answer, lang)],
    "support": texts.support_lines,
    "defer": lambda answer, lang: [texts.say("deferred", lang, texts.moment(answer["deferred_until"]))],
    "confirm": lambda _, lang: [texts.say("confirmed", lang)],
    "cancel": lambda _, lang: [texts.say("cancelled_now", lang)],
}
_STEPS: Mapping[str, Lines] = {
    "network": texts_inspection.network_step_lines,
    "selftest": lambda step, lang: [texts_selftest.step_line(step, lang)],
    "data": lambda step, lang: [texts_data.step_line(step, lang)],
}


def answer_lines(verb: str, answer: Message, lang: str) -> list[str]:
    """The lines for the result of a verb that is not followed."""
    return _ANSWERS[verb](answer, lang)


def step_lines(verb: str, step: Message, lang: str) -> list[str]:
    """The lines for progress of a verb that tells how far it is."""
    return _STEPS[verb](step, lang) if verb in _STEPS else []


class Progress:
    """Thins out the statuses of one update that is followed; `plain` is for what cannot redraw a line."""

    def __init__(self, clock: Clock, lang: str, *, baud: int, plain: bool) -> None:
        self._clock = clock
        self._lang = lang
        self._plain = plain
        self._every_s = max(PROGRESS_S, COLUMNS * BITS_PER_BYTE / (baud * PROGRESS_SHARE))
        self._phase: tuple[str, str] | None = None
        self._line = self._last = ""
        self._shown_at = 0.0

    def show(self, status: Message, display: Display) -> None:
        """If it is time for it."""
        line, now = _fitted(status, self._lang), self._clock.monotonic()
        phase = (str(status["state"]), str((texts.closed_gate(status) or {}).get("gate", "")))
        begins = phase != self._phase
        last, self._last = self._last, line
        if not begins and (self._plain or line == self._line or now - self._shown_at < self._every_s):
            return
        if self._plain:
            display.text([line])
        else:
            if begins and last != self._line:
                display.live(last, anew=False)  # how far the phase before it came
            display.live(line, anew=begins)
        self._phase, self._line, self._shown_at = phase, line, now


def _fitted(status: Message, lang: str) -> str:
    """With a bar that leaves room for the rest."""
    over = width(texts.progress_line(status, lang)) - COLUMNS
    return texts.progress_line(status, lang, BAR_WIDTH - min(max(over, 0), BAR_WIDTH - 4))
