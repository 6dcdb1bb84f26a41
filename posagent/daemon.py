"""posagentd: puts the resident together and runs it. A composition root; nobody imports it.

Rules: nothing here needs the network, so OpenSSL is kept out before structlog or hashlib would pull it in; Python's
own SHA-256 is enough for the journal (docs/adr/0001). So is rich, which structlog takes where it is installed, for
tracebacks that nobody sees here: 5 MiB.
Long, because all parts of the resident are wired here.
"""

from __future__ import annotations

import sys

for _name in ("ssl", "_hashlib", "rich"):
    sys.modules[_name] = None  # type: ignore[assignment]

import argparse  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from posagent import config as configuration  # noqa: E402
from posagent import fleet_line, log, serial_line  # noqa: E402
from posagent.agent import outlook  # noqa: E402
from posagent.agent.actors import UpdateActors  # noqa: E402
from posagent.agent.api import AgentApi  # noqa: E402
from posagent.agent.audit import AuditLog  # noqa: E402
from posagent.agent.conditions import Conditions  # noqa: E402
from posagent.agent.daily import DailyRestart  # noqa: E402
from posagent.agent.daily_tests import DailyTests  # noqa: E402
from posagent.agent.engine import Engine  # noqa: E402
from posagent.agent.errand import Deadlines, Workers  # noqa: E402
from posagent.agent.evidence import Evidence  # noqa: E402
from posagent.agent.habits import Habits  # noqa: E402
from posagent.agent.inspection import Inspection  # noqa: E402
from posagent.agent.journal import Journal  # noqa: E402
from posagent.agent.payment import PaymentRules, Payments  # noqa: E402
from posagent.agent.proof import ProvingTester  # noqa: E402
from posagent.agent.support import Support, facts_of  # noqa: E402
from posagent.agent.verbs import LOOK_VERBS  # noqa: E402
from posagent.config import Config  # noqa: E402
from posagent.core import revocation  # noqa: E402
from posagent.core.audit import FILE  # noqa: E402
from posagent.core.errors import EXIT_CODES, PosagentError  # noqa: E402
from posagent.core.model import Decision, Event, Observation, State  # noqa: E402
from posagent.core.ports import Worker  # noqa: E402
from posagent.platform.host import LinuxClock, LogindInhibitor, up_s  # noqa: E402
from posagent.platform.loop import Loop  # noqa: E402
from posagent.platform.power import SysfsPower  # noqa: E402
from posagent.platform.sockets import ApiServer, SocketWorker  # noqa: E402
from posagent.platform.storage import LinuxFiles, lock  # noqa: E402
from posagent.platform.watchdog import SystemWatchdog  # noqa: E402
from posagent.platform.zone import zone_of  # noqa: E402
from posagent.settings import calendar_of, limits_of, power_limits_of  # noqa: E402

OBSERVE_RETRY_S = 15.0
PROOF_S = 180.0
"""Besides the tests' own time: reading the whole running slot."""
TROUBLE = frozenset({Event.WRITE_FAILED, Event.ARM_FAILED, Event.REBOOT_FAILED, Event.TESTS_LOST, Event.MARK_FAILED})
"""Tries that a shutdown does not wait to see repeated."""


