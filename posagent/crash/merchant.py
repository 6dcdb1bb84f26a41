"""The merchant in the explored terminal: a payment application on the data that it is given, and the data worker.

Owns: what the application finds whenever it is given data, held against what was acknowledged. It takes one payment
before each update and one after the last, and a dummy transaction in every self-test; each is durable before it counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from posagent.config_data import DataConfig
from posagent.core import durable, parameters
from posagent.core.errors import PosagentError
from posagent.core.ledger import CounterSource, LedgerSource
from posagent.core.ports import StepRun, Trees, Verb
from posagent.crash.medium import Medium
from posagent.crash.oracles import Life, need
from posagent.crash.stage import DATA_DIR, INSTALLER_DIR, SETS, Image
from posagent.crash.surroundings import StandingClock
from posagent.data.backup import Backups
from posagent.data.generations import Generations
from posagent.data.keys import FileKeys
from posagent.data.parameters import ParameterSets
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

    def publish(self, path: str, *, trial: bool = False) -> None:
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


class Formats:
    """core.ports.Schema of images whose data has that format."""

    def __init__(self, form: int) -> None:
        self._form = form

    @property
    def digest(self) -> str:
        return f"format-{self._form}"

    def check(self, value: Any) -> None:
        if self._form not in value["formats"]:
            raise PosagentError("parameters_invalid", f"for formats {value['formats']}")


class Merchant:
    """Of one start of the system: `image` runs, from `slot`; `goal` is the version that is asked for now."""

    def __init__(self, medium: Medium, life: Life, image: Image, slot: str, goal: Callable[[], str]) -> None:
        self._medium, self._life, self._image, self._goal = medium, life, image, goal
        self._link, self._shown, self._read_last = Link(), Link(), ""
        trial = f"{INSTALLER_DIR}/trial-{slot}"

        def on_trial() -> bool:
            return medium.files.size(trial) is not None

        self._sets = ParameterSets(
            files=medium.files,
            publisher=self._shown,
            schema=Formats(image.format),
            root=DATA_DIR,
            staged=lambda: parameters.left(medium.files, INSTALLER_DIR),
            reload=self._reload,
            mine=parameters.trial_of(slot, image.version),
            on_trial=on_trial,
        )
        self.worker = Generations(
            trees=medium.files,
            databases=NoDatabases(),
            steps=_Steps(medium.files),
            publisher=self._link,
            clock=StandingClock(),
            data=config_of(image),
            slot=slot,
            version=image.version,
            on_trial=on_trial,
            parameters=self._sets,
        )
        self._vault = vault_of(self.worker, medium.files, config_of(image))
        list(self.worker.select())
        self.look()

    @property
    def verbs(self) -> Mapping[str, Verb]:
        worker, vault = self.worker, self._vault
        return {
            "parameters": lambda args: worker.alone(args["do"], args["update_id"]),
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

    def test(self) -> bool:
        """A dummy transaction: its trace number is used, and it leaves nothing else. Whether it went well."""
        need(self.may_pay, "money", "a version is tested that was given no data")
        self.look()
        self._raise_stan()
        found = self._parameters()
        return found == "" or SETS[found].good

    def _reload(self) -> None:
        self._read_last = self._parameters()

    def look_at_rest(self) -> None:
        """No update is under way."""
        need(self._parameters() == self._kept(), "parameters", f"{self._parameters()!r}, not {self._kept()!r}")
        loaded = self._read_last or self._parameters()
        need(loaded == self._parameters(), "parameters", f"{loaded} was read last, {self._parameters()} is there")

    def _kept(self) -> str:
        """The set that was confirmed last of those that this version takes."""
        kept = [name for name in self._life.sets_kept if self._image.format in SETS[name].formats]
        return kept[-1] if kept else ""

    def _parameters(self) -> str:
        """What the application finds."""
        path = self._shown.published()
        return str(json.loads(self._medium.files.read(path))["version"]) if path else ""

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
        self._look_at_parameters()

    def _look_at_parameters(self) -> None:
        found, goal, kept = self._parameters(), self._goal(), self._kept()
        comes = goal if goal in SETS else self._life.images[goal].parameters if goal else ""
        need(found in (kept, comes), "parameters", f"{found!r}, neither {kept!r} nor {comes!r}")
        accepted = not found or self._image.format in SETS[found].formats
        need(accepted, "parameters", f"{self._image.version} is given {found}")

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
