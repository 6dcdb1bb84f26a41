"""Who may do what on the line: locked, or unlocked by an engineer in a role, for a while.

Owns: the proof of an engineer's key, the limits of a session, and which verbs a role may use; both modes of the line,
for people and for programs, ask it. Rules: a session ends by time, idleness, number of commands, logout or hang-up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posagent.console.auth import ROLES, Gatekeeper, proven
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Job, Message, Timers, Worker

PROOF_S = 10.0  # the installer has no time for an answer while it writes a slot
OPEN_VERBS = frozenset({"status", "why", "estimate", "help", "unlock", "logout", "machine"})
"""What needs no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """When an unlocked session ends; seconds and number of commands."""

    session_s_max: float = 900.0
    idle_s_max: float = 120.0
    actions_max: int = 20


@dataclass(slots=True, kw_only=True)
class _Unlocked:
    role: str
    name: str
    until: float
    actions: int


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
    ) -> None:
        self._timers = timers
        self._clock = clock
        self._engineer = engineer
        self._gatekeeper = gatekeeper
        self.limits = limits
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
        return "console" if self._unlocked is None else f"console {self._unlocked.name}"

    @property
    def session(self) -> tuple[str, str, float] | None:
        """Name, role, and for how many seconds; None while locked."""
        unlocked = self._unlocked
        if unlocked is None:
            return None
        return unlocked.name, unlocked.role, max(0.0, unlocked.until - self._clock.monotonic())

    def touch(self) -> str:
        """Somebody is there. An unlocked session that is over ends before anything is done: then this says why."""
        unlocked = self._unlocked
        if unlocked is None:
            return ""
        now = self._clock.monotonic()
        if now >= unlocked.until:
            self.lock()
            return "session over"
        self._idle.set(min(now + self.limits.idle_s_max, unlocked.until))
        return ""

    def permit(self, verb: str) -> None:
        """Raises PosagentError `unknown_verb`, Refusal `not_allowed`."""
        if verb in OPEN_VERBS:
            return
        if not any(verb in verbs for verbs in ROLES.values()):
            raise PosagentError("unknown_verb", f"no command {verb[:40]!r}")
        unlocked = self._unlocked
        if unlocked is None:
            raise Refusal("not_allowed", "locked; unlock with an engineer's key first (see help)")
        if verb not in ROLES[unlocked.role]:
            raise Refusal("not_allowed", f"the role {unlocked.role} may not {verb}")
        unlocked.actions -= 1
        if unlocked.actions < 0:
            self.lock()
            raise Refusal("not_allowed", "the session's number of commands is used up; unlock again")

    def challenge(self, role: str) -> str:
        """A line to sign. Raises Refusal."""
        return self._gatekeeper.challenge(role)

    def answer(self, answer: str, then: Callable[[PosagentError | str], None]) -> None:
        """Look at a signature; `then` hears the trouble, or who unlocked as what. It may be called before this returns,
        and is not called when the line is locked meanwhile."""
        try:
            challenge, role = self._gatekeeper.take()
        except PosagentError as error:
            then(error)
            return

        def checked(message: Message) -> None:
            if "progress" in message:
                return
            deadline.cancel()
            self._job = None
            try:
                name = proven(message)
            except PosagentError as error:
                if error.code in ("unlock_refused", "unlock_expired"):
                    self._gatekeeper.failed()
                then(error)
                return
            self._gatekeeper.succeeded()
            then(self._unlock(role, name))

        def too_late() -> None:
            if self._job is job:
                job.cancel()
                checked({"error": Refusal("busy", "the installer is at work; unlock when it has ended").as_dict()})

        if self._job is not None:
            self._job.cancel()
        deadline = self._timers.call_later(PROOF_S, too_late)
        args = {"challenge": challenge, "answer": answer, "role": role}
        self._job = job = self._engineer.start("engineer", args, checked)

    def lock(self) -> bool:
        """Whether it was unlocked. An answer that is still looked at does not count."""
        was_unlocked, self._unlocked = self._unlocked is not None, None
        if self._job is not None:
            self._job.cancel()
        self._job = None
        self._idle.clear()
        return was_unlocked

    def _unlock(self, role: str, name: str) -> str:
        until = self._clock.monotonic() + self.limits.session_s_max
        self._unlocked = _Unlocked(role=role, name=name, until=until, actions=self.limits.actions_max)
        self.touch()
        return f"{name} as {role}, {self.limits.session_s_max / 60:.0f} min"

    def _time_over(self) -> None:
        over = self._unlocked is not None and self._clock.monotonic() >= self._unlocked.until
        if self.lock():
            self.on_over("session over" if over else "idle")
