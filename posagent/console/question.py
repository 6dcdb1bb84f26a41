"""One request to the agent that can be given up: from then on nothing of its answer arrives any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from posagent.core.ports import Message


class Api(Protocol):
    """agent.api.AgentApi."""

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]: ...


class Question:
    """Asks at once; `reply` gets progress messages, then one result or error, perhaps before this returns."""

    def __init__(
        self, api: Api, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> None:
        self.open = True
        self._reply = reply
        self._hang_up = api.call(verb, args, self._answer, caller)

    def give_up(self) -> None:
        if self.open:
            self.open = False
            self._hang_up()

    def _answer(self, message: Message) -> None:
        if self.open:
            self.open = "progress" in message
            self._reply(message)
