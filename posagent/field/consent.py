"""What cannot be taken back is shown to the engineer, exactly as it will be signed, and signed after a typed yes.

Rules: nothing is signed that was not shown. A script has nobody to ask: it says beforehand what it would have signed,
and anything else is not.
"""

from __future__ import annotations

from collections.abc import Callable

from posagent.core.errors import Refusal
from posagent.field.challenge import Challenge
from posagent.field.signing import Engineer
from posagent.field.words import say

YES = ("yes", "是")


class Consent:
    """`show` prints lines, `ask` one without its end and returns what was typed, None where nobody can be asked;
    `beforehand` is the action that is signed without asking."""

    def __init__(
        self,
        engineer: Engineer,
        *,
        show: Callable[[str], None],
        ask: Callable[[str], str | None],
        lang: str,
        beforehand: str = "",
    ) -> None:
        self._engineer, self._show, self._ask = engineer, show, ask
        self._lang, self._beforehand = lang, beforehand

    def agree(self, asked: Challenge) -> str:
        """The signature of a challenge. Raises Refusal `not_signed`, PosagentError `engineer_key`."""
        self._show(say("to_sign", self._lang, asked.terminal, asked.action))
        self._show(say("whole_line", self._lang, asked.line))
        if self._beforehand:
            if self._beforehand != asked.action:
                raise self._refused("agreed_to", self._beforehand, asked.action)
        else:
            answer = self._ask(say("sign_it", self._lang))
            if answer is None:
                raise self._refused("nobody_to_ask", asked.action)
            if answer.strip().lower() not in YES:
                raise self._refused("declined", asked.action)
        return self.unlock(asked.line)

    def unlock(self, line: str) -> str:
        """The signature of a challenge that only unlocks. Raises PosagentError `engineer_key`."""
        if self._engineer.certificate.needs_touch:
            self._show(say("touch", self._lang))
        return self._engineer.sign_challenge(line)

    @staticmethod
    def _refused(name: str, *values: str) -> Refusal:
        return Refusal("not_signed", say(name, "en", *values), detail_zh=say(name, "zh", *values))
