"""Who may do what on the line: locked, or unlocked by an engineer in a role, for a while.

Owns: the proof of an engineer's key, the limits of a session, which verbs a role may use, and what the audit log hears
of all that; both modes of the line, for people and for programs, ask it. Rules: a session ends by time, idleness,
number of commands, logout or hang-up. A signature over an action counts once, for exactly that action, and only from
the key that unlocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from posagent.console.auth import CHALLENGE_S, ROLES, Challenge, Gatekeeper, Proof, proven
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Job, Message, Timers, Worker

PROOF_S = 10.0  # the installer has no time for an answer while it writes a slot
OPEN_VERBS = frozenset({"status", "why", "estimate", "version", "help", "lang", "unlock", "logout", "machine"})
"""What needs no key."""
OWN_VERBS = frozenset({"help", "lang", "logout", "machine"})
"""What the line answers by itself; the log hears of all others when they are answered."""
WRONG = frozenset({"unlock_refused", "unlock_expired"})
"""Codes of answers that count as failed tries."""


Granted = tuple[str, ...]
"""Name, role and minutes of whoever unlocked; name and action of whoever signed again."""


class Hears(Protocol):
    """agent.evidence.Evidence.hear: the audit log."""

    def __call__(self, event: str, *, stranger: bool = False, **fields: Any) -> None: ...


def nobody_hears(event: str, *, stranger: bool = False, **fields: Any) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """When an unlocked session ends; seconds and number of commands."""

    session_s_max: float = 900.0
    idle_s_max: float = 120.0
    actions_max: int = 20


@dataclass(slots=True, kw_only=True)
class _Unlocked:
    role: str
    proof: Proof
    until: float
    actions: int
    signed: tuple[str, float] | None = None
    """An action that was signed for, and until when that counts."""


class Access:
    """Of one line. `on_over` hears why when an unlocked session ended by itself; the line is locked by then."""

    def __init__(
        self,
        *,
        timers: Timers,
        clock: Clock,
        engineer: Worker,
        gatekeeper: Gatekeeper,
        limits: SessionLimits,
        hears: Hears = nobody_hears,
    ) -> None:
        self._timers = timers
        self._clock = clock
        self._engineer = engineer
        self._gatekeeper = gatekeeper
        self.limits = limits
        self._hears = hears
        self.on_over: Callable[[str], None] = lambda _: None
        self._unlocked: _Unlocked | None = None
        self._idle = Deadline(timers, clock, self._time_over)
        self._job: Job | None = None

    @property
    def unlocked(self) -> bool:
        return self._unlocked is not None

    @property
    def caller(self) -> str:
        """Whom the agent shall name as having asked."""
        return "console" if self._unlocked is None else f"console {self._unlocked.proof.name}"

    @property
    def session(self) -> tuple[str, str, float] | None:
        """Name, role, and for how many seconds; None while locked."""
        unlocked = self._unlocked
        if unlocked is None:
            return None
        return unlocked.proof.name, unlocked.role, max(0.0, unlocked.until - self._clock.monotonic())

    def touch(self) -> str:
        """Somebody is there. An unlocked session that is over ends before anything is done: then this says why."""
        unlocked = self._unlocked
        if unlocked is None:
            return ""
        now = self._clock.monotonic()
        if now >= unlocked.until:
            self.lock("session over")
            return "session over"
        self._idle.set(min(now + self.limits.idle_s_max, unlocked.until))
        return ""

    @property
    def role(self) -> str:
        """Empty while locked."""
        return "" if self._unlocked is None else self._unlocked.role

    def may(self, verb: str) -> bool:
        """Whether `permit` lets it through; asking costs nothing."""
        return verb in OPEN_VERBS or (bool(self.role) and verb in ROLES[self.role])

    def permit(self, verb: str) -> None:
        """Raises PosagentError `unknown_verb`, Refusal `not_allowed`."""
        try:
            self._permit(verb)
        except PosagentError as error:
            self.hear(verb, {}, error.code)
            raise
        if verb in OWN_VERBS:
            self.hear(verb, {}, "ok")

    def hear(self, verb: str, args: Mapping[str, Any], code: str) -> None:
        """A command and how it ended, for the audit log; for verbs that the API does not see, their owner says so."""
        self.ear()(verb, args, code)

    def ear(self) -> Callable[[str, Mapping[str, Any], str], None]:
        """`hear` in the name of whoever is unlocked now, for a command that may end after the session."""
        unlocked = self._unlocked
        who = {} if unlocked is None else {"role": unlocked.role, "name": unlocked.proof.name}

        def hear(verb: str, args: Mapping[str, Any], code: str) -> None:
            self._hears("command", stranger=unlocked is None, **who, verb=verb[:40], args=dict(args) or None, code=code)

        return hear

    def challenge(self, role: str) -> str:
        """A line to sign. Raises Refusal."""
        return self._challenge("unlock", role)

    def sign(self, action: str) -> str:
        """A line to sign for one `action` of the session. Raises Refusal."""
        if self._unlocked is None:
            raise Refusal("not_allowed", "locked", detail_zh="未解锁")
        return self._challenge("sign", self._unlocked.role, action)

    def signed(self, action: str) -> bool:
        """Whether exactly this was signed for just now; that is used up by this."""
        unlocked = self._unlocked
        if unlocked is None or unlocked.signed is None:
            return False
        (what, until), unlocked.signed = unlocked.signed, None
        return what == action and self._clock.monotonic() <= until

    def answer(self, answer: str, then: Callable[[PosagentError | Granted], None]) -> None:
        """Look at a signature; `then` hears the trouble, or who unlocked as what, or signed for what. It may be called
        before this returns, and is not called when the line is locked meanwhile."""
        try:
            challenge = self._gatekeeper.take()
        except PosagentError as error:
            self._hear_answer(Challenge("", ""), None, error.code)
            then(error)
            return

        def checked(message: Message) -> None:
            if "progress" in message:
                return
            deadline.cancel()
            self._job = None
            then(self._checked(challenge, message))

        def too_late() -> None:
            if self._job is job:
                job.cancel()
                busy = Refusal(
                    "busy",
                    "the installer is at work; unlock when it has ended",
                    detail_zh="安装程序正在工作；请待其结束后解锁",
                )
                checked({"error": busy.as_dict()})

        if self._job is not None:
            self._job.cancel()
        deadline = self._timers.call_later(PROOF_S, too_late)
        args = {"challenge": challenge.line, "answer": answer, "role": challenge.role}
        self._job = job = self._engineer.start("engineer", args, checked)

    def lock(self, why: str = "hung up") -> bool:
        """Whether it was unlocked. An answer that is still looked at does not count."""
        unlocked, self._unlocked = self._unlocked, None
        if self._job is not None:
            self._job.cancel()
        self._job = None
        self._idle.clear()
        if unlocked is not None:
            done = self.limits.actions_max - max(unlocked.actions, 0)
            self._hears("session_end", role=unlocked.role, name=unlocked.proof.name, why=why, commands=done)
        return unlocked is not None

    # inside

    def _permit(self, verb: str) -> None:
        if verb in OPEN_VERBS:
            return
        if not any(verb in verbs for verbs in ROLES.values()):
            raise PosagentError("unknown_verb", f"no command {verb[:40]!r}", detail_zh=f"没有命令 {verb[:40]!r}")
        unlocked = self._unlocked
        if unlocked is None:
            raise Refusal(
                "not_allowed",
                "locked; unlock with an engineer's key first (see help)",
                detail_zh="未解锁；请先用工程师密钥解锁（见 help）",
            )
        if verb not in ROLES[unlocked.role]:
            raise Refusal(
                "not_allowed",
                f"the role {unlocked.role} may not {verb}",
                detail_zh=f"角色 {unlocked.role} 无权执行 {verb}",
            )
        unlocked.actions -= 1
        if unlocked.actions < 0:
            self.lock("number of commands")
            raise Refusal(
                "not_allowed",
                "the session's number of commands is used up; unlock again",
                detail_zh="本次会话的命令次数已用完；请重新解锁",
            )

    def _challenge(self, verb: str, role: str, action: str = "") -> str:
        args = {"role": role, "action": action} if action else {"role": role}
        try:
            line = self._gatekeeper.challenge(role, action)
        except PosagentError as error:
            self.hear(verb, args, error.code)
            raise
        self.hear(verb, args, "ok")
        return line

    def _checked(self, challenge: Challenge, message: Message) -> PosagentError | Granted:
        """What an answer is worth, by what the installer says of it."""
        try:
            proof = proven(message)
            unlocked = self._unlocked
            if challenge.action and (unlocked is None or unlocked.proof != proof):
                raise Refusal(
                    "unlock_refused",
                    "signed by another key than the one that unlocked",
                    detail_zh="签名密钥与解锁时的密钥不同",
                )
        except PosagentError as error:
            if error.code in WRONG:
                self._gatekeeper.failed()
            else:
                self._gatekeeper.untried()
            self._hear_answer(challenge, None, error.code)
            return error
        self._gatekeeper.succeeded()
        self._hear_answer(challenge, proof, "ok")
        if challenge.action and unlocked is not None:
            unlocked.signed = (challenge.action, self._clock.monotonic() + CHALLENGE_S)
            return proof.name, challenge.action
        return self._unlock(challenge.role, proof)

    def _hear_answer(self, challenge: Challenge, proof: Proof | None, code: str) -> None:
        who = {} if proof is None else {"name": proof.name, "serial": proof.serial, "key": proof.key}
        told = {"role": challenge.role, "action": challenge.action, "code": code}
        self._hears("signed" if challenge.action else "unlock", stranger=proof is None, **who, **told)

    def _unlock(self, role: str, proof: Proof) -> Granted:
        self.lock("unlocked again")
        until = self._clock.monotonic() + self.limits.session_s_max
        self._unlocked = _Unlocked(role=role, proof=proof, until=until, actions=self.limits.actions_max)
        self.touch()
        return proof.name, role, f"{self.limits.session_s_max / 60:.0f}"

    def _time_over(self) -> None:
        over = self._unlocked is not None and self._clock.monotonic() >= self._unlocked.until
        why = "session over" if over else "idle"
        if self.lock(why):
            self.on_over(why)
