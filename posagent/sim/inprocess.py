"""A whole terminal in one process and in virtual time: the real rooms on real files and the real boot environment.

For tests that must stop between any two steps. What is replaced: the clock, the process boundary, the kernel.
Long, because a whole terminal is wired here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from posagent import config as configuration
from posagent.agent.actors import UpdateActors
from posagent.agent.api import AgentApi
from posagent.agent.audit import AuditLog
from posagent.agent.conditions import Conditions
from posagent.agent.engine import Engine
from posagent.agent.errand import Deadlines, Workers
from posagent.agent.evidence import Evidence
from posagent.agent.fleet import Fleet
from posagent.agent.inspection import Inspection
from posagent.agent.journal import BYTES_MAX, Journal
from posagent.agent.payment import Payments
from posagent.agent.proof import ProvingTester
from posagent.agent.support import Support, facts_of
from posagent.config import Config
from posagent.core.audit import FILE
from posagent.core.energy import EnergyLimits
from posagent.core.errors import PosagentError
from posagent.core.model import Decision, Limits, Situation, State
from posagent.core.ports import Files, Message, Power, ResetCause, Verb, Worker
from posagent.fetcher.download import ROOM_BYTES_MIN, ClosableSource, Fetcher
from posagent.fetcher.http import Client, HttpClient
from posagent.fetcher.media import Media
from posagent.fetcher.probe import Probe
from posagent.fetcher.wanted import HEAD_BYTES
from posagent.installer.opening import Ports
from posagent.installer.service import Installer, linux_ports
from posagent.platform.media import bundles
from posagent.platform.net import LinuxNet
from posagent.platform.power import SysfsPower
from posagent.platform.storage import LinuxFiles, open_inside
from posagent.selftest import checks
from posagent.selftest.checks import Probes
from posagent.selftest.finding import given_of
from posagent.sim import bootloader, image
from posagent.sim.layout import Layout
from posagent.sim.stand_ins import NoInhibitor, SimulatedProbes, all_well, same_figures
from posagent.sim.virtual import LocalWorker, VirtualTime
from posagent.support.service import Maker

STEPS_MAX = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one terminal is made of: its configuration and its adapters."""

    config: Config
    files: Files
    installer: Ports
    power: Power
    probes: Probes
    open_local: Callable[[str], ClosableSource]
    limits: Limits
    client: Client | None = None
    journal_bytes_max: int = BYTES_MAX
    head_bytes: int = HEAD_BYTES
    room_bytes_min: int = ROOM_BYTES_MIN


