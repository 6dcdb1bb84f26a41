"""The sessions of payment applications on the API: who is connected, what he holds, whether he is still heard of.

Owns: leases and the life of a session. core.holds says what they stop, docs/payment.md has the protocol.
Never: forgets a hold because of a line it does not understand; the sender may be in the middle of a payment.
Rules: a session ends with its connection, never by time. The API hangs up on the last request before it passes on the
next line of the same connection, so a hang-up only counts when no line has followed before the loop's next turn.
Everything is bounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.agent import payment_line
from posagent.agent.payment_line import Line
from posagent.core import holds
from posagent.core.errors import PosagentError, Refusal
from posagent.core.holds import Outlook, Session
from posagent.core.model import Gate, State
from posagent.core.ports import Clock, Message, Timer, Timers

Reply = Callable[[Message], None]
HangUp = Callable[[], None]

SESSIONS_MAX = 4
TELL_S, GUESS_S = 5.0, 2.0
"""A new guess of the seconds to go is told at most as often, and when it is as far from the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRules:
    """From the configuration, see config.PaymentConfig."""

    required: bool = False
    lease_s_max: int = 300
    grace_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """To a question that the application was told of; `by` is the application and its user."""

    question: str
    yes: bool
    by: str


@dataclass(slots=True)
class _Connected:
    """One connection. `lines` tells a hang-up for good from one that another line has followed."""

    session: Session
    reply: Reply
    caller: str
    lines: int = 0
    seq: int | None = None
    told: Outlook | None = None
    told_at_s: float = 0.0


