"""What payment applications are told of the update, and what the merchant answers through them."""

from __future__ import annotations

from posagent.agent.api import AgentApi
from posagent.agent.engine import Engine
from posagent.agent.payment import Answer
from posagent.core import holds
from posagent.core.holds import Outlook, Question
from posagent.core.model import State

QUESTION_S = 3600.0
"""An unanswered question is asked anew after so long; nothing begins meanwhile."""


def of(engine: Engine, now_s: float) -> Outlook:
    """`now_s` is monotonic."""
    situation = engine.situation
    state, update = situation.state, situation.update
    question = None
    if update is not None and "confirm" in update.conditions and not update.consent_by and state is State.READY:
        question = Question(
            id=update.id,
            text=f"Install update {update.version}? No payments for about {minutes(engine)} min.",
            text_zh=f"是否安装升级 {update.version}？约 {minutes(engine)} 分钟不能收款。",
            expires_at_s=_expires_s(engine, now_s),
        )
    waits = bool(engine.waits_for)
    # what was settled before an update that demands it must be settled at the restart, too
    settled = update is not None and "reconcile" in update.conditions and state in (State.INSTALL, State.ACTIVATE)
    return Outlook(
        state=state,
        may_hold=holds.may_hold(state, waits=waits) and (waits or not settled) and not engine.quiesced,
        expected_s=None if update is None or engine.waits_for else engine.forecast().total.p50,
        question=question,
    )


def _expires_s(engine: Engine, now_s: float) -> float:
    """A fixed moment, so that the same question is not news: it is asked anew every hour that nobody answers."""
    asked_s = engine.since_s() or 0.0
    return float(round(now_s - asked_s)) + QUESTION_S * (asked_s // QUESTION_S + 1)


def minutes(engine: Engine) -> int:
    """Of the outage, as it is in nine of ten cases."""
    return max(1, round(engine.forecast().outage.p90 / 60))


def answered(engine: Engine, api: AgentApi, answer: Answer) -> None:
    """Yes is consent, no is later; an answer to another question changes nothing."""
    update = engine.situation.update
    if update is None or update.id != answer.question:
        return
    verb = "confirm" if answer.yes else "defer"
    api.call(verb, {}, lambda _: None, answer.by)
