"""The terminal's one daily restart (PCI: memory is initialised anew at least once a day), where the agent makes it.

Rules: it is made at its time, unless the terminal has started within the hour before (core.window): for an update,
which is planned so, or for whatever reason. An update that is planned to begin soon, or under way, is waited for, but
it may not come: then the terminal restarts after all. With a clock that cannot be right it restarts when it has run for
a day. A payment under way puts it off by minutes, not longer than `PUT_OFF_S_MAX`: then it waits for the next day, and
the status says so.
"""

from __future__ import annotations

from collections.abc import Callable

from posagent.agent.engine import Engine
from posagent.core.errors import PosagentError
from posagent.core.hours import DAY_S, Calendar, spells
from posagent.core.model import Event, Gate, Occurrence, State
from posagent.core.ports import Clock, Timers
from posagent.core.window import STANDS_S

AGAIN_S = 60.0
LOOK_S = 3600.0
"""So often the clock is looked at: it may have been set since, and a day would go by."""
PUT_OFF_S_MAX = 3 * 3600.0


class DailyRestart:
    """`may` is the gate of the payment applications, `up_s` says how long the terminal has run; `begin` it when the
    hardware is known."""

    def __init__(
        self,
        *,
        engine: Engine,
        timers: Timers,
        clock: Clock,
        calendar: Calendar,
        may: Callable[[], Gate],
        up_s: Callable[[], float],
    ) -> None:
        self._engine, self._timers, self._clock = engine, timers, clock
        self._calendar, self._may, self._up_s = calendar, may, up_s
        self._began = clock.monotonic()

    def begin(self) -> None:
        if not self._engine.clock_known:
            self._without_clock()
            return
        now_s = self._clock.wall()
        ahead = spells(self._calendar.zone, now_s - DAY_S, now_s + 2 * DAY_S)
        moment = next((one for one in self._calendar.restarts_s(ahead) if one > now_s), None)
        if moment is None:
            return
        if moment - now_s > LOOK_S:
            self._timers.call_later(LOOK_S, self.begin)
        else:
            self._timers.call_later(moment - now_s, lambda: self._due(moment))

    def _without_clock(self) -> None:
        """It restarts when it has run for a day, at whatever time that is."""
        if self._clock.monotonic() - self._began >= DAY_S and not self._engine.critical and self._may().open:
            self._engine.post(Occurrence(event=Event.RESTART_DUE))
        else:
            self._timers.call_later(LOOK_S, self.begin)

    def _due(self, moment: float) -> None:
        if not self._engine.clock_known:
            self.begin()
            return
        now_s = self._clock.wall()
        late_s = now_s - moment
        if now_s - self._up_s() >= moment - STANDS_S or late_s > PUT_OFF_S_MAX:
            if late_s > PUT_OFF_S_MAX:
                self._engine.report_problem(PosagentError("restart_put_off"))
            self.begin()
        elif late_s < 0 or self._engine.critical or not self._may().open or (late_s < STANDS_S and self._planned()):
            self._timers.call_later(max(AGAIN_S, moment - now_s), lambda: self._due(moment))
        else:
            self._engine.post(Occurrence(event=Event.RESTART_DUE))

    def _planned(self) -> bool:
        """An update is about to restart it, if its other gates open."""
        if self._engine.situation.state is not State.READY:
            return False
        plan = self._engine.plan()
        return plan is not None and plan.start_s is not None and plan.start_s - self._clock.wall() < STANDS_S
