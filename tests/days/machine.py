"""A terminal in its shop: the real agent, installer and fetcher, put together on a medium, battery, link and clock.

Owns: power, bootloader and kernel; how the parts are wired is posagent.daemon's. Time passes while anything is done.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from posagent.agent import outlook
from posagent.agent.conditions import Conditions
from posagent.agent.daily import DailyRestart
from posagent.agent.errand import Deadlines
from posagent.agent.habits import Habits
from posagent.agent.payment import PaymentRules, Payments
from posagent.config import FetchConfig, TrustConfig
from posagent.core import hours
from posagent.core.energy import EnergyLimits
from posagent.core.errors import PosagentError
from posagent.core.estimate import Running
from posagent.core.model import Gate, Limits, Observation, Situation, State
from posagent.core.ports import ResetCause, ResetReport, Worker
from posagent.crash import bootloaders
from posagent.crash.medium import Medium
from posagent.crash.stage import FACTORY, SPOOL_DIR, STATE_DIR, config_of
from posagent.crash.surroundings import Probes, installer_ports
from posagent.platform.zone import IanaZone
from posagent.sim.inprocess import Parts, VirtualTerminal
from posagent.sim.shops import SHOPS, half_hour_of_week
from tests.days import battery as batteries
from tests.days import links
from tests.days.battery import Battery
from tests.days.cast import Role
from tests.days.clocks import DaysTime, TrueClock, World
from tests.days.desk import Desk, Image, image_in
from tests.days.merchant import Merchant
from tests.days.notes import Notes
from tests.days.pace import Pace, TimedWorker, costs_of

SLOT_BYTES = 64 << 20
DAY_S = 86400.0
TICK_S = 600.0
LIMITS = Limits(gate_recheck_s=60.0)
CUT_S, CUT_EVERY_DAYS = (20.0, 900.0), 12.0
RTC_LOST_SHARE, RTC_LOST_TO_S, CLOCK_SET_S = 0.4, 946_684_800.0, (60.0, 20 * 3600.0)
"""Some power cuts set the clock to 2000-01-01, until the network sets it right."""
FLAT_S = 1800.0
"""So long on the charger, and an empty terminal starts again."""
HANG_S = 60.0
CLOSED_SHARE = 0.1
"""With fewer payments than this part of the busiest half hour's, a shop is as good as closed."""
SETTLES_H = {
    "supermarket": 22.5,
    "lunch_kiosk": 15.5,
    "restaurant": 0.75,
    "market_weekend": 16.0,
    "hotel": 1.5,
    "petrol_24h": 2.5,
}
"""The hour at which the batch is settled, where it is."""


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


class ShopTerminal(VirtualTerminal):
    """In its shop; what it is asked for and what is noted of it is `DaysTerminal`'s."""

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
        self._medium.slot("a", SLOT_BYTES).fill(self._desk.factory)
        self._medium.slot("b", SLOT_BYTES)
        self._server = links.Server(role.link, time, Random(f"link {role.seed}"))
        self._pace = Pace(Random(f"pace {role.seed}"))
        self.merchant = Merchant(
            zone=self.zone,
            world=self.world,
            random=Random(f"merchant {role.seed}"),
            shop=role.shop,
            seed=Random(role.seed).getrandbits(32),
            time=time,
            clock=true,
            settles_at_s=int(SETTLES_H[role.shop] * 3600) if role.settles else None,
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
        self.cause = ResetCause.POWER
        self.image = Image(version=FACTORY, behaviour="good")
        self.notes = Notes()
        self._why_restart = ""
        super().__init__(self._parts_for(self.image, time), time)

    # the terminal's parts

    def _parts_for(self, image: Image, time: DaysTime) -> Parts:
        medium = self._medium
        config = config_of(
            self.role.name,
            os_release=self._desk.os_release(image),
            tries_full=3,
            trust=TrustConfig(
                root_file=str(self._desk.root / "root.json"), image_built_at=int(self.role.begin_s - 90 * DAY_S)
            ),
            fetch=FetchConfig(
                repository_url=links.URL, spool_dir=SPOOL_DIR, checkpoint_bytes=1 << 20, keep_free_bytes=0
            ),
        )
        return Parts(
            config=config,
            files=medium.files,
            installer=installer_ports(medium, time, self, SLOT_BYTES),
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
        when, config = self.role.hours, self._parts.config
        habits = Habits(self._parts.files, f"{STATE_DIR}/quiet.json", self.time, self.zone)
        self.habits = habits
        self._calendar = hours.calendar(
            self.zone,
            install=when.install,
            blackout=self.role.blackout,
            daily_restart=when.daily_restart,
            spread_s=float(when.spread_s),
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
                up_s=self.conditions.up_s,
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
        rates = SHOPS[self.role.shop]
        return rates[half_hour_of_week(local_s)] > CLOSED_SHARE * max(rates)

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
        self.notes.cuts.append((self.time.true(), self.time.true() + off_s))
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
            self.time.off_s = RTC_LOST_TO_S - self.time.true()
            wrong_s = self._random.uniform(*CLOCK_SET_S)
            self.notes.wrong_clock.append((self.time.true(), self.time.true() + wrong_s))
            self.world.later(wrong_s, self._clock_is_set)
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
            self.power_cut(off_s + FLAT_S, clock_lost=False)
        self.world.later(TICK_S, self._tick)

    def _cut(self) -> None:
        """Somebody pulls the battery out."""
        lost = self._random.random() < RTC_LOST_SHARE
        self.power_cut(self._random.uniform(*CUT_S), clock_lost=lost)
        self.world.later(self._random.expovariate(1 / CUT_EVERY_DAYS) * DAY_S, self._cut)


def _no_local(path: str) -> Any:
    raise PosagentError("bad_request", path)