class Resident:
    """The agent's parts, wired."""

    def __init__(self, config: Config) -> None:
        self._log = log.get("posagentd")
        self._clock = LinuxClock()
        self._files = LinuxFiles()
        self._loop = Loop(self._clock)
        self._inhibitor = LogindInhibitor()
        self._stopping = False
        self._unseen: set[str] = set()
        """Codes of the looks at the hardware that failed."""
        self._files.make_dir(config.terminal.state_dir)
        self._lock = lock(f"{config.terminal.state_dir}/agent.lock")
        calendar, zone = calendar_of(config, zone_of)
        habits = Habits(self._files, f"{config.terminal.state_dir}/quiet.json", self._clock, zone)
        self._payments = Payments(
            clock=self._clock,
            timers=self._loop,
            rules=PaymentRules(
                required=config.payment.application == "required",
                lease_s_max=config.payment.lease_s_max,
                grace_s=config.payment.grace_s,
            ),
            outlook=lambda: outlook.of(self._engine, self._clock.monotonic()),
            on_change=lambda: self._held(),
            on_noted=habits.note,
            on_answer=lambda answer: outlook.answered(self._engine, self._api, answer),
        )
        conditions = Conditions(
            clock=self._clock,
            power=SysfsPower(config.power.supply_dir),
            limits=power_limits_of(config),
            payments=self._payments,
            calendar=calendar,
            habits=habits,
            terminal=config.terminal.id,
            floor_s=float(config.trust.image_built_at),
            quiet_hours=config.window.quiet_hours,
            up_s=up_s,
            metered=config.fetch.metered,
        )
        self._engine = Engine(
            journal=Journal(self._files, config.journal_path),
            conditions=conditions,
            clock=self._clock,
            limits=limits_of(config),
            on_change=self._changed,
            on_progress=lambda: self._told(),
        )
        self._daily = (
            DailyRestart(
                engine=self._engine,
                timers=self._loop,
                clock=self._clock,
                calendar=calendar,
                may=lambda: self._payments.gate(State.ACTIVATE),
                up_s=up_s,
            )
            if calendar is not None and calendar.daily_restart_min is not None
            else None
        )
        workers = Workers(
            installer=SocketWorker(config.worker_socket("installer"), self._loop),
            fetcher=SocketWorker(config.worker_socket("fetcher"), self._loop),
            selftest=self._tester(config),
            support=SocketWorker(config.worker_socket("support"), self._loop),
            data=SocketWorker(config.worker_socket("data"), self._loop) if config.data.format else None,
        )
        deadlines = Deadlines(
            fetch_s=config.fetch.stall_timeout_s + config.fetch.connect_timeout_s + 10.0,
            install_s=float(config.install.stall_timeout_s),
            selftest_s=config.selftest.deadline_s + (PROOF_S if config.selftest.asks_installer else 10.0),
        )
        self._actors = UpdateActors(
            engine=self._engine,
            workers=workers,
            timers=self._loop,
            clock=self._clock,
            inhibitor=self._inhibitor,
            deadlines=deadlines,
            on_restart=self._stop_if_asked,
            on_removed=lambda names: self._evidence.log.note("data_removed", names=" ".join(names)),
            jitter=lambda: os.urandom(1)[0] / 512,
            measures=config.selftest.compares,
        )
        self._engine.actors = self._actors
        self._evidence = Evidence(
            log=AuditLog(self._files, f"{config.terminal.state_dir}/{FILE}", self._clock),
            notary=workers.installer,
            timers=self._loop,
            clock=self._clock,
            may_seal=lambda: not self._engine.uninterruptible,
            on_trouble=self._engine.report_problem,
        )
        self._support = Support(
            engine=self._engine,
            worker=workers.support,
            timers=self._loop,
            clock=self._clock,
            files=self._files,
            directory=f"{config.terminal.state_dir}/support",
            facts=lambda: facts_of(self._engine, self._api.status(), self._api.why()),
            log=log.recent,
            tickets=bool(config.support.vendor_key_file),
        )
        inspection = Inspection(
            workers=workers, timers=self._loop, clock=self._clock, deadlines=deadlines, lines=log.recent
        )
        self._daily_tests = (
            DailyTests(
                engine=self._engine,
                tests=inspection.tests,
                timers=self._loop,
                on_ended=lambda passed, detail: self._evidence.log.note("daily_tests", passed=passed, detail=detail),
            )
            if config.selftest.tests_daily
            else None
        )
        self._api = AgentApi(
            engine=self._engine,
            fetcher=workers.fetcher,
            terminal=config.terminal.id,
            payments=self._payments,
            evidence=self._evidence,
            inspection=inspection,
            support=self._support,
        )
        self._fleet = fleet_line.opened(
            config,
            loop=self._loop,
            clock=self._clock,
            files=self._files,
            engine=self._engine,
            conditions=conditions,
            api=self._api,
        )
        self._server = ApiServer(
            config.api_socket,
            self._loop,
            self._api.call,
            admin_groups=config.api.admin_groups,
            open_verbs=LOOK_VERBS,
            verb_groups={"payment": config.api.payment_groups},
        )
        self._watchdog = SystemWatchdog(
            systemd=config.watchdog.systemd,
            device=config.watchdog.device,
            device_timeout_s=config.watchdog.device_timeout_s,
        )

        if config.console.device:
            self._open_console(config, workers.installer)

    def _tester(self, config: Config) -> Worker:
        """The self-test worker, told beforehand what only the installer can see, where some test needs it."""
        tester = SocketWorker(config.worker_socket("selftest"), self._loop)
        if not config.selftest.asks_installer:
            return tester
        return ProvingTester(SocketWorker(config.worker_socket("installer"), self._loop), tester)

    def _open_console(self, config: Config, engineer: Worker) -> None:
        unclear = revocation.trouble(config.console.revoked_file, lambda path: Path(path).read_bytes())
        if unclear is not None:
            self._engine.report_problem(unclear)
        serial_line.open_line(
            config,
            loop=self._loop,
            clock=self._clock,
            files=self._files,
            api=self._api,
            engineer=engineer,
            hears=self._evidence.hear,
            source=self._source,
        )

    def _source(self) -> str:
        """Where the update that is under way comes from."""
        update = self._engine.situation.update
        return "" if update is None else update.source

    def run(self) -> None:
        """Serve until told to stop; a stop waits for the end of a critical section."""
        self._on_signals()
        for problem in self._engine.problems.values():  # so far only what the journal had to say
            self._log.error(problem.code, detail=problem.detail)
        self._pet()
        self._look()
        self._watchdog.ready()
        self._loop.run()

    def _look(self) -> None:
        """Observe the hardware, then recover; retried, because without it nothing may be decided."""

        def seen(observation: Observation) -> None:
            for code in self._unseen:
                self._engine.problems.pop(code, None)
            tries = observation.slots[observation.booted].tries_left  # before a refill: what the boot script left
            state = self._engine.situation.state.value
            self._log.info("started", state=state, booted=observation.booted, tries=tries)
            self._engine.start(observation)
            if self._daily is not None:
                self._daily.begin()
            if self._daily_tests is not None:
                self._daily_tests.begin()
            if self._fleet is not None:
                self._fleet.start()

        def failed(error: PosagentError) -> None:
            self._log.error("observe_failed", code=error.code, detail=error.detail)
            self._unseen.add(error.code)
            self._engine.report_problem(error)
            self._loop.call_later(OBSERVE_RETRY_S, self._look)

        self._actors.ask.observe(seen, failed)

    def _changed(self, decision: Decision) -> None:
        self._evidence.decided(decision)
        state = decision.situation.state.value
        if decision.record is not None and decision.record["event"] != Event.PROGRESSED.value:
            failure = decision.record.get("failure", {})
            self._log.info(
                "decided",
                state=state,
                reason=decision.record["event"],
                code=failure.get("code"),
                detail=failure.get("detail"),
            )
        if self._stopping and decision.record is not None and decision.record["event"] in TROUBLE:
            self._loop.stop()  # whoever shuts the terminal down has ended the workers too: the next start goes on
        if self._engine.uninterruptible:
            self._inhibitor.hold(f"update: {state}")
        else:
            self._inhibitor.release()
            self._stop_if_asked()
        self._told()
        self._support.changed()
        if self._fleet is not None:
            self._fleet.changed()

    def _told(self) -> None:
        """Whoever looks on hears of it."""
        self._api.changed()
        self._payments.tell()

    def _held(self) -> None:
        """A payment application holds, or releases."""
        self._engine.look_again()
        self._told()

    def _stop_if_asked(self) -> None:
        """Outside of a critical section, or when the terminal is about to restart anyway."""
        if self._stopping:
            self._loop.stop()

    def _pet(self) -> None:
        interval_s = self._watchdog.interval_s
        if interval_s is None:
            return
        if self._actors.ask.in_time:
            self._watchdog.pet()
        self._loop.call_later(interval_s, self._pet)

    def _on_signals(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

        def arrived() -> None:
            os.read(reader, 64)
            self._stopping = True
            if self._engine.uninterruptible and not self._actors.restarting:
                self._log.warning("stop_waits", code="critical_section", state=self._engine.situation.state.value)
            else:
                self._loop.stop()

        self._loop.watch(reader, arrived)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="posagentd", description="The resident update agent.")
    parser.add_argument("--config", default=configuration.DEFAULT_PATH, help="configuration file")
    arguments = parser.parse_args(argv)
    log.configure(up_s=up_s)
    try:
        resident = Resident(configuration.load(arguments.config))
        resident.run()
    except PosagentError as error:
        log.get("posagentd").error("cannot_run", code=error.code, detail=error.detail, remedy=error.spec.remedy)
        return EXIT_CODES[error.spec.kind]
    return 0


if __name__ == "__main__":
    sys.exit(main())
