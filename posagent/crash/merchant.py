"""The merchant in the explored terminal: a payment application on the data that it is given, and the data worker.

Owns: what the application finds whenever it is given data, held against what was acknowledged. It takes one payment
before each update and one after the last, and a dummy transaction in every self-test; each is durable before it counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from posagent.config_data import DataConfig
from posagent.core import durable
from posagent.core.ledger import CounterSource, LedgerSource
from posagent.core.ports import StepRun, Trees, Verb
from posagent.crash.medium import Medium
from posagent.crash.oracles import Life, need
from posagent.crash.stage import DATA_DIR, INSTALLER_DIR, Image
from posagent.crash.surroundings import StandingClock
from posagent.data.backup import Backups
from posagent.data.generations import Generations
from posagent.data.keys import FileKeys
from posagent.data.vault import Vault

LEDGER, STAN = "ledger", "stan"


class NoDatabases:
    """core.ports.Databases where all data is files."""

    def is_database(self, path: str) -> bool:
        return False

    def copy(self, source: str, target: str) -> None:
        raise AssertionError(source)

    def canonical(self, path: str) -> tuple[int, str]:
        raise AssertionError(path)

    def contents(self, path: str) -> Iterator[tuple[str, tuple[str, ...], tuple[Any, ...]]]:
        raise AssertionError(path)

    def rows(self, path: str, query: str) -> Iterator[tuple[Any, ...]]:
        raise AssertionError(path)

    def execute(self, path: str, sql: str, value: int) -> None:
        raise AssertionError(path)


class Link:
    """core.ports.Publisher, of one start of the system."""

    def __init__(self) -> None:
        self._path = ""

    def published(self) -> str:
        return self._path

    def publish(self, path: str) -> None:
        self._path = path

    def withhold(self) -> None:
        self._path = ""


class _Steps:
    """core.ports.Steps: the lines are rewritten for the new format."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    def run(self, directory: str, format_from: int, format_to: int) -> Iterator[StepRun]:
        path = f"{directory}/{LEDGER}"
        if self._trees.size(path) is not None:
            found = _rows(self._trees.read(path))
            self._trees.write(path, 0, _lines(found, format_to))
        yield StepRun(name="10-lines", ended=True, code=0)


class Merchant:
    """Of one start of the system: `image` runs, from `slot`."""

    def __init__(self, medium: Medium, life: Life, image: Image, slot: str) -> None:
        self._medium, self._life, self._image = medium, life, image
        self._link = Link()
        trial = f"{INSTALLER_DIR}/trial-{slot}"
        self.worker = Generations(
            trees=medium.files,
            databases=NoDatabases(),
            steps=_Steps(medium.files),
            publisher=self._link,
            clock=StandingClock(),
            data=config_of(image),
            slot=slot,
            version=image.version,
            on_trial=lambda: medium.files.size(trial) is not None,
        )
        self._vault = vault_of(self.worker, medium.files, config_of(image))
        list(self.worker.select())
        self.look()

    @property
    def verbs(self) -> Mapping[str, Verb]:
        worker, vault = self.worker, self._vault
        return {
            "backup": lambda args: vault.backup(args["update_id"], args["version"]),
            "migrate": lambda _: worker.migrate(),
            "switch": lambda args: worker.switch(args["committed_at"]),
            "tidy": lambda _: worker.tidy(StandingClock().wall()),
        }

    @property
    def may_pay(self) -> bool:
        return bool(self._link.published())

    def pay(self) -> None:
        """The amount is the payment's number."""
        paid, stan = self._life.world.paid, self._raise_stan()
        rows = [*self._found(), (stan, paid + 1)]
        durable.replace(self._medium.files, self._path(LEDGER), _lines(rows, self._image.format))
        self._life.paid(paid + 1)
        self.look()

    def test(self) -> None:
        """A dummy transaction: its trace number is used, and it leaves nothing else."""
        need(self.may_pay, "money", "a version is tested that was given no data")
        self.look()
        self._raise_stan()

    def look(self) -> None:
        """What the application finds."""
        if not self.may_pay:
            return
        world, rows = self._life.world, self._found()
        if [amount for _, amount in rows] == list(range(1, world.paid + 2)):
            self._life.paid(world.paid + 1)  # the power went before it could be acknowledged
        amounts, paid = [amount for _, amount in rows], self._life.world.paid
        need(amounts == list(range(1, paid + 1)), "money", f"{paid} payments were acknowledged, {amounts} are there")
        need(
            self._stan() >= world.stan, "money", f"trace number {world.stan} was used, the counter says {self._stan()}"
        )
        forms = {json.loads(line)["v"] for line in self._read(LEDGER).splitlines()}
        need(forms <= {self._image.format}, "money", f"{self._image.version} is given data of formats {forms}")

    def _raise_stan(self) -> int:
        stan = self._stan() + 1
        durable.replace(self._medium.files, self._path(STAN), f"{stan}\n".encode())
        self._life.used(stan)
        return stan

    def _stan(self) -> int:
        return int(self._read(STAN) or b"0")

    def _found(self) -> list[tuple[int, int]]:
        return _rows(self._read(LEDGER))

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        return b"" if self._medium.files.size(path) is None else self._medium.files.read(path)

    def _path(self, name: str) -> str:
        return f"{self._link.published()}/{name}"


def vault_of(worker: Generations, trees: Trees, data: DataConfig) -> Vault:
    """With keys and nonces that are the same every time: two lives that went the same way are the same."""
    sealer = Backups(
        trees=trees,
        databases=NoDatabases(),
        keys=FileKeys(trees, f"{data.root_dir}/key", bytes),
        clock=StandingClock(),
        root_dir=data.root_dir,
        sources=data.sources,
        excluded=data.excluded,
        random=bytes,
    )
    return Vault(worker, sealer, StandingClock(), "t")


def config_of(image: Image) -> DataConfig:
    """Of that image's payment application."""
    return DataConfig(
        format=image.format,
        root_dir=DATA_DIR,
        sources=(LEDGER, STAN),
        ledger=LedgerSource(kind="lines", path=LEDGER),
        counters=(CounterSource(name="stan", path=STAN),),
    )


def _lines(rows: list[tuple[int, int]], form: int) -> bytes:
    common = {"type": "sale", "currency": "EUR", "batch": "1", "reversal": None}
    return b"".join(
        json.dumps({"stan": stan, "amount": amount, "v": form, **common}).encode() + b"\n" for stan, amount in rows
    )


def _rows(data: bytes) -> list[tuple[int, int]]:
    found = map(json.loads, data.splitlines())
    return [(one["stan"], one["amount"]) for one in found]
