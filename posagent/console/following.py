"""An update as somebody on the line sees it: its progress until it has ended, or until a key is pressed."""

from __future__ import annotations

from collections.abc import Callable

from posagent import texts
from posagent.console.display import Display
from posagent.console.question import Api, Question
from posagent.console.screen import Progress
from posagent.core.errors import PosagentError
from posagent.core.ports import Message


class Following:
    """Asks at once; `on_end` hears of trouble, or None when the outcome was shown."""

    def __init__(
        self,
        *,
        api: Api,
        caller: str,
        update_id: str,
        display: Display,
        progress: Progress,
        lang: str,
        on_end: Callable[[PosagentError | None], None],
    ) -> None:
        self._display = display
        self._progress = progress
        self._lang = lang
        self._on_end = on_end
        self._question = Question(api, "follow", {"id": update_id}, self._reply, caller)

    @property
    def open(self) -> bool:
        return self._question.open

    def give_up(self) -> None:
        self._question.give_up()

    def _reply(self, message: Message) -> None:
        if "progress" in message:
            self._progress.show(message["progress"], self._display)
        elif "error" in message:
            self._on_end(PosagentError.from_dict(message["error"]))
        else:
            self._display.text([texts.outcome_line(message["result"]["outcome"], self._lang)])
            self._on_end(None)
