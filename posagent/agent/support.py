"""Support bundles: has them made, keeps the last few, and sees to it that an update that failed has one.

Owns: `STATE/support`: NUMBER-CODE.bundle, the newest has the highest number; and tickets: who has to call service after
an update that failed finds the code of its bundle in the outcome, without having asked for one.
Rules: the worker redacts and seals; what it answers is kept as it is. A ticket is made after the update has ended and
waits for nothing, and nothing waits for it; one that a power cut has taken is made at the next start. Where no vendor's
key is configured there are no tickets. At most one bundle is made at a time, and a ticket is tried once by a process.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posagent.agent import answers
from posagent.agent.answers import Sealed
from posagent.agent.engine import Engine
from posagent.agent.errand import Errand
from posagent.core import durable, ladder, model
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError, Refusal
from posagent.core.model import Event, Occurrence
from posagent.core.ports import Clock, Files, Message, Timers, Worker

KEPT_MAX = 3
DEADLINE_S = 60.0
TICKET_AFTER_S = 2.0
"""Until then, whatever follows on the end of an update has begun."""
KEEP_FREE_BYTES = 1 << 20
LOG_LINES_MAX, LOG_CHARACTERS_MAX = 200, 48 << 10
CHECKS_CHARACTERS_MAX = 40 << 10
"""With the rest, in a request of one line."""
_NAME = re.compile(r"\d{6}-[0-9A-Z]{4}-[0-9A-Z]{4}\.bundle")


class Support:
    """`make` for whoever asks, `changed` after every decision. `facts` gives the parts that only the agent knows, `log`
    its last lines, oldest first; with `tickets` an update that failed gets one."""

    def __init__(
        self,
        *,
        engine: Engine,
        worker: Worker,
        timers: Timers,
        clock: Clock,
        files: Files,
        directory: str,
        facts: Callable[[], Mapping[str, Any]],
        log: Callable[[int], Sequence[Mapping[str, Any]]] = lambda _: (),
        tickets: bool = False,
    ) -> None:
        self._engine, self._worker = engine, worker
        self._timers, self._clock = timers, clock
        self._files, self._directory = files, directory
        self._facts, self._log = facts, log
        self._tickets = tickets
        self._tried: set[str] = set()
        self._errand: Errand | None = None
        self._planned = False

    @property
    def busy(self) -> bool:
        """A bundle is being made, or soon will be."""
        return self._planned or self._errand is not None

    # tickets

    def changed(self) -> None:
        """Whether the last update wants a ticket now. Cheap, call it as often as you like."""
        if self._tickets and not self._planned and self._wanting() is not None:
            self._planned = True
            self._timers.call_later(TICKET_AFTER_S, self._ticket)

    def _wanting(self) -> Mapping[str, Any] | None:
        """The outcome that has no ticket and should."""
        last = self._engine.situation.last_outcome
        if self._engine.observation is None or not ladder.wants_ticket(last) or last is None:
            return None
        return None if last["id"] in self._tried else last

    def _ticket(self) -> None:
        outcome = self._wanting()
        self._planned = outcome is not None and self._errand is not None
        if self._planned:  # somebody has one made: after that
            self._timers.call_later(TICKET_AFTER_S, self._ticket)
        if outcome is None or self._planned:
            return
        self._tried.add(outcome["id"])
        reason = str(outcome["code"])

        def made(sealed: Sealed, _: str) -> None:
            at = round(self._clock.wall(), 3)
            ticket = {"id": outcome["id"], "code": sealed.code, "at": at, "reason": reason}
            self._engine.post(Occurrence(event=Event.TICKETED, data={"ticket": ticket}))

        self._start(reason, None, made, self._engine.report_problem)

    # making one

    def make(
        self, checks: Any, then: Callable[[dict[str, Any], bytes], None], reply: Callable[[Message], None]
    ) -> None:
        """For whoever asks; `checks` are the doctor's findings, where it could look. `then` gets `{path, size, code,
        sha256, redacted}` and the file. Raises Refusal `busy`, PosagentError `bad_request`."""
        if self._errand is not None:
            raise Refusal("busy", "a support bundle is being made", detail_zh="正在生成支持包，请稍候")
        if len(repr(checks)) > CHECKS_CHARACTERS_MAX:
            raise PosagentError("bad_request", f"checks of more than {CHECKS_CHARACTERS_MAX} characters")

        def made(sealed: Sealed, path: str) -> None:
            told = {"code": sealed.code, "sha256": sealed.sha256, "redacted": sealed.redacted}
            then({"path": path, "size": len(sealed.file), **told}, sealed.file)

        self._start("asked for", checks, made, lambda error: reply({"error": error.as_dict()}))

    def _start(
        self,
        reason: str,
        checks: Any,
        then: Callable[[Sealed, str], None],
        failed: Callable[[PosagentError], None],
    ) -> None:
        def end() -> None:
            errand.end()
            self._errand = None

        def stalled() -> None:
            end()
            failed(PosagentError("support_failed", f"not done after {DEADLINE_S:.0f} s"))

        def notify(message: Message) -> None:
            if not errand.open or "progress" in message:
                return
            end()
            try:
                sealed = answers.read("make", message)
                path = self._keep(sealed)
            except PosagentError as error:
                ours = error.code.startswith("support_")
                failed(error if ours else PosagentError("support_failed", f"{error.code}: {error.detail}"))
            else:
                self._engine.problems.pop("support_failed", None)
                then(sealed, path)

        errand = self._errand = Errand(self._clock, Deadline(self._timers, self._clock, stalled), DEADLINE_S)
        live = {**self._facts(), **({"checks": {"findings": checks}} if checks else {})}
        errand.given_to(self._worker.start("make", {"reason": reason, "live": live, "log": self._lines()}, notify))

    def _lines(self) -> list[Mapping[str, Any]]:
        """The newest of the log that fit."""
        room, kept = LOG_CHARACTERS_MAX, list[Mapping[str, Any]]()
        for line in reversed(self._log(LOG_LINES_MAX)):
            room -= len(repr(line))
            if room < 0:
                break
            kept.insert(0, line)
        return kept

    # keeping them

    def _keep(self, sealed: Sealed) -> str:
        """The path of the bundle, durable. Raises PosagentError `support_failed`."""
        try:
            self._files.make_dir(self._directory)
            known = [name for name in self._files.names(self._directory) if _NAME.fullmatch(name)]
            number = int(known[-1].partition("-")[0]) + 1 if known else 1
            same = [name for name in known if f"-{sealed.code}." in name]
            name = same[0] if same else f"{number:06}-{sealed.code}.bundle"
            stay = [one for one in known if one != name][-(KEPT_MAX - 1) :]
            for other in self._files.names(self._directory):
                if other not in (*stay, name):
                    self._files.unlink(f"{self._directory}/{other}")
            if self._files.free_bytes(self._directory) < len(sealed.file) + KEEP_FREE_BYTES:
                raise PosagentError("support_failed", "no space on the data partition")
            path = f"{self._directory}/{name}"
            durable.replace(self._files, path, sealed.file)
        except OSError as error:
            raise PosagentError("support_failed", f"{self._directory}: {error.strerror or error}") from None
        return path


def facts_of(engine: Engine, status: Mapping[str, Any], why: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that only the agent knows, most useful first; how the last update ended is in the situation."""
    seen, last = engine.observation, ("last_outcome",)
    return {
        "status": {name: value for name, value in status.items() if name not in last},
        "why": {name: value for name, value in why.items() if name not in last},
        "situation": model.snapshot(engine.situation)["snapshot"],
        "slots": None if seen is None else dataclasses.asdict(seen),
        "power": dataclasses.asdict(engine.power),
    }
