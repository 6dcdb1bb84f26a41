"""What may be asked of the agent, and the form of questions and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.core import redact
from posagent.core.errors import PosagentError
from posagent.core.ports import Message

Reply = Callable[[Message], None]

LOOK_VERBS = (
    *("status", "why", "estimate", "help", "history", "check", "audit", "watch", "follow"),
    *("slots", "power", "network", "log", "version"),
)
"""Verbs that change nothing."""

VERBS: Mapping[str, str] = {
    "status": "what runs here, what the update does, which gates are closed",
    "check": "is there something newer: what it is, how long it takes, and whether it can begin",
    "estimate": "how long the update still takes, and for how long no payment can be taken",
    "update": "fetch and install: from the repository, a URL, a local file or a stick (usb)",
    "slots": "what is in the two slots, and whether the terminal can go back to the other version",
    "rollback": "go back to the version in the other slot; it is tested as any other",
    "selftest": "run the self-tests now, on the version that runs",
    "power": "battery and charger, and what an update needs of them",
    "network": "try the way to the update server, step by step",
    "log": "the last things that the agent did",
    "version": "which agent this is, and which version runs",
    "cancel": "stop the update, unless it is in its critical section",
    "defer": "put the update off for some hours",
    "confirm": "agree that the update that asks for it may be installed",
    "history": "how earlier updates ended",
    "audit": "the last records of the audit log",
    "why": "why nothing happens now, or why the last update ended as it did",
    "watch": "status after every change, until the caller hangs up",
    "follow": "status until the update with this id has ended, then its outcome",
    "data": "the merchant's data: is all of it there, and what would a backup bring back",
    "support": "a sealed report for service, and the code that is read out over the phone",
    "payment": "for payment applications: what they hold (docs/payment.md)",
    "help": "this list",
}


def whole(args: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
    """The number of that name in a question. Raises PosagentError `bad_request`."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise PosagentError("bad_request", f"{name} must be a number from {low} to {high}")
    return value


@dataclass(frozen=True, slots=True)
class Clean:
    """A reply without card numbers; equal where the replies are (agent.payment)."""

    reply: Reply

    def __call__(self, message: Message) -> None:
        self.reply(redact.clean(message))
