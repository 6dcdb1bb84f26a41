"""The verb `data`: is the merchant's data whole, and what would a backup bring back; for people.

Rules: a restore that changes something is begun while no update is under way and no payment application holds; until it
has ended no payment may begin. Then the terminal restarts: whoever had the old data open must not go on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.agent import why
from posagent.agent.engine import Engine
from posagent.agent.inspection import Aside
from posagent.agent.payment import Payments
from posagent.core.errors import PosagentError, Refusal
from posagent.core.model import Event, Occurrence, State
from posagent.core.ports import Message

Reply = Callable[[Message], None]


def answer(
    engine: Engine,
    asides: Mapping[str, Aside] | None,
    payments: Payments | None,
    args: Mapping[str, Any],
    reply: Reply,
) -> Callable[[], None]:
    """`{restore?, dry_run?}`: with the name of a backup to `restore`, what that would change; it is changed where
    `dry_run` is false. Raises Refusal, PosagentError `bad_request`."""
    name, dry_run = args.get("restore", ""), args.get("dry_run", True)
    if not isinstance(name, str) or not isinstance(dry_run, bool):
        raise PosagentError("bad_request", "restore must be the name of a backup, dry_run true or false")
    if asides is None:
        raise Refusal("data_none")
    if engine.critical:
        raise why.critical(engine)
    if not name:
        return asides["verify"].ask(reply)
    if dry_run:
        return asides["restore"].ask(reply, {"name": name, "dry_run": True})
    if engine.situation.state is not State.IDLE:
        raise Refusal("busy", "an update is under way", detail_zh="正在升级")
    gate = None if payments is None else payments.gate(State.ACTIVATE)
    if gate is not None and not gate.open:
        raise Refusal("gate_closed", gate.reason, detail_zh=gate.reason_zh)

    def told(message: Message) -> None:
        if "error" in message:
            engine.quiesce(False)
        reply(message)
        if "result" in message:
            engine.post(Occurrence(event=Event.RESTART_DUE))

    asides["restore"].ask(told, {"name": name, "dry_run": False})
    engine.quiesce(True)
    return lambda: None  # whoever hangs up now does not leave it half done
