"""Actors: each command of the table becomes a call of a worker or a timer, each answer becomes an event.

Owns: the one place where a worker's trouble turns into an event. How workers are asked: agent.asking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.agent import answers
from posagent.agent.asking import Asking
from posagent.agent.download import Download
from posagent.agent.engine import Engine
from posagent.agent.errand import Deadlines, Workers
from posagent.agent.merchant_data import MerchantData
from posagent.core import ladder, policy
from posagent.core.errors import CATALOGUE, PosagentError, Retry
from posagent.core.model import Command, Event, Occurrence, Situation, State, Update
from posagent.core.ports import Clock, Inhibitor, Timers


class UpdateActors:
    """Carries out the table's commands. `jitter` lengthens each wait by a part from 0 to 1, so that terminals that lost
    the same server do not come back together; `measures`: the old version is measured before it is replaced."""

    def __init__(
        self,
        *,
        engine: Engine,
        workers: Workers,
        timers: Timers,
        clock: Clock,
        inhibitor: Inhibitor,
        deadlines: Deadlines,
        on_restart: Callable[[], None] = lambda: None,
        on_removed: Callable[[tuple[str, ...]], None] = lambda _: None,
        jitter: Callable[[], float] = lambda: 0.0,
        measures: bool = False,
    ) -> None:
        self._engine, self._workers, self._inhibitor, self._deadlines = engine, workers, inhibitor, deadlines
        self._on_restart, self._jitter, self._measures = on_restart, jitter, measures
        self.ask = Asking(engine, workers, timers, clock, deadlines)
        self._refresh_trouble = ""
        self.restarting = False
        self._data = None if workers.data is None else MerchantData(engine, workers.data, self.ask, on_removed)

    def do(self, command: Command, after: Event, situation: Situation) -> None:
        update = situation.update
        match command:
            case Command.WATCH:
                wait_s = policy.wait_s(situation, after, self._engine.limits, self._engine.waits_s)
                self.ask.later(wait_s * (1 + self._jitter()), lambda: self._post(Event.DUE))
            case Command.STOP:
                self.ask.stop()
            case Command.REFRESH:
                self._refresh()
            case Command.SETTLE:
                if self._engine.observation is not None:
                    self._engine.start(self._engine.observation)
            case Command.RETURN:
                self._return()
            case Command.RESTART:
                self._restart(self._engine.report_problem)
            case Command.DISCARD:
                self._discard(update, situation)
            case _:
                assert update is not None, f"{command} without an update"
                getattr(self, f"_{command.value}")(update)

    # one method for each command that needs a worker

    def _discard(self, update: Update | None, situation: Situation) -> None:
        if update is not None and update.source:
            self._workers.fetcher.start("discard", {"id": update.spool}, lambda _: None)
        elif update is not None or not situation.resumable:
            self._workers.fetcher.start("discard", {"keep": None}, lambda _: None)
        if self._data is not None and self._engine.situation.state is State.IDLE:
            self._data.tidy()

    def _refresh(self) -> None:
        def go_on(_: object) -> None:
            self._post(Event.DUE)

        def failed(error: PosagentError) -> None:
            self._engine.problems.pop(self._refresh_trouble, None)
            self._refresh_trouble = error.code
            self._engine.report_problem(error)
            self._post(Event.DUE)

        self._confirm("refresh", go_on, failed)

    def _confirm(self, verb: str, then: Callable[[object], None], failed: Callable[[PosagentError], None]) -> None:
        """The running version is good; what an earlier refresh had to complain of is over then."""

        def confirmed(seen: object) -> None:
            self._engine.problems.pop(self._refresh_trouble, None)
            then(seen)

        self.ask.change_slots(verb, {}, confirmed, failed, self._deadlines.verb_s)

    def _return(self) -> None:
        """Start the good version again that power cuts have made the bootloader leave."""

        def failed(error: PosagentError) -> None:
            self._engine.report_problem(error)
            self._refresh()

        def chosen(_: object) -> None:
            self._restart(failed)

        seen = self._engine.observation
        assert seen is not None
        self.ask.change_slots("prefer", {"slot": seen.spare}, chosen, failed, self._deadlines.verb_s)

    def _fetch(self, update: Any) -> None:
        def ask(verb: str, args: Mapping[str, Any], then: Callable[[Any], None]) -> None:
            workers, deadlines = self._workers, self._deadlines
            match verb:
                case "fetch":
                    known = "tables" in args  # until then nobody knows what else is needed
                    self.ask.start(workers.fetcher, verb, args, then, failed, deadlines.fetch_s, Command.FETCH, known)
                case "probe":  # whatever comes of it
                    self.ask.start(workers.fetcher, verb, args, then, lambda _: then(""), deadlines.fetch_s)
                case "plan":
                    self.ask.start(workers.installer, verb, args, then, failed, deadlines.check_s)
                case _:
                    self.ask.change_slots(verb, args, then, failed, deadlines.install_s)

        failed, probe = self._failing(Event.FETCH_FAILED), ladder.checks_network(self._engine.situation.failure)

        def price() -> float:
            return self._engine.price(update.source)

        begin = Download(update, ask=ask, post=self._post, failed=failed, price=price, probe=probe).begin
        # leftovers of earlier updates make room first; when that fails the fetch itself will say why
        self.ask.start(self._workers.fetcher, "discard", {"keep": update.spool}, begin, begin, self._deadlines.verb_s)

    def _check(self, update: Any) -> None:
        def accepted(changes: Mapping[str, Any]) -> None:
            asked = [*changes["conditions"]]
            if update.action:  # the fleet asks for the merchant's consent, whatever was signed
                asked += update.conditions
            self._post(Event.ACCEPTED, update={**changes, "conditions": list(dict.fromkeys(asked))})

        def failed(error: PosagentError) -> None:
            hopeless = CATALOGUE[error.code].retry is Retry.NEVER
            self._failing(Event.REJECTED if hopeless else Event.CHECK_FAILED)(error)

        args = {"bundle": update.bundle}
        self.ask.start(self._workers.installer, "check", args, accepted, failed, self._deadlines.check_s, Command.CHECK)

    def _install(self, update: Any) -> None:
        failed, deadline_s = self._failing(Event.WRITE_FAILED), self._deadlines.selftest_s

        def measured(figures: Mapping[str, float]) -> None:
            self._post(Event.PROGRESSED, update={"baseline": figures})
            back_up(figures)

        def back_up(_: object) -> None:
            if self._data is None and update.only_parameters:
                failed(PosagentError("parameters_alone", "this terminal has no data.format"))
            elif self._data is None or update.backup or update.only_parameters:
                write()
            else:
                self._data.back_up(update, backed_up, failed)

        def backed_up(name: str) -> None:
            self._post(Event.PROGRESSED, update={"backup": name})
            write()

        def write() -> None:
            args = {"bundle": update.bundle, "slot": update.target, "update_id": update.id}
            self.ask.change_slots("write", args, complete, failed, self._deadlines.install_s, Command.INSTALL)

        def complete(_: object) -> None:
            self._post(Event.SLOT_COMPLETE)

        if self._measures and not update.baseline:  # whatever comes of it: what is missing is said by the tests
            self.ask.start(self._workers.selftest, "baseline", {}, measured, back_up, deadline_s, whole=True)
        else:
            back_up(update)

    def _arm(self, update: Any) -> None:
        self.ask.change_slots(
            "arm",
            {"slot": update.target},
            lambda _: self._post(Event.ARMED, update={"armed": True, "armed_at": round(self._engine.now(), 3)}),
            self._failing(Event.ARM_FAILED),
            self._deadlines.verb_s,
        )

    def _reboot(self, _: Any) -> None:
        self._restart(self._failing(Event.REBOOT_FAILED))

    def _restart(self, failed: Callable[[PosagentError], None]) -> None:
        def asked(_: object) -> None:
            self.ask.later(timeout_s, still_here)
            self._on_restart()

        def refused(error: PosagentError) -> None:
            if error.code == "worker_lost":
                asked(error)  # it went down with everything else: the restart has begun
            else:
                self.restarting = False
                failed(error)

        def still_here() -> None:
            self.restarting = False
            failed(PosagentError("reboot_failed", f"still running {timeout_s:.0f} s after asking for a restart"))

        timeout_s = self._engine.limits.reboot_timeout_s
        self.restarting = True
        self._inhibitor.release()
        self.ask.start(self._workers.installer, "reboot", {}, asked, refused, self._deadlines.verb_s)

    def _run_tests(self, update: Any) -> None:
        known: Mapping[str, Any] = {}

        def begin(_: object) -> None:
            if self._data is None:
                test({})
            else:
                failed, again = self._failing(Event.TESTS_FAILED), self._failing(Event.TESTS_LOST)
                self._data.take_over(update, test, failed, again)

        def test(told: Mapping[str, Any]) -> None:
            nonlocal known
            known, args = told, {"baseline": dict(update.baseline)}
            self.ask.start(self._workers.selftest, "run", args, tested, lost, self._deadlines.selftest_s, whole=True)

        def tested(told: answers.Tested) -> None:
            if told.failure is None:
                changes = {"measures": told.measures, **known}
                self._post(Event.TESTS_PASSED, progressed=[Command.RUN_TESTS.value], update=changes)
            else:
                self._post(Event.TESTS_FAILED, failure=told.failure, **({"update": known} if known else {}))

        def lost(error: PosagentError) -> None:
            if error.code == "worker_stalled":
                self._post(Event.DEADLINE, **({"update": known} if known else {}))
            else:
                self._failing(Event.TESTS_LOST, **known)(error)

        if not update.only_parameters and 0 < update.power_cycles <= self._engine.limits.power_cycles_max:
            # switching off must not use up the new version's tries; if this fails, the worst is another trial
            self.ask.start(self._workers.installer, "renew", {}, begin, begin, self._deadlines.verb_s)
        else:
            begin(None)

    def _mark_good(self, update: Any) -> None:
        failed = self._failing(Event.MARK_FAILED)

        def switch(seen: object) -> None:
            """Marked first: before the switch the old data is still there for the old version."""
            if self._data is None:
                done(seen)
            else:
                self._data.switch(update, done, failed)

        def done(_: object) -> None:
            self._post(Event.MARKED_GOOD)

        def mark(_: object) -> None:
            self._confirm("mark_good", switch, failed)

        if update.only_parameters:
            switch(None)
        elif self._data is None:
            mark(None)
        else:  # the copy is looked at once more: what the tests have made of it
            self._data.take_over(update, mark, failed, failed)

    def _mark_bad(self, update: Any) -> None:
        self._leave("mark_bad", update, Event.MARKED_BAD)

    def _disarm(self, update: Any) -> None:
        self._leave("disarm", update, Event.DISARMED)

    def _leave(self, verb: str, update: Any, done: Event) -> None:
        def failed(error: PosagentError) -> None:
            if CATALOGUE[error.code].retry is Retry.NEVER:
                self._engine.report_problem(error)  # the update ends here, what it leaves does not
            self._failing(Event.MARK_FAILED)(error)

        if not update.only_parameters:
            self.ask.change_slots(
                verb, {"slot": update.target}, lambda _: self._post(done), failed, self._deadlines.verb_s
            )
        elif self._data is not None:
            self._data.withdraw(update, lambda _: self._post(done), failed)
        else:
            self._post(done)

    # what comes of it

    def _post(self, event: Event, **data: Any) -> None:
        self._engine.post(Occurrence(event=event, data=data))

    def _failing(self, event: Event, **changes: Any) -> Callable[[PosagentError], None]:
        def post(error: PosagentError) -> None:
            self._post(event, failure=answers.failure(error), **({"update": changes} if changes else {}))

        return post
