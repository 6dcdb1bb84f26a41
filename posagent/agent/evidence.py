"""What the agent tells the audit log, and when it has the installer seal it.

Owns: which events are evidence: what the console hears, how updates begin and end. Sealed is at the end of a session
and of an update. Rules: the installer is not asked while an update is in its critical section, where it has other work;
the end of that update asks again. Whoever cannot seal tries TRIES times, and then waits for the next occasion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from posagent.agent.audit import AuditLog
from posagent.agent.errand import Errand
from posagent.core import update_record
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError
from posagent.core.model import Decision
from posagent.core.ports import Clock, Message, Timers, Worker

SEAL_AFTER_S = 1.0
ANSWER_S = 60.0
AGAIN_S = 120.0
TRIES = 3


class Evidence:
    """Of one terminal. `may_seal` says whether the installer has time; `on_trouble` hears of a log that was tampered
    with, as far as the installer can tell."""

    def __init__(
        self,
        *,
        log: AuditLog,
        notary: Worker,
        timers: Timers,
        clock: Clock,
        may_seal: Callable[[], bool],
        on_trouble: Callable[[PosagentError], None],
    ) -> None:
        self.log = log
        self._notary = notary
        self._timers = timers
        self._clock = clock
        self._may_seal = may_seal
        self._on_trouble = on_trouble
        self._due = self._armed = False
        self._tries_left = TRIES
        self._errand: Errand | None = None
        self._key = ""

    def hear(self, event: str, *, stranger: bool = False, **fields: Any) -> None:
        """Something on the line."""
        self.log.note(event, stranger=stranger, **fields)
        if event == "session_end":
            self.seal()

    def decided(self, decision: Decision) -> None:
        """After every decision, before its commands."""
        record = decision.record
        if record is None:
            return
        if (outcome := record.get("outcome")) is not None:
            told = {name: outcome.get(name) for name in ("id", "version", "outcome", "code")}
            self.log.note("update_ended", **told, **update_record.for_audit(outcome))
            self.seal()
        if (begins := record.get("begins")) is not None:
            told = {name: begins.get(name) for name in ("id", "version", "source")}
            self.log.note("update_begun", by=begins.get("requested_by"), **told)

    def answer(self, count: int) -> dict[str, Any]:
        """What the API tells. Raises PosagentError `audit_unreadable`."""
        try:
            records = self.log.last(count)
        except OSError as error:
            raise PosagentError("audit_unreadable", str(error.strerror or error)) from None
        return {"records": records, "size": self.log.size, "key": self._key}

    def seal(self) -> None:
        """Soon, and with everything that comes until then."""
        self._due, self._tries_left = True, TRIES
        self._later(SEAL_AFTER_S)

    def _later(self, seconds: float) -> None:
        if not self._armed:
            self._armed = True
            self._timers.call_later(seconds, self._ask)

    def _ask(self) -> None:
        self._armed = False
        if self._errand is not None and self._errand.open:
            self._later(SEAL_AFTER_S)
            return
        if not self._due or not self._may_seal():
            return

        def stalled() -> None:
            errand.end()
            self._failed()

        def answered(message: Message) -> None:
            if errand.open and "progress" not in message:
                errand.end()
                self._sealed(message)

        self._due, self._tries_left = False, self._tries_left - 1
        errand = self._errand = Errand(self._clock, Deadline(self._timers, self._clock, stalled), ANSWER_S)
        errand.given_to(self._notary.start("seal_audit", {}, answered))

    def _sealed(self, message: Message) -> None:
        try:
            result = message["result"]
            note, key, whole = str(result["note"]), str(result["key"]), result["whole"] is True
        except (KeyError, TypeError):
            self._failed()
            return
        self._tries_left, self._key = TRIES, key
        self.log.checkpoint(note, key)
        if not whole:
            self._on_trouble(PosagentError("audit_broken", "the log does not go on from what was sealed before"))

    def _failed(self) -> None:
        if self._tries_left > 0:
            self._due = True
            self._later(AGAIN_S)
