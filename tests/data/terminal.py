"""A terminal's data for tests: real directories, two slots, and a payment application that takes money."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posagent.config_data import DataConfig
from posagent.core.ledger import CounterSource, LedgerSource
from posagent.core.parameters import Staged, trial_of
from posagent.core.ports import Databases, StepRun, Steps
from posagent.crash.merchant import NoDatabases as NoDatabases  # test_vault has it from here
from posagent.data.generations import Generations, result_of
from posagent.data.parameters import ParameterSets
from posagent.platform.host import LinuxClock
from posagent.platform.schema import SchemaFile
from posagent.platform.storage import LinuxFiles
from posagent.platform.trees import LinkPublisher, LinuxTrees

LEDGER = LedgerSource(kind="lines", path="ledger.jsonl")
STAN = CounterSource(name="stan", path="counters/stan", last=999_999)


@dataclass
class PlainSteps:
    """core.ports.Steps: functions of the data directory, which return an exit code."""

    steps: dict[str, Callable[[Path], int]] = field(default_factory=dict)

    def run(self, directory: str, format_from: int, format_to: int) -> Iterator[StepRun]:
        for name in sorted(self.steps):
            yield StepRun(name=name, ended=False)
            yield StepRun(name=name, ended=True, code=self.steps[name](Path(directory)), said=f"{name} was here")


def renamed(directory: Path) -> int:
    """A step from format 1 to 2: the ledger gets another name."""
    (directory / "ledger.jsonl").rename(directory / "payments.jsonl")
    return 0


@dataclass
class Terminal:
    """What is on its data partition, and what was booted. `take` takes a payment as the application would."""

    base: Path
    slot: str = "a"
    version: str = "1.0"
    format: int = 1
    trial: bool = False
    ledger: LedgerSource = LEDGER
    counters: tuple[CounterSource, ...] = (STAN,)
    steps: Steps = field(default_factory=PlainSteps)
    databases: Databases = field(default_factory=NoDatabases)
    owner: str = ""
    schema: str = ""
    staged: Staged | None = None
    reload: Callable[[], None] | None = None

    @property
    def root(self) -> Path:
        return self.base / "posagent-data"

    @property
    def link(self) -> Path:
        return self.base / "run/current"

    @property
    def on_trial(self) -> Path:
        return self.base / "run/current.trial"

    @property
    def config(self) -> DataConfig:
        return DataConfig(
            format=self.format,
            root_dir=str(self.root),
            link=str(self.link),
            owner=self.owner,
            ledger=self.ledger,
            counters=self.counters,
        )

    @property
    def generations(self) -> Generations:
        return Generations(
            trees=LinuxTrees(str(self.root), self.owner),
            databases=self.databases,
            steps=self.steps,
            publisher=LinkPublisher(str(self.link)),
            clock=LinuxClock(),
            data=self.config,
            slot=self.slot,
            version=self.version,
            on_trial=lambda: self.trial,
            parameters=self.sets,
        )

    @property
    def sets(self) -> ParameterSets:
        return ParameterSets(
            files=LinuxFiles(0o644),
            publisher=LinkPublisher(str(self.shown)),
            schema=SchemaFile(self.schema),
            root=str(self.root),
            staged=lambda: self.staged,
            reload=self.reload,
            mine=trial_of(self.slot, self.version),
            on_trial=lambda: self.trial,
        )

    @property
    def shown(self) -> Path:
        return self.base / "run/parameters.json"

    def boot(self, slot: str, version: str, data_format: int, *, trial: bool = False) -> dict[str, Any]:
        """Another start of the system: tmpfs is empty, and `select` runs."""
        self.slot, self.version, self.format, self.trial = slot, version, data_format, trial
        self.ledger = LEDGER if data_format == 1 else LedgerSource(kind="lines", path="payments.jsonl")
        for gone in (self.link, self.on_trial):
            gone.unlink(missing_ok=True)
        return result_of(self.generations.select())

    def migrate(self) -> dict[str, Any]:
        return result_of(self.generations.migrate())

    def commit(self, at: float = 1000.0) -> dict[str, Any]:
        """The installer marks the slot good, then the data is switched."""
        self.trial = False
        return result_of(self.generations.switch(at))

    def tidy(self, now: float = 1000.0) -> dict[str, Any]:
        return result_of(self.generations.tidy(now))

    def take(self, amount: int, **more: Any) -> None:
        """A payment on the published data."""
        stan = self.stan + 1
        (self.link / "counters").mkdir(exist_ok=True)
        (self.link / self.counters[0].path).write_text(f"{stan}\n")
        row = {"stan": stan, "type": "sale", "currency": "978", "amount": amount, "batch": 7, **more}
        with (self.link / self.ledger.path).open("a") as ledger:
            ledger.write(json.dumps(row) + "\n")

    @property
    def stan(self) -> int:
        path = self.link / self.counters[0].path
        return int(path.read_text()) if path.exists() else 0

    @property
    def amounts(self) -> list[int]:
        """Of the payments in the published data."""
        lines = (self.link / self.ledger.path).read_text().splitlines()
        return [json.loads(line)["amount"] for line in lines]
