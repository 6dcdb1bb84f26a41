"""Actors: each command of the table becomes a call of a worker or a timer, each answer becomes an event.

Owns: the one place where a worker's trouble turns into an event, and the deadline by which a worker must get further.
Rules: one worker job for the update at a time; a new one hangs up on the old. After every verb that may have changed
the slots they are observed again before the event is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.agent.engine import Engine
from posagent.core import policy
from posagent.core.deadline import Deadline
from posagent.core.errors import CATALOGUE, PosagentError, Retry
from posagent.core.model import Command, Event, Observation, Occurrence, Situation, SlotView
from posagent.core.ports import Clock, Inhibitor, Job, Message, Timer, Timers, Worker

GRACE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    installer: Worker
    fetcher: Worker
    selftest: Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds within which a worker must report progress or end."""

    fetch_s: float = 90.0
    check_s: float = 120.0
    install_s: float = 120.0
    selftest_s: float = 300.0
    verb_s: float = 60.0


def observation_of(data: Mapping[str, Any]) -> Observation:
    """The installer's `observe` result as an observation. Raises PosagentError `internal` if it is not one."""
    try:
        slots = {
            name: SlotView(**{key: view[key] for key in SlotView.__dataclass_fields__ if key in view})
            for name, view in data["slots"].items()
        }
        seen = Observation(
            booted=data["booted"],
            order=tuple(data["order"]),
            slots=slots,
            floor=int(data.get("floor", 0)),
            contradictions=tuple(data.get("contradictions", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PosagentError("internal", "the installer's observation is not understood") from None
    if seen.booted not in seen.slots or len(seen.slots) != 2:
        raise PosagentError("slot_missing", f"slots {', '.join(seen.slots)}, running from {seen.booted}")
    return seen


class UpdateActors:
    """Carries out the table's commands."""

    def __init__(
        self,
        *,
        engine: Engine,
        workers: Workers,
        timers: Timers,
        clock: Clock,
        inhibitor: Inhibitor,
        deadlines: Deadlines,
    ) -> None:
        self._engine = engine
        self._workers = workers
        self._timers = timers
        self._clock = clock
        self._inhibitor = inhibitor
        self._deadlines = deadlines
        self._job: Job | None = None
        self._stall: Deadline | None = None
        self._overdue_at: float | None = None
        self._due: Timer | None = None
        self._turn = 0
        self.restarting = False

    @property
    def healthy(self) -> bool:
        """False when work is long past its deadline and nothing ended it: then the watchdog may bite."""
        return self._overdue_at is None or self._clock.monotonic() < self._overdue_at + GRACE_S

    def do(self, command: Command, after: Event, situation: Situation) -> None:
        update = situation.update
        match command:
            case Command.WATCH:
                self._watch(policy.wait_s(situation, after, self._engine.limits))
            case Command.STOP:
                self.stop()
            case Command.REFRESH:
                self._installer("mark_good", {}, lambda _: None, self._engine.report_problem, self._deadlines.verb_s)
            case Command.DISCARD:
                if update is not None:
                    self._workers.fetcher.start("discard", {"id": update.spool}, lambda _: None)
            case _:
                assert update is not None, f"{command} without an update"
                getattr(self, f"_{command.value}")(update)

    def stop(self) -> None:
        """Hang up on the worker and forget timers of the present work."""
        self._turn += 1
        for pending in (self._job, self._due):
            if pending is not None:
                pending.cancel()
        if self._stall is not None:
            self._stall.clear()
        self._job = self._stall = self._due = self._overdue_at = None

    def observe(self, then: Callable[[Observation], None], failed: Callable[[PosagentError], None]) -> None:
        """Look at the hardware."""

        def seen(result: Mapping[str, Any]) -> None:
            try:
                observation = observation_of(result)
            except PosagentError as error:
                failed(error)
                return
            self._engine.observation = observation
            then(observation)

        self._start(self._workers.installer, "observe", {}, seen, failed, self._deadlines.verb_s)

    # one method for each command that needs a worker

    def _fetch(self, update: Any) -> None:
        def begin(_: object) -> None:
            self._start(self._workers.fetcher, "fetch", args, fetched, failed, self._deadlines.fetch_s, Command.FETCH)

        def fetched(result: Mapping[str, Any]) -> None:
            changes = {"bundle": str(result["bundle"]), "bytes_done": 0, "bytes_total": 0}
            self._post(Event.FETCHED, update=changes)

        failed = self._failing(Event.FETCH_FAILED)
        args = {"id": update.spool, "source": update.source}
        if update.length is not None:
            args |= {"length": update.length, "sha256": update.sha256}
        # leftovers of earlier updates make room first; when that fails the fetch itself will say why
        self._start(self._workers.fetcher, "discard", {"keep": update.spool}, begin, begin, self._deadlines.verb_s)

    def _check(self, update: Any) -> None:
        def accepted(result: Mapping[str, Any]) -> None:
            changes = {"version": str(result["version"]), "digest": str(result["digest"])}
            self._post(Event.ACCEPTED, update={**changes, "image_size": int(result["image_size"])})

        def failed(error: PosagentError) -> None:
            hopeless = CATALOGUE[error.code].retry is Retry.NEVER
            self._failing(Event.REJECTED if hopeless else Event.CHECK_FAILED)(error)

        args = {"bundle": update.bundle}
        self._start(self._workers.installer, "check", args, accepted, failed, self._deadlines.check_s, Command.CHECK)

    def _install(self, update: Any) -> None:
        self._installer(
            "write",
            {"bundle": update.bundle, "slot": update.target, "update_id": update.id},
            lambda _: self._post(Event.SLOT_COMPLETE, update={"bytes_done": 0, "bytes_total": 0}),
            self._failing(Event.WRITE_FAILED),
            self._deadlines.install_s,
            Command.INSTALL,
        )

    def _arm(self, update: Any) -> None:
        self._installer(
            "arm",
            {"slot": update.target},
            lambda _: self._post(Event.ARMED, update={"armed": True, "armed_at": round(self._engine.now(), 3)}),
            self._failing(Event.ARM_FAILED),
            self._deadlines.verb_s,
        )

    def _reboot(self, _: Any) -> None:
        def asked(_: object) -> None:
            self._due = self._timers.call_later(timeout_s, still_here)

        def failed(error: PosagentError) -> None:
            if error.code == "worker_lost":
                asked(error)  # it went down with everything else: the restart has begun
            else:
                self.restarting = False
                self._failing(Event.REBOOT_FAILED)(error)

        def still_here() -> None:
            self.restarting = False
            error = PosagentError("reboot_failed", f"still running {timeout_s:.0f} s after asking for a restart")
            self._failing(Event.REBOOT_FAILED)(error)

        timeout_s = self._engine.limits.reboot_timeout_s
        self.restarting = True
        self._inhibitor.release()
        self._start(self._workers.installer, "reboot", {}, asked, failed, self._deadlines.verb_s)

    def _run_tests(self, _: Any) -> None:
        def tested(result: Mapping[str, Any]) -> None:
            checks = list(result["checks"])
            if result["passed"] is True:
                self._post(Event.TESTS_PASSED)
                return
            broken = next((check for check in checks if not check["passed"]), {"name": "?", "detail": "no checks"})
            code = "selftest_deadline" if result.get("deadline") else "selftest_failed"
            failure = {"code": code, "detail": f"{broken['name']}: {broken['detail']}", "checks": checks}
            self._post(Event.TESTS_FAILED, failure=failure)

        def lost(error: PosagentError) -> None:
            if error.code == "worker_stalled":
                self._post(Event.DEADLINE)
            else:
                self._failing(Event.TESTS_LOST)(error)

        self._start(self._workers.selftest, "run", {}, tested, lost, self._deadlines.selftest_s, whole=True)

    def _mark_good(self, _: Any) -> None:
        self._installer(
            "mark_good",
            {},
            lambda _: self._post(Event.MARKED_GOOD),
            self._failing(Event.MARK_FAILED),
            self._deadlines.verb_s,
        )

    def _mark_bad(self, update: Any) -> None:
        self._installer(
            "mark_bad",
            {"slot": update.target},
            lambda _: self._post(Event.MARKED_BAD),
            self._failing(Event.MARK_FAILED),
            self._deadlines.verb_s,
        )

    # how a worker is asked

    def _watch(self, seconds: float) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self._timers.call_later(seconds, lambda: self._post(Event.DUE))

    def _installer(
        self,
        verb: str,
        args: Mapping[str, Any],
        then: Callable[[object], None],
        failed: Callable[[PosagentError], None],
        deadline_s: float,
        command: Command | None = None,
    ) -> None:
        """A verb that changes slots, then a new look at them."""
        self._start(
            self._workers.installer,
            verb,
            args,
            lambda _: self.observe(then, failed),
            failed,
            deadline_s,
            command,
        )

    def _start(
        self,
        worker: Worker,
        verb: str,
        args: Mapping[str, Any],
        then: Callable[[Mapping[str, Any]], None],
        failed: Callable[[PosagentError], None],
        deadline_s: float,
        command: Command | None = None,
        whole: bool = False,
    ) -> None:
        """Ask a worker; `deadline_s` bounds each step, or the `whole` verb."""
        self.stop()
        turn = self._turn

        def stalled() -> None:
            self.stop()
            failed(PosagentError("worker_stalled", f"{verb}: no progress for {deadline_s:.0f} s"))

        stall = Deadline(self._timers, self._clock, stalled)

        def watch_stall() -> None:
            self._overdue_at = self._clock.monotonic() + deadline_s
            stall.set(self._overdue_at)

        def notify(message: Message) -> None:
            if turn != self._turn:
                return
            if "progress" in message:
                if not whole:
                    watch_stall()
                self._report(message["progress"], command)
                return
            self.stop()
            try:
                if "error" in message:
                    raise PosagentError.from_dict(message["error"])
                result = message["result"]
            except PosagentError as error:
                failed(error)
                return
            then(result)

        self._stall = stall
        watch_stall()
        job = worker.start(verb, args, notify)
        if turn == self._turn:  # it may have answered at once
            self._job = job

    def _report(self, progress: Mapping[str, Any], command: Command | None) -> None:
        if command is None:
            return
        self._engine.report_progress(
            int(progress.get("bytes_done", 0)),
            int(progress.get("bytes_total") or 0),
            str(progress.get("step", "")),
            command,
        )

    def _post(self, event: Event, **data: Any) -> None:
        self._engine.post(Occurrence(event=event, data=data))

    def _failing(self, event: Event) -> Callable[[PosagentError], None]:
        def post(error: PosagentError) -> None:
            failure: dict[str, Any] = {"code": error.code, "detail": error.detail}
            if "retry_after_s" in error.facts:
                failure["retry_after_s"] = error.facts["retry_after_s"]
            self._post(event, failure=failure)

        return post
