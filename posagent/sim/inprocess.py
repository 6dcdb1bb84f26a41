"""A whole terminal in one process and in virtual time: the real rooms on real files and the real boot environment.

For tests that must stop between any two steps. What is replaced: the clock, the process boundary, the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from posagent import config as configuration
from posagent.agent.actors import Deadlines, UpdateActors, Workers
from posagent.agent.api import AgentApi
from posagent.agent.engine import Engine
from posagent.agent.journal import Journal
from posagent.core.errors import PosagentError
from posagent.core.model import Limits, Situation, State
from posagent.core.policy import PowerLimits
from posagent.core.ports import Message
from posagent.fetcher.download import Fetcher
from posagent.installer.service import Installer, linux_ports
from posagent.platform.power import SysfsPower
from posagent.platform.storage import LinuxFiles, open_inside
from posagent.selftest import checks
from posagent.sim import bootloader, image
from posagent.sim.layout import Layout
from posagent.sim.virtual import LocalWorker, VirtualTime

STEPS_MAX = 20_000


class SimulatedProbes:
    """selftest.checks.Probes: the payment program answers unless the booted image is a broken one."""

    def __init__(self, layout: Layout, time: VirtualTime) -> None:
        self._layout = layout
        self._time = time

    def pause(self, seconds: float) -> None:
        self._time.let_pass(seconds)

    def command(self, words: Sequence[str], timeout_s: float) -> str | None:
        return None

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        program = (self._layout.booted_root / "pos/payment.py").read_text()
        return None if image.starts(program) else "Connection refused"

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None:
        return None

    def free_space(self, path: str, free_bytes_min: int) -> str | None:
        return None


class NoInhibitor:
    """core.ports.Inhibitor where nothing could shut the terminal down."""

    def hold(self, reason: str) -> None:
        return None

    def release(self) -> None:
        return None


class InProcessTerminal:
    """Switch on with `boot`, move with `step`, look at `situation`, ask with `ask`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.time = VirtualTime()
        self._config = configuration.load(str(layout.config))
        self._ports = linux_ports(self._config)
        self._restart = False
        self.boots = 0
        self.silent: set[str] = set()
        """Verbs of the workers that hang, such as `write`."""

    @property
    def situation(self) -> Situation:
        return self._engine.situation

    @property
    def healthy(self) -> bool:
        """Whether the agent would pet its watchdog now."""
        return self._actors.healthy

    @property
    def state(self) -> State:
        return self._engine.situation.state

    def boot(self) -> None:
        """Reset: the bootloader chooses, the kernel starts, the agent observes."""
        self.time.forget()
        self._restart = False
        slot = None
        while slot is None:
            self.boots += 1
            slot = bootloader.choose(self._ports.boot.read, self._ports.boot.write)
            if slot is not None and not self._kernel(slot):
                slot = None
        self.start_agent()

    def _kernel(self, slot: str) -> bool:
        self.layout.cmdline.write_text(f"posagent.slot={slot}\n")
        readable = image.read_out(self.layout.slot(slot), self.layout.booted_root)
        return readable and not (self.layout.booted_root / "pos/boot-fault").read_text().strip()

    def start_agent(self) -> None:
        """A fresh agent process on what the disk holds; everything in memory is gone."""
        self.time.forget()
        files = LinuxFiles()
        engine = Engine(
            journal=Journal(files, self._config.journal_path),
            power=SysfsPower(self._config.power.supply_dir),
            clock=self.time,
            limits=Limits(gate_recheck_s=2.0, fetch_backoff_s=1.0, install_backoff_s=1.0, reboot_timeout_s=30.0),
            power_limits=PowerLimits(),
            on_change=lambda _: self.api.changed(),
            on_progress=lambda: self.api.changed(),
        )
        workers = self._workers(files)
        actors = UpdateActors(
            engine=engine,
            workers=workers,
            timers=self.time,
            clock=self.time,
            inhibitor=NoInhibitor(),
            deadlines=Deadlines(),
        )
        engine.actors = actors
        self._engine = engine
        self._actors = actors
        self.api = AgentApi(engine=engine, fetcher=workers.fetcher, terminal="t")
        observed: list[bool] = []

        def begin(seen: Any) -> None:
            observed.append(True)
            engine.start(seen)

        actors.observe(begin, engine.report_problem)
        while not observed and not engine.problems:
            self.step()

    def _workers(self, files: LinuxFiles) -> Workers:
        installer = Installer(self._config, self._ports)
        fetcher = Fetcher(self._config.fetch, files, self.time, lambda path: open_inside("/", path))
        verbs = {"look": fetcher.look, "fetch": fetcher.fetch, "discard": fetcher.discard}
        return Workers(
            installer=LocalWorker({**installer.verbs, "reboot": self._reboot}, self.time, self.silent),
            fetcher=LocalWorker(verbs, self.time, self.silent),
            selftest=LocalWorker(
                {
                    "run": lambda _: checks.run(
                        self._config.selftest, SimulatedProbes(self.layout, self.time), self.time
                    )
                },
                self.time,
                self.silent,
            ),
        )

    def _reboot(self, _: Mapping[str, Any]) -> Iterator[Message]:
        self._restart = True
        yield {"result": {}}

    def step(self) -> None:
        """One timer: one message of a worker, or one look at the gates."""
        if self._restart:
            self.boot()
        elif not self.time.step():
            raise AssertionError(f"nothing will ever happen again in {self.state}")

    def run_until(self, reached: Callable[[InProcessTerminal], bool]) -> None:
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