class Payments:
    """All sessions. `outlook` says what applications are told; the three callbacks get what they say: `on_change` after
    anything that may open or close the gate or change `problems`, `on_noted` payments taken, `on_answer` answers."""

    def __init__(
        self,
        *,
        clock: Clock,
        timers: Timers,
        rules: PaymentRules,
        outlook: Callable[[], Outlook] = Outlook,
        on_change: Callable[[], None] = lambda: None,
        on_noted: Callable[[int], None] = lambda _: None,
        on_answer: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._rules = rules
        self._outlook = outlook
        self._on_change = on_change
        self._on_noted = on_noted
        self._on_answer = on_answer
        self._connected: dict[Reply, _Connected] = {}
        self._alone_since_s = clock.monotonic()
        self._wake: tuple[float, Timer] | None = None
        self._plan()

    # what the agent asks

    @property
    def sessions(self) -> tuple[Session, ...]:
        return tuple(one.session for one in self._connected.values())

    def gate(self, needed_for: State, *, reconcile_first: bool = False, name: str = "payment") -> Gate:
        return holds.gate(
            self.sessions,
            self._clock.monotonic(),
            required=self._rules.required,
            reconcile_first=reconcile_first,
            needed_for=needed_for,
            name=name,
        )

    def problems(self) -> tuple[PosagentError, ...]:
        """Alarms: applications that went silent, or a required one that is not there."""
        now_s = self._clock.monotonic()
        found = [_silent(session, now_s) for session in self.sessions if session.silent(now_s)]
        alone_s = now_s - self._alone_since_s
        if self._rules.required and not self._connected and alone_s >= self._rules.grace_s:
            found.append(
                PosagentError(
                    "payment_absent",
                    f"no payment application has been connected for {alone_s:.0f} s",
                    detail_zh=f"已 {alone_s:.0f} 秒没有支付应用连接",
                )
            )
        return tuple(found)

    def tell(self) -> None:
        """The outlook may have changed: whoever is connected hears of it. Cheap, call it as often as you like."""
        if not self._connected:
            return
        outlook, now_s = self._outlook(), self._clock.monotonic()
        for one in tuple(self._connected.values()):
            if one.told is None or _news(one.told, outlook, now_s - one.told_at_s):
                self._say(one, outlook)

    # what applications say

    def line(self, args: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        """One line of the connection that `reply` belongs to; equal `reply`s are the same connection.

        Raises PosagentError for the first line of a connection, which then has no session.
        """
        one = self._connected.get(reply)
        try:
            said = payment_line.read(args, self._rules.lease_s_max)
            if one is None:
                one = self._admit(said, reply, caller)
            elif said.name != one.session.name:
                raise PosagentError("bad_request", f"this connection belongs to {one.session.name}")
            one.lines += 1
            self._take(one, said)
        except PosagentError as error:
            one = self._connected.get(reply)
            if one is None:
                raise
            one.lines += 1  # its last good line stays in force until its lease ends
            self._say(one, self._outlook(), error)
        return self._hang_up_of(one)

    def _admit(self, said: Line, reply: Reply, caller: str) -> _Connected:
        """A new session; a silent one of the same name and user is the same application before it was started again."""
        now_s = self._clock.monotonic()
        for other in tuple(self._connected.values()):
            if other.session.silent(now_s) and (other.session.name, other.caller) == (said.name, caller):
                del self._connected[other.reply]
        if len(self._connected) >= SESSIONS_MAX:
            raise Refusal("payment_full")
        one = _Connected(
            session=Session(name=said.name, heard_s=now_s, lease_s=said.lease_s), reply=reply, caller=caller
        )
        self._connected[reply] = one
        return one

    def _take(self, one: _Connected, said: Line) -> None:
        before, now_s = one.session, self._clock.monotonic()
        one.session = dataclasses.replace(
            before, heard_s=now_s, lease_s=said.lease_s, holds=said.holds_at(now_s, before.holds)
        )
        one.seq = said.seq
        self._plan()
        if said.payments:
            self._on_noted(said.payments)
        if said.answer is not None:
            question, yes = said.answer
            self._on_answer(Answer(question=question, yes=yes, by=f"{one.session.name} ({one.caller})"))
        first, again = one.told is None, before.silent(now_s)
        if first or again or [hold.reason for hold in before.holds] != [hold.reason for hold in one.session.holds]:
            self._on_change()
        self._say(one, self._outlook())

    def _say(self, one: _Connected, outlook: Outlook, error: PosagentError | None = None) -> None:
        """A refused line is told as progress: after an `error` the API would think that the connection asks nothing."""
        now_s = self._clock.monotonic()
        one.told, one.told_at_s = outlook, now_s
        question = outlook.question
        progress: dict[str, Any] = {
            "state": outlook.state.value,
            "may_hold": outlook.may_hold,
            "expected_s": None if outlook.expected_s is None else round(outlook.expected_s, 1),
            "question": None
            if question is None
            else {
                "id": question.id,
                "text": question.text,
                "text_zh": question.text_zh,
                "expires_s": round(max(question.expires_at_s - now_s, 0.0), 1),
            },
        }
        if error is not None:
            progress["error"] = error.as_dict()
        if one.seq is not None:
            progress["seq"] = one.seq  # last, and so easy to find without a JSON library
        one.reply({"progress": progress})

    # the end of a session, and time

    def _hang_up_of(self, one: _Connected) -> HangUp:
        lines = one.lines

        def end() -> None:
            if one.lines == lines and self._connected.get(one.reply) is one:
                del self._connected[one.reply]
                if not self._connected:
                    self._alone_since_s = self._clock.monotonic()
                self._plan()
                self._on_change()

        def hang_up() -> None:
            self._timers.call_later(0.0, end)

        return hang_up

    def _plan(self) -> None:
        """Wake when the next lease or the grace ends. A line that only puts that off arms no timer: cancelled timers
        stay in the loop's heap until their time. Leases are whole seconds, so few can ever come before the one armed.
        """
        now_s = self._clock.monotonic()
        coming = [at_s for at_s in self._ends_s() if at_s > now_s]
        if not coming or (self._wake is not None and self._wake[0] <= min(coming)):
            return
        if self._wake is not None:
            self._wake[1].cancel()
        at_s = min(coming)
        self._wake = at_s, self._timers.call_later(at_s - now_s, lambda: self._woken(now_s))

    def _woken(self, armed_at_s: float) -> None:
        """A lease or the grace has ended, unless it was put off since."""
        self._wake = None
        now_s = self._clock.monotonic()
        if any(armed_at_s < end_s <= now_s for end_s in self._ends_s()):
            self._on_change()
        self._plan()

    def _ends_s(self) -> list[float]:
        ends_s = [session.silent_from_s for session in self.sessions]
        if self._rules.required and not self._connected:
            ends_s.append(self._alone_since_s + self._rules.grace_s)
        return ends_s


def _news(told: Outlook, outlook: Outlook, ago_s: float) -> bool:
    """Whether it is worth a line; seconds to go that pass by themselves are not."""

    def first(one: Outlook) -> tuple[object, ...]:
        return one.state, one.may_hold, one.question and one.question.id, one.expected_s is None

    if first(told) != first(outlook):
        return True
    if told.expected_s is None or outlook.expected_s is None or ago_s < TELL_S:
        return False
    return abs(outlook.expected_s - max(told.expected_s - ago_s, 0.0)) > GUESS_S


def _silent(session: Session, now_s: float) -> PosagentError:
    held = ", ".join(dict.fromkeys(hold.reason.value for hold in session.holds)) or "nothing"
    seconds = int(now_s - session.heard_s)
    return PosagentError(
        "payment_silent",
        f"{session.name}: silent for {seconds} s; it held: {held}",
        detail_zh=f"{session.name}：已 {seconds} 秒无响应；其占用：{held}",
    )
