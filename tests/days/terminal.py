"""One terminal for some weeks: what it is offered, what the judge says to its starts, and the notes of what it did."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posagent.core.estimate import ACTIVATE, INSTALL, ROLLBACK, SELFTEST, Forecast, Running
from posagent.core.model import Command, Decision, Situation, State
from posagent.core.ports import Message
from tests.days.cast import MEGABYTES, Role
from tests.days.desk import BEHAVIOURS
from tests.days.judge import Judge
from tests.days.machine import CUT_EVERY_DAYS, DAY_S, TICK_S, ShopTerminal

BUSY_W = {State.DOWNLOAD: 0.9, State.VERIFY: 1.4}
INSTALL_W = (1.9, 2.4)
FIRST_OFFER_DAYS, OFFER_DAYS = (0.2, 2.0), (3.0, 7.0)
BEHAVIOUR_SHARES = (0.84, 0.08, 0.06, 0.02)
DEADLINE_SHARE, DEADLINE_H = 0.25, (4.0, 60.0)
CONFIRM_SHARE, RECONCILE_SHARE, AT_ONCE_SHARE = 0.2, 0.3, 0.05
CUT_IN_INSTALL_SHARE, CUT_IN_INSTALL_S = 0.08, (0.0, 400.0)
ASK_AGAIN_S, ASKED_MAX = 3600.0, 30


class DaysTerminal(ShopTerminal):
    """`live` runs it; `notes` and `judge` say what happened."""

    def __init__(self, role: Role, root: Path) -> None:
        super().__init__(role, root)
        self._install_w = self._random.uniform(*INSTALL_W)
        self.judge = Judge(role, self.battery, self.merchant)
        self._offered: dict[str, dict[str, Any]] = {}
        self._begun_at: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}
        self._outage_s: float | None = None
        self._turned_away = 0
        self._waited_at: tuple[float, tuple[str, ...]] | None = None

    # what is noted

    def _decided(self, decision: Decision) -> None:
        state, commands = decision.situation.state, decision.commands
        update = decision.situation.update
        now_s = self.time.true()
        if Command.INSTALL in commands and update is not None:
            again = decision.record is not None and decision.record["event"] == "due" and update.id in self._begun_at
            self.judge.start(
                update,
                self._foretold(decision.situation),
                at_s=now_s,
                clock_off_s=self.time.off_s,
                idle_s=self.habits.idle_s,
                again=again,
            )
            self._begun_at.setdefault(update.id, now_s)
            if not again and self._random.random() < CUT_IN_INSTALL_SHARE:
                self.world.later(
                    self._random.uniform(*CUT_IN_INSTALL_S), lambda: self.power_cut(60.0, clock_lost=False)
                )
        if Command.REBOOT in commands and state is State.ACTIVATE:
            self._why_restart = "update"
            if self._outage_s is None:
                self._outage_s, self._turned_away = now_s, self.merchant.takings.turned_away
            self.judge.restart(update, self._need_s(self._engine.forecast()), now_s)
        elif Command.REBOOT in commands:
            self._why_restart = "rollback"
        elif Command.RETURN in commands:
            self._why_restart = "return"
        elif Command.RESTART in commands:
            self._why_restart = "daily"
            self.judge.restart(None, 0.0, now_s)
        self.battery.advance()
        working = state in (State.INSTALL, State.ACTIVATE, State.SELFTEST, State.COMMIT, State.ROLLBACK)
        self._busy_w = self._install_w if working and not self._engine.waits_for else BUSY_W.get(state, 0.0)
        self._note_waits(state)
        if decision.record is not None and "outcome" in decision.record:
            self._ended(decision.record["outcome"])
        super()._decided(decision)

    def _cut_in_install(self) -> None:
        """Somebody pulls the plug because it takes so long."""
        self.power_cut(60.0, clock_lost=False)

    def _note_waits(self, state: State) -> None:
        """How long `ready` has waited for which gates."""
        now_s = self.time.true()
        if self._waited_at is not None:
            since_s, names = self._waited_at
            for name in names:
                self.notes.waits[name] = self.notes.waits.get(name, 0.0) + now_s - since_s
        self._waited_at = None
        if state is State.READY:
            closed = [one.name for one in self.conditions.last if one.needed_for is State.INSTALL and not one.open]
            self._waited_at = now_s, tuple(closed)

    def _need_s(self, forecast: Forecast) -> float:
        return forecast.together(INSTALL, ACTIVATE, SELFTEST, ROLLBACK).p90

    def _foretold(self, situation: Situation) -> dict[str, float]:
        ahead = self.conditions.forecast(dataclasses.replace(situation, state=State.READY), Running())
        whole = ahead.together(INSTALL).p90 + ahead.outage.p90 + ahead.together(ROLLBACK).p90
        return {"need": self._need_s(ahead), "whole": whole}

    def _ended(self, outcome: Mapping[str, Any]) -> None:
        now_s = self.time.true()
        began_s = self._begun_at.pop(outcome["id"], None)
        asked_s = self._asked_at.pop(outcome["version"], now_s)
        start = next((one for one in reversed(self.judge.starts) if one.update == outcome["id"]), None)
        self.notes.outcomes.append(
            {
                **{key: outcome.get(key) for key in ("id", "outcome", "code", "version", "estimates", "restarted")},
                "ended_s": now_s,
                "began_s": began_s,
                "waited_s": (began_s or now_s) - asked_s,
                "link": self.role.link,
                "battery": self.role.battery,
                "percent": self.battery.percent,
                "plugged": self.battery.plugged,
                "late": start is not None and began_s is not None and not start.exempt and now_s > start.ends_s,
                "kind": self._offered.get(outcome["version"], {}),
            }
        )

        if self._outage_s is not None and start is not None:
            away = self.merchant.takings.turned_away - self._turned_away
            self.notes.outages.append((self._outage_s, now_s, bool(start.exempt), away))
        self._outage_s = None

    # offers

    def _offer(self) -> None:
        """The fleet wants a new version here."""
        self.world.later(self._random.uniform(*OFFER_DAYS) * DAY_S, self._offer)
        random, now_s = self._random, self.time.true()
        low_mb, high_mb = MEGABYTES[self.role.link]
        size = int(math.exp(random.uniform(math.log(low_mb), math.log(high_mb))) * 1e6)
        behaviour = random.choices(BEHAVIOURS, BEHAVIOUR_SHARES)[0]
        terms: dict[str, Any] = {}
        if random.random() < DEADLINE_SHARE:
            terms["not_after"] = int(now_s + random.uniform(*DEADLINE_H) * 3600)
        conditions = []
        if random.random() < CONFIRM_SHARE:
            conditions.append("confirm")
        if self.role.settles and random.random() < RECONCILE_SHARE:
            conditions.append("reconcile")
        if conditions:
            terms["conditions"] = conditions
        self._server.pointer, self._server.bundle = self._desk.release(behaviour, size, now_s, terms)
        at_once = random.random() < AT_ONCE_SHARE
        version = self._server.pointer["version"]
        self._offered[version] = {"behaviour": behaviour, "bytes": size, "at_once": at_once, **terms}
        self._ask(at_once, ASKED_MAX)

    def _ask(self, at_once: bool, tries: int) -> None:
        def answered(message: Message) -> None:
            if "result" in message:
                self.notes.asked += 1
                self._asked_at.setdefault(message["result"]["version"], self.time.true())
            elif tries:
                self.notes.refused[message["error"]["code"]] += 1
                self.world.later(ASK_AGAIN_S, lambda: self._ask(at_once, tries - 1))

        if self.state not in (State.IDLE, State.READY) or self._engine.observation is None:
            self.world.later(ASK_AGAIN_S, lambda: self._ask(at_once, tries - 1) if tries else None)
            return
        self.api.call("update", {"now": at_once}, answered, "fleet")

    # life

    def live(self) -> None:
        end = self.role.days * DAY_S
        self.boot()
        self.world.later(self._random.uniform(*FIRST_OFFER_DAYS) * DAY_S, self._offer)
        self.world.later(self._random.expovariate(1 / CUT_EVERY_DAYS) * DAY_S, self._cut)
        self.world.later(TICK_S, self._tick)
        time, world = self.time, self.world
        while time.monotonic() < end:
            timer, event = time.next_at(), world.next_at()
            if self._restart:
                self.boot()
            elif timer is None or (event is not None and event <= timer):
                world.step()
            else:
                time.step()
        update = self.situation.update
        if update is not None:
            closed = [gate.name for gate in self._engine.gates() if not gate.open]
            self.notes.open_at_end.append(
                {
                    "state": self.state.value,
                    "closed": closed,
                    "kind": self._offered.get(update.version),
                    "waited_s": time.true() - self._asked_at.get(update.version, time.true()),
                }
            )