class VirtualTerminal:
    """The rooms of one terminal, wired, in virtual time. Switch on with `boot`, move with `step`, ask with `ask`."""

    deadlines = Deadlines()
    payments: Payments | None = None
    """The payment applications' sessions, where the terminal has any; made anew by `_conditions`."""
    fleet: Fleet | None = None
    evidence: Evidence | None = None
    """The audit log, where the terminal has one; made anew by `_witness`."""

    def __init__(self, parts: Parts, time: VirtualTime, *, step_s: float = 0.01) -> None:
        self.time = time
        self.boots = 0
        self.silent: set[str] = set()
        """Verbs of the workers that hang, such as `write`."""
        self._parts = parts
        self._step_s = step_s
        self._restart = False

    @property
    def situation(self) -> Situation:
        return self._engine.situation

    @property
    def healthy(self) -> bool:
        """Whether the agent would pet its watchdog now."""
        return self._actors.ask.in_time

    @property
    def state(self) -> State:
        return self._engine.situation.state

    def boot(self) -> None:
        """Reset: the bootloader chooses, the kernel starts, the agent observes."""
        self.time.forget()
        self._restart = False
        while not self._start_slot():
            pass
        self.start_agent()

    def _start_slot(self) -> bool:
        """Bootloader and kernel; False when the kernel did not come up."""
        raise NotImplementedError

    def _woken(self, journal: Journal) -> None:
        """Called when an agent has read its journal."""

    def _decided(self, decision: Decision) -> None:
        """Called after every decision, before its commands."""
        if self.evidence is not None:
            self.evidence.decided(decision)
        self._told()
        self._support.changed()
        if self.fleet is not None:
            self.fleet.changed()

    def _told(self) -> None:
        """Whoever looks on hears of it."""
        self.api.changed()

    def _witness(self, engine: Engine, notary: Worker) -> Evidence | None:
        """The audit log of a fresh agent."""
        return None

    def _fleet_line(self, engine: Engine, conditions: Conditions, api: AgentApi) -> Fleet | None:
        """The line to a fleet server, where there is one."""
        return None

    def _begun(self) -> None:
        """Called when the hardware is known and the first decision was made."""

    def start_agent(self) -> None:
        """A fresh agent process on what the disk holds; everything in memory is gone."""
        self.time.forget()
        parts = self._parts
        journal = Journal(parts.files, parts.config.journal_path, parts.journal_bytes_max)
        self._woken(journal)
        engine_conditions = self._conditions()
        engine = Engine(
            journal=journal,
            conditions=engine_conditions,
            clock=self.time,
            limits=parts.limits,
            on_change=self._decided,
            on_progress=self._told,
        )
        workers = self._workers()
        actors = UpdateActors(
            engine=engine,
            workers=workers,
            timers=self.time,
            clock=self.time,
            inhibitor=NoInhibitor(),
            deadlines=self.deadlines,
            measures=parts.config.selftest.compares,
        )
        engine.actors = actors
        self._engine = engine
        self._actors = actors
        self.evidence = self._witness(engine, workers.installer)
        self._support = Support(
            engine=engine,
            worker=workers.support,
            timers=self.time,
            clock=self.time,
            files=parts.files,
            directory=f"{parts.config.terminal.state_dir}/support",
            facts=lambda: facts_of(engine, self.api.status(), self.api.why()),
            tickets=bool(parts.config.support.vendor_key_file),
        )
        self.api = AgentApi(
            engine=engine,
            fetcher=workers.fetcher,
            terminal="t",
            new_id=self._new_id,
            payments=self.payments,
            evidence=self.evidence,
            inspection=Inspection(workers=workers, timers=self.time, clock=self.time, deadlines=self.deadlines),
            support=self._support,
        )
        looked: list[bool] = []

        def begin(seen: Any) -> None:
            looked.append(True)
            engine.start(seen)
            self._begun()
            if self.fleet is not None:
                self.fleet.start()

        def failed(error: PosagentError) -> None:
            looked.append(False)
            engine.report_problem(error)

        self.fleet = self._fleet_line(engine, engine_conditions, self.api)
        actors.ask.observe(begin, failed)
        while not looked:
            self.step()

    def _conditions(self) -> Conditions:
        """What the agent sees of its surroundings."""
        metered = self._parts.config.fetch.metered
        return Conditions(clock=self.time, power=self._parts.power, limits=EnergyLimits(), metered=metered)

    def _new_id(self) -> str:
        """One more than any the journal knows: never the same twice, and the same in every repetition."""
        update = self.situation.update
        names = [str(one.get("id", "")) for one in self.situation.outcomes] + ([update.id] if update else [])
        return f"u{1 + max((int(name[1:]) for name in names if name[1:].isdecimal()), default=0)}"

    def _workers(self) -> Workers:
        parts = self._parts
        installer = Installer(parts.config, parts.installer)
        config = parts.config.fetch
        terminal = parts.config.terminal
        client = parts.client or HttpClient(config)
        fetcher = Fetcher(
            config,
            parts.files,
            self.time,
            parts.open_local,
            client,
            head_bytes=parts.head_bytes,
            room_bytes_min=parts.room_bytes_min,
            media=Media(
                lambda: bundles(config.media_dir),
                parts.open_local,
                hardware=terminal.hardware,
                revision=terminal.hardware_revision,
            ),
        )
        probe = Probe(config, client, LinuxNet(), self.time)
        tests = parts.config.selftest
        tester = self._worker(
            {
                "run": lambda args: checks.run(
                    tests, parts.probes, self.time, args.get("suite", ""), look=all_well, given=given_of(args)
                ),
                "baseline": lambda _: checks.baseline(tests, self.time, same_figures),
            }
        )
        return Workers(
            installer=self._worker({**installer.verbs, "reboot": self._reboot}),
            fetcher=self._worker(
                {"look": fetcher.look, "fetch": fetcher.fetch, "discard": fetcher.discard, "probe": probe.probe}
            ),
            selftest=ProvingTester(self._worker(installer.verbs), tester) if tests.asks_installer else tester,
            support=self._worker({"make": self._make_bundle}),
            data=self._data(),
        )

    def _data(self) -> Worker | None:
        """The worker for merchants' data, where there is any."""
        return None

    def _worker(self, verbs: Mapping[str, Verb]) -> Worker:
        return LocalWorker(verbs, self.time, self.silent, self._step_s)

    def _make_bundle(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """What the support worker does."""
        return Maker(self._parts.config, self._parts.files, self.time, {"system": "simulated"}).make(args)

    def _reboot(self, _: Mapping[str, Any]) -> Iterator[Message]:
        self._restart = True
        yield {"result": {}}

    def step(self) -> None:
        """One timer: one message of a worker, or one look at the gates."""
        if self._restart:
            self.boot()
        elif not self.time.step():
            raise AssertionError(f"nothing will ever happen again in {self.state}")

    def run_until(self, reached: Callable[[Self], bool]) -> None:
        """Step until `reached` holds. Raises AssertionError after too many steps."""
        for _ in range(STEPS_MAX):
            if reached(self):
                return
            self.step()
        raise AssertionError(f"not reached in {STEPS_MAX} steps, in {self.state}: {self.situation.failure}")

    def run_to_idle(self) -> Mapping[str, Any]:
        """Run to the end of the update; its outcome."""
        self.run_until(lambda terminal: terminal.state is State.IDLE)
        outcome = self.situation.last_outcome
        assert outcome is not None
        return outcome

    def settle(self) -> None:
        """Let everything that was begun come to its end; only in idle, where nothing is waited for."""
        while self.time.step():
            pass

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        """A verb of the API that answers at once. Raises PosagentError."""
        answers: list[Message] = []
        self.api.call(verb, args, answers.append, "test")
        last = answers[-1]
        if "error" in last:
            raise PosagentError.from_dict(last["error"])
        result: dict[str, Any] = last["result"]
        return result


class InProcessTerminal(VirtualTerminal):
    """On the files of a simulated terminal and the real boot environment. `server` makes a client in its time."""

    def __init__(
        self, layout: Layout, files: Files | None = None, server: Callable[[VirtualTime], Client] | None = None
    ) -> None:
        self.layout = layout
        time = VirtualTime()
        config = configuration.load(str(layout.config))
        ports = dataclasses.replace(linux_ports(config), apart=lambda work: work)
        parts = Parts(
            config=config,
            files=files or LinuxFiles(),
            installer=ports,
            power=SysfsPower(config.power.supply_dir),
            probes=SimulatedProbes(layout, time),
            open_local=lambda path: open_inside("/", path),
            limits=Limits(gate_recheck_s=2.0, fetch_backoff_s=1.0, install_backoff_s=1.0, reboot_timeout_s=30.0),
            client=server(time) if server is not None else None,
        )
        super().__init__(parts, time)

    def _witness(self, engine: Engine, notary: Worker) -> Evidence:
        return Evidence(
            log=AuditLog(self._parts.files, f"{self._parts.config.terminal.state_dir}/{FILE}", self.time),
            notary=notary,
            timers=self.time,
            clock=self.time,
            may_seal=lambda: not engine.uninterruptible,
            on_trouble=engine.report_problem,
        )

    def boot(self) -> None:
        """Reset: an orderly restart where the agent asked for one, else a power cycle."""
        self._cause = ResetCause.REBOOT if self._restart else ResetCause.POWER
        super().boot()

    def _start_slot(self) -> bool:
        boot = self._parts.installer.boot
        self.boots += 1
        slot = bootloader.choose(boot.read, boot.write)
        return slot is not None and self._kernel(slot)

    def _kernel(self, slot: str) -> bool:
        self.layout.cmdline.write_text(f"posagent.slot={slot} posagent.reset={self._cause.value}\n")
        self.layout.boot_id.write_text(f"{self.boots:032x}\n")
        self._cause = ResetCause.PANIC  # unless it comes up
        readable = image.read_out(self.layout.slot(slot), self.layout.booted_root)
        return readable and not (self.layout.booted_root / "pos/boot-fault").read_text().strip()
