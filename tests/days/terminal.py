"""One terminal in its shop for some weeks: the real agent, installer and fetcher, on a medium, battery and link.

Owns: what happens around the terminal (offers, power cuts, wrong clocks) and the notes of what it did.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from posagent.agent import outlook
from posagent.agent.conditions import Conditions
from posagent.agent.daily import DailyRestart
from posagent.agent.habits import Habits
from posagent.agent.payment import PaymentRules, Payments
from posagent.config import BootConfig, CheckConfig, Config, FetchConfig, SelftestConfig, SlotConfig, SlotsConfig
from posagent.config import TerminalConfig, TrustConfig
from posagent.core.energy import EnergyLimits
from posagent.core.errors import PosagentError
from posagent.core.estimate import ACTIVATE, INSTALL, ROLLBACK, SELFTEST, Forecast, Running
from posagent.core.hours import Calendar, parse_blackout, parse_daily, parse_window
from posagent.core.model import Command, Decision, Gate, Limits, Observation, Situation, State
from posagent.core.ports import Message, ResetCause, ResetReport, Verb, Worker
from posagent.crash import bootloaders
from posagent.crash.medium import Medium
from posagent.crash.surroundings import Probes, Spooled
from posagent.installer.opening import Ports
from posagent.platform.zone import IanaZone
from posagent.sim.inprocess import Parts, VirtualTerminal
from posagent.agent.errand import Deadlines
from tests.days import battery as batteries
from tests.days import links
from tests.days.battery import Battery
from tests.days.cast import MEGABYTES, Role
from tests.days.clocks import DaysTime, TrueClock, World
from tests.days.desk import FACTORY, HARDWARE, Desk, Image, image_in
from tests.days.judge import Judge
from tests.days.merchant import Merchant
from tests.days.pace import Pace, TimedWorker, costs_of

SLOT_BYTES = 64 << 20
DAY_S = 86400.0
TICK_S = 600.0
STATE_DIR, INSTALLER_DIR, SPOOL_DIR = "/data/agent", "/data/installer", "/data/spool"
LIMITS = Limits(gate_recheck_s=60.0)
BUSY_W = {State.DOWNLOAD: 0.9, State.VERIFY: 1.4}
INSTALL_W = (1.9, 2.4)
DOWNTIME_S, FLAT_PERCENT = (20.0, 900.0), 4.0
CUT_EVERY_DAYS, RTC_LOST_SHARE, CLOCK_SET_S = 12.0, 0.4, (60.0, 20 * 3600.0)
OFFER_DAYS = (3.0, 7.0)
HANG_S = 60.0


class QuietMedium(Medium):
    """Keeps no list of its operations: there are millions."""

    def step(self, what: str) -> None:
        return None


class SeenConditions(Conditions):
    """Remembers which gates were last found closed."""

    last: tuple[Gate, ...] = ()

    def gates(self, situation: Situation, seen: Observation | None, running: Running) -> tuple[Gate, ...]:
        self.last = super().gates(situation, seen, running)
        return self.last


class DaysTerminal(VirtualTerminal):
    """`live` runs it; `notes` says what happened."""

    deadlines = Deadlines(fetch_s=100.0, selftest_s=310.0)
    time: DaysTime

    def __init__(self, role: Role, root: Path) -> None:
        self.role = role
        self._random = Random(f"terminal {role.seed}")
        time = DaysTime(role.begin_s)
        self.world = World(time)
        true = TrueClock(time)
        self.zone = IanaZone(role.hours.zone)
        self._desk = Desk(root, Random(f"desk {role.seed}"), role.begin_s)
        self._medium = QuietMedium()
        for slot in "ab":
            self._medium.slot(slot, SLOT_BYTES)
        self._medium.slot("a", SLOT_BYTES).fill(self._desk.factory)
        self._server = links.Server(role.link, time, Random(f"link {role.seed}"))
        self._pace = Pace(Random(f"pace {role.seed}"))
        self.merchant = Merchant(
            zone=self.zone,
            world=self.world,
            random=Random(f"merchant {role.seed}"),
            shop=role.shop,
            seed=hash_of(role.seed),
            time=time,
            clock=true,
            settles_at_s=settling_s(role),
        )
        self._busy_w = 0.0
        self.battery = Battery(
            role.battery,
            charger_w=batteries.WEAK_CHARGER_W if role.charger == "weak" else batteries.CHARGER_W,
            gauge_error=self._random.uniform(0.97, 1.03),
            now_s=time.true,
            plugged=self._plugged,
            load_w=lambda: batteries.IDLE_W + self._busy_w,
            payments=lambda: self.merchant.takings.taken,
        )
        self._install_w = self._random.uniform(*INSTALL_W)
        self.judge = Judge(role, self.battery, self.merchant)
        self.cause = ResetCause.POWER
        self.image = Image(version=FACTORY, behaviour="good")
        self.notes = Notes()
        self._seen = 0
        self._why_restart = ""
        self._begun_at: dict[str, float] = {}
        self._waited_at: tuple[float, tuple[str, ...]] | None = None
        super().__init__(self._parts_for(self.image, time), time)

    # the terminal's parts

    def _parts_for(self, image: Image, time: DaysTime) -> Parts:
        medium = self._medium
        config = Config(
            terminal=TerminalConfig(
                id=self.role.name,
                hardware=HARDWARE,
                state_dir=STATE_DIR,
                installer_dir=INSTALLER_DIR,
                os_release_file=self._desk.os_release(image),
            ),
            slots=SlotsConfig(a=SlotConfig(device="a"), b=SlotConfig(device="b")),
            boot=BootConfig(tries_full=3),
            trust=TrustConfig(
                root_file=str(self._desk.root / "root.json"), image_built_at=int(self.role.begin_s - 90 * DAY_S)
            ),
            fetch=FetchConfig(
                repository_url=links.URL, spool_dir=SPOOL_DIR, checkpoint_bytes=1 << 20, keep_free_bytes=0
            ),
            selftest=SelftestConfig(checks=(CheckConfig(name="payment", kind="tcp", port=1),)),
        )
        return Parts(
            config=config,
            files=medium.files,
            installer=Ports(
                files=medium.files,
                boot=medium.boot,
                clock=time,
                open_slot=lambda slot: medium.slot(slot),
                read_slot=lambda slot: medium.slot(slot),
                open_bundle=lambda path: Spooled(medium, path),
                resets=self,
                threads=False,
            ),
            power=self.battery,
            probes=Probes(time, lambda: "Connection refused" if self.image.behaviour == "test-fails" else None),
            open_local=_no_local,
            limits=LIMITS,
            client=self._server,
        )

    def read(self) -> ResetReport:
        """core.ports.Resets."""
        return ResetReport(cause=self.cause, boot_id=f"{self.boots:032x}")

    def _conditions(self) -> Conditions:
        hours, config = self.role.hours, self._parts.config
        habits = Habits(self._parts.files, f"{STATE_DIR}/quiet.json", self.time, self.zone)
        self.habits = habits
        self._calendar = Calendar(
            zone=self.zone,
            windows=tuple(map(parse_window, hours.install)),
            blackouts=tuple(map(parse_blackout, self.role.blackout)),
            daily_restart_min=parse_daily(hours.daily_restart) if hours.daily_restart else None,
            spread_s=float(hours.spread_s),
        )
        self.payments = Payments(
            clock=self.time,
            timers=self.time,
            rules=PaymentRules(required=True),
            outlook=lambda: outlook.of(self._engine, self.time.monotonic()),
            on_change=self._held,
            on_noted=habits.note,
            on_answer=lambda answer: outlook.answered(self._engine, self.api, answer),
        )
        self.conditions = SeenConditions(
            clock=self.time,
            power=self.battery,
            limits=EnergyLimits(),
            payments=self.payments,
            calendar=self._calendar,
            habits=habits,
            terminal=self.role.name + self.role.seed,
            floor_s=float(config.trust.image_built_at),
        )
        return self.conditions

    def _held(self) -> None:
        self._engine.look_again()
        self._told()

    def _told(self) -> None:
        self.api.changed()
        assert self.payments is not None
        self.payments.tell()

    def _begun(self) -> None:
        payments = self.payments
        if self._calendar.daily_restart_min is not None and payments is not None:
            DailyRestart(
                engine=self._engine,
                timers=self.time,
                clock=self.time,
                calendar=self._calendar,
                may=lambda: payments.gate(State.ACTIVATE),
            ).begin()

    def _worker(self, verbs: Any) -> Worker:
        return TimedWorker(verbs, self.time, self.silent, costs_of(self._pace, self._server.take_spent_s))

    # power, bootloader, kernel

    def _plugged(self, at_s: float) -> bool:
        local_s = at_s + self.zone.offset_s(at_s)
        match self.role.charger:
            case "base" | "weak":
                return True
            case "closed":
                return not self._open(local_s)
            case _:
                night = not 6.5 <= local_s % DAY_S / 3600 < 22.5
                if self.role.charger == "night":
                    return night
                return night and Random(f"{self.role.seed} {(local_s - 12 * 3600) // DAY_S}").random() > 0.25

    def _open(self, local_s: float) -> bool:
        from posagent.sim.shops import SHOPS, half_hour_of_week

        return SHOPS[self.role.shop][half_hour_of_week(local_s)] > 0

    def boot(self) -> None:
        now_s = self.time.true()
        if self._restart:
            self.cause = ResetCause.REBOOT
            self.notes.restarts.append((now_s, self._why_restart))
            if self.merchant.paying:
                self.notes.interrupted += 1
        self.merchant.stop()
        super().boot()
        self.merchant.start(self.api.call)

    def _start_slot(self) -> bool:
        self.boots += 1
        self.time.let_pass(self._pace.restart_s())
        slot = bootloaders.choose("counting", self._medium.boot, 3)
        if slot is None:
            return False
        self._medium.booted = slot
        self.image = image_in(self._medium.slot(slot).pread(0, 4096))
        self._parts = self._parts_for(self.image, self.time)
        if self.image.behaviour in ("panic", "hang"):
            panics = self.image.behaviour == "panic"
            self.cause = ResetCause.PANIC if panics else ResetCause.WATCHDOG
            self.time.let_pass(0.0 if panics else HANG_S)
            return False
        return True

    def power_cut(self, off_s: float, *, clock_lost: bool) -> None:
        """Off, and on again after so long."""
        self.battery.advance()
        self.notes.power_cuts += 1
        if self.state is not State.IDLE:
            self.notes.cuts_in[self.state.value] += 1
        if self.merchant.paying:
            self.notes.cut_payments += 1
        self.merchant.stop()
        self.time.forget()
        self.battery.off = True
        self.time.let_pass(off_s)
        self.battery.advance()
        self.battery.off = False
        self.cause, self._restart = ResetCause.POWER, False
        if clock_lost:
            self.notes.clock_faults += 1
            self.time.off_s = 946_684_800.0 - self.time.true()  # 2000-01-01
            self.world.later(self._random.uniform(*CLOCK_SET_S), self._clock_is_set)
        self.boot()

    def _clock_is_set(self) -> None:
        self.time.off_s = 0.0

    def _tick(self) -> None:
        self.battery.advance()
        if self.battery.level_wh <= 0:
            self.notes.flat += 1
            off_s = 0.0
            while not self._plugged(self.time.true() + off_s) and off_s < 2 * DAY_S:
                off_s += TICK_S
            self.power_cut(off_s + 1800.0, clock_lost=False)
        self.world.later(TICK_S, self._tick)

    def _cut(self) -> None:
        """Somebody pulls the battery out."""
        lost = self._random.random() < RTC_LOST_SHARE
        self.power_cut(self._random.uniform(*DOWNTIME_S), clock_lost=lost)
        self.world.later(self._random.expovariate(1 / CUT_EVERY_DAYS) * DAY_S, self._cut)

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
        if Command.REBOOT in commands and state is State.ACTIVATE:
            self._why_restart = "update"
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

    def _note_waits(self, state: State) -> None:
        """How long `ready` has waited for which gates."""
        now_s = self.time.true()
        if self._waited_at is not None:
            since_s, names = self._waited_at
            for name in names:
                self.notes.waits[name] += now_s - since_s
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

    def _ended(self, outcome: dict[str, Any]) -> None:
        now_s = self.time.true()
        began_s = self._begun_at.pop(outcome["id"], None)
        start = next((one for one in reversed(self.judge.starts) if one.update == outcome["id"]), None)
        self.notes.outcomes.append(
            {
                **{key: outcome.get(key) for key in ("id", "outcome", "code", "version", "estimates", "restarted")},
                "ended_s": now_s,
                "began_s": began_s,
                "link": self.role.link,
                "battery": self.role.battery,
                "percent": self.battery.percent,
                "plugged": self.battery.plugged,
                "late": start is not None and began_s is not None and not start.exempt and now_s > start.ends_s,
                "kind": self._offered.get(outcome["version"], {}),
            }
        )

    # offers

    def _offer(self) -> None:
        """The fleet wants a new version here."""
        self.world.later(self._random.uniform(*OFFER_DAYS) * DAY_S, self._offer)
        random, now_s = self._random, self.time.true()
        low, high = MEGABYTES[self.role.link]
        size = int(math.exp(random.uniform(math.log(low), math.log(high))) * 1e6)
        behaviour = random.choices(("good", "test-fails", "panic", "hang"), (84, 8, 6, 2))[0]
        terms: dict[str, Any] = {}
        if random.random() < 0.25:
            terms["not_after"] = int(now_s + random.uniform(4, 60) * 3600)
        conditions = []
        if random.random() < 0.2:
            conditions.append("confirm")
        if self.role.settles and random.random() < 0.3:
            conditions.append("reconcile")
        if conditions:
            terms["conditions"] = conditions
        self._server.pointer, self._server.bundle = self._desk.release(behaviour, size, now_s, terms)
        at_once = random.random() < 0.05
        version = self._server.pointer["version"]
        self._offered[version] = {"behaviour": behaviour, "bytes": size, "at_once": at_once, **terms}
        self._ask(at_once, 30)

    def _ask(self, at_once: bool, tries: int) -> None:
        def answered(message: Message) -> None:
            if "result" in message:
                self.notes.asked += 1
            elif tries:
                self.notes.refused[message["error"]["code"]] += 1
                self.world.later(3600.0, lambda: self._ask(at_once, tries - 1))

        if self.state not in (State.IDLE, State.READY) or self._engine.observation is None:
            self.world.later(3600.0, lambda: self._ask(at_once, tries - 1) if tries else None)
            return
        self.api.call("update", {"now": at_once}, answered, "fleet")

    # life

    def live(self) -> None:
        self._offered: dict[str, dict[str, Any]] = {}
        end = self.role.days * DAY_S
        self.boot()
        self.world.later(self._random.uniform(0.2, 2.0) * DAY_S, self._offer)
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
            self.notes.open_at_end.append({"state": self.state.value, "closed": closed, "kind": self._offered.get(update.version)})


@dataclasses.dataclass(slots=True)
class Notes:
    restarts: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    outcomes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    waits: Counter[str] = dataclasses.field(default_factory=Counter)
    cuts_in: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    open_at_end: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    asked: int = 0
    interrupted: int = 0
    cut_payments: int = 0
    power_cuts: int = 0
    clock_faults: int = 0
    flat: int = 0


def hash_of(text: str) -> int:
    return Random(text).getrandbits(32)


def settling_s(role: Role) -> int | None:
    from tests.days.cast import SETTLES

    return int(SETTLES[role.shop] * 3600) if role.settles else None


def _no_local(path: str) -> Any:
    raise PosagentError("bad_request", path)
