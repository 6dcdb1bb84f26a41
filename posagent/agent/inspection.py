"""What a person may have looked at beside the update: self-tests, the network, the last log lines.

Owns: that nothing of it is journalled or waits for anything, and that it gives way to the update: a test ends when a
critical section begins, a look at the network when the fetcher is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from posagent.agent import answers
from posagent.agent.errand import Deadlines, Errand, Workers
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Message, Timers, Worker

Reply = Callable[[Message], None]
HangUp = Callable[[], None]


class Aside:
    """One verb of a worker, for one who asks at a time. `deadline_s` bounds each step, or the `whole` verb."""

    def __init__(
        self,
        *,
        worker: Worker,
        verb: str,
        read: Callable[[Message], Message],
        timers: Timers,
        clock: Clock,
        deadline_s: float,
        whole: bool = False,
    ) -> None:
        self._worker, self._verb, self._read = worker, verb, read
        self._timers, self._clock = timers, clock
        self._deadline_s, self._whole = deadline_s, whole
        self._asked: tuple[Errand, Reply] | None = None

    def ask(self, reply: Reply, args: Mapping[str, Any] = MappingProxyType({})) -> HangUp:
        """Answers through `reply`. Raises Refusal `busy`."""
        if self._asked is not None:
            raise Refusal("busy", "somebody else asked for the same; wait for its end", detail_zh="他人已发起，请稍候")
        stall = Deadline(self._timers, self._clock, lambda: self.end(self._stalled()))
        errand = Errand(self._clock, stall, self._deadline_s)
        asked = self._asked = errand, reply

        def notify(message: Message) -> None:
            if self._asked is not asked:
                return
            try:
                told = self._read(message)
            except PosagentError as error:
                self.end(error)
                return
            if "progress" not in told:
                self._forget()
            elif not self._whole:
                errand.put_off()
            reply(told)

        def hang_up() -> None:
            if self._asked is asked:
                self._forget()

        errand.given_to(self._worker.start(self._verb, args, notify))
        return hang_up

    def end(self, why: PosagentError) -> None:
        """Hang up on the worker; whoever asked is told why."""
        if self._asked is not None:
            _, reply = self._asked
            self._forget()
            reply({"error": why.as_dict()})

    def _forget(self) -> None:
        if self._asked is not None:
            self._asked[0].end()
            self._asked = None

    def _stalled(self) -> PosagentError:
        return PosagentError("worker_stalled", f"{self._verb}: no progress for {self._deadline_s:.0f} s")


class Inspection:
    """`lines` gives the last log lines of this process, so many of them."""

    def __init__(
        self,
        *,
        workers: Workers,
        timers: Timers,
        clock: Clock,
        deadlines: Deadlines,
        lines: Callable[[int], Sequence[Mapping[str, Any]]] = lambda _: (),
    ) -> None:
        self.lines = lines
        self.tests = Aside(
            worker=workers.selftest,
            verb="run",
            read=answers.tested,
            timers=timers,
            clock=clock,
            deadline_s=deadlines.selftest_s,
            whole=True,
        )
        self.network = Aside(
            worker=workers.fetcher,
            verb="probe",
            read=answers.probed,
            timers=timers,
            clock=clock,
            deadline_s=deadlines.fetch_s,
        )

        self.data = None if workers.data is None else self._of_data(workers.data, timers, clock, deadlines)

    @staticmethod
    def _of_data(worker: Worker, timers: Timers, clock: Clock, deadlines: Deadlines) -> Mapping[str, Aside]:
        """By the worker's verb."""
        return {
            verb: Aside(
                worker=worker,
                verb=verb,
                read=answers.data_seen,
                timers=timers,
                clock=clock,
                deadline_s=deadlines.data_s,
            )
            for verb in ("verify", "restore")
        }

    def give_way(self, *, critical: bool, fetching: bool) -> None:
        """The update has got to where it must not be disturbed. Cheap, call it as often as you like."""
        if critical:
            for aside in (self.tests, *(self.data or {}).values()):
                aside.end(Refusal("critical_section", "the update has come to its critical section"))
        if fetching:
            self.network.end(Refusal("busy", "the download goes on, and needs the fetcher"))
