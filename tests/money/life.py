"""One batch's way through one update on a medium that loses its power: backup, trial, commit or rollback.

Owns: what the agent and the bootloader do around the data worker (in which order, again after every cut), the payment
application, and what must hold whenever it finds data: every payment that was acknowledged, in order, once; counters
that never went back; the format of the version that runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from posagent.config_data import DataConfig
from posagent.core import durable
from posagent.core.errors import PosagentError
from posagent.core.ledger import CounterSource, LedgerSource
from posagent.core.ports import StepRun, Trees
from posagent.crash.medium import Medium, PowerCut
from posagent.crash.merchant import Link, NoDatabases, vault_of
from posagent.crash.surroundings import StandingClock
from posagent.crash.units import Profile
from posagent.data.generations import Generations, result_of
from tests.data.sets import no_parameters
from tests.money import batches
from tests.money.batches import Batch

ROOT = "/data/pos"
FATES = (
    *("commit", "at-once", "rollback", "aborts", "loses", "damages", "goes-back", "same-format"),
    *("falls-back", "falls-back-paid", "falls-back-settled"),
)
"""How the update ends: `at-once`: trial and commit in one start; `aborts`: its migration step does; `loses`: that drops
a payment; `damages`: the new version does, on trial; `goes-back`: the bootloader falls back in the middle of the trial,
the old version takes a payment, and the trial goes on; `falls-back`: it does so after the commit, before or after a
payment was taken on the new version, or was taken and settled; then the new version comes back."""
OLD, NEW = "1.0.0", "2.0.0"
STARTED_S = 1_800_000_000.0


@dataclass(slots=True)
class Seen:
    """What one life came to."""

    operations: int = 0
    cuts: int = 0
    trouble: str = ""
    stages: list[str] = field(default_factory=list)


class Wrong(AssertionError):
    """Money is not as it was."""


class Touched(Wrong):
    """What the old version comes back to is not what it left."""


class StepsOf:
    """core.ports.Steps, in this process: format 1 to 2, well or badly."""

    def __init__(self, trees: Trees, fate: str) -> None:
        self._trees, self._fate = trees, fate

    def run(self, directory: str, format_from: int, format_to: int) -> Iterator[StepRun]:
        yield StepRun(name="10-elsewhere", ended=True, code=1)
        old = f"{directory}/ledger"
        if self._trees.size(old) is not None:
            found = batches.rows(self._trees.read(old))
            if self._fate == "loses" and found:
                found = found[:-1]
            self._trees.make_dir(f"{directory}/book")
            self._trees.write(f"{directory}/book/payments", 0, batches.lines(found, format_to))
            self._trees.unlink(old)
        if self._fate == "aborts":
            yield StepRun(name="20-book", ended=True, code=2, said="no")
            return
        self._trees.make_dir(f"{directory}/counters")
        for name in ("stan", "invoice", "batch"):
            if self._trees.size(f"{directory}/{name}") is not None:
                self._trees.write(f"{directory}/counters/{name}", 0, self._trees.read(f"{directory}/{name}"))
                self._trees.unlink(f"{directory}/{name}")
        yield StepRun(name="20-book", ended=True, code=0)


def config(form: int) -> DataConfig:
    """Of an image whose application has its data in that format."""
    inside, ledger = ("", "ledger") if form == 1 else ("counters/", "book/payments")
    names = ("stan", "invoice", "batch")
    return DataConfig(
        format=form,
        root_dir=ROOT,
        sources=("ledger", *names) if form == 1 else ("book", "counters"),
        ledger=LedgerSource(kind="lines", path=ledger),
        counters=tuple(
            CounterSource(name=name, path=inside + name, last=batches.STAN_LAST if name == "stan" else 0)
            for name in names
        ),
    )


class Life:
    """`live` runs it to its end, through cuts before the operations that `cuts` name: each counts from the last."""

    def __init__(self, batch: Batch, fate: str, profile: Profile, seed: int, cuts: tuple[int, ...] = ()) -> None:
        self._batch, self._fate, self._profile, self._seed = batch, fate, profile, seed
        self._dice = random.Random(seed)
        self._cuts = list(cuts)
        self._medium = Medium(profile=profile, chooser=self, strict=False)
        self._acknowledged = list(batch.rows)
        self._used = dict(batch.counters)
        self._maybe: tuple[Any, ...] | None = None
        """A payment that was under way when the power went."""
        self._left: dict[str, bytes] = {}
        """The old version's files as it left them, but for counters, which go on."""
        self._paid_in_between = self._sold = self._settled = False
        self._on_trial = True
        self._begun = 0
        self.seen = Seen()

    def choose(self, what: str, count: int) -> int:
        """units.Chooser: what a cut has left of what was not durable."""
        return self._dice.randrange(count)

    # the terminal

    def live(self) -> Seen:
        """Raises Wrong, and whatever the code under test raises that it should not."""
        stage = "factory"
        while stage != "end":
            self.seen.stages.append(stage)
            try:
                stage = getattr(self, f"_{stage.replace('-', '_')}")()
            except PowerCut:
                self.seen.cuts += 1
                self._medium.restore(self._medium.crashed())
                self._plan_cut()
        self.seen.operations = len(self._medium.done) - self._begun
        return self.seen

    def _plan_cut(self) -> None:
        self._medium.cut_at = len(self._medium.done) + self._cuts.pop(0) if self._cuts else None

    def _worker(self, slot: str, on_trial: bool | Callable[[], bool]) -> Generations:
        """A fresh process after a start of that slot."""
        form = 2 if slot == "b" and self._fate != "same-format" else 1
        self._shown = Link()
        trees = self._medium.files
        data = config(form)
        return Generations(
            trees=trees,
            databases=NoDatabases(),
            steps=StepsOf(trees, self._fate),
            publisher=self._shown,
            clock=StandingClock(),
            data=data,
            slot=slot,
            version=NEW if slot == "b" else OLD,
            on_trial=on_trial if callable(on_trial) else lambda: on_trial,
            parameters=no_parameters(trees, data.root_dir),
        )

    # what happens, one stage after the other; each begins anew after a cut

    def _factory(self) -> str:
        """The batch is there before the first cut may fall."""
        worker = self._worker("a", False)
        result_of(worker.select())
        here = self._shown.published()
        trees = self._medium.files
        trees.write(f"{here}/ledger", 0, batches.lines(self._batch.rows, 1))
        for name, value in self._batch.counters.items():
            trees.write(f"{here}/{name}", 0, f"{value}\n".encode())
        self._medium.flush_all()
        self._begun = len(self._medium.done)
        self._plan_cut()
        return "backup"

    def _backup(self) -> str:
        worker = self._worker("a", False)
        result_of(worker.select())
        self._must_have("a", "before the update")
        made = result_of(vault_of(worker, self._medium.files, config(1)).backup("u1", NEW))
        need(made["files"] == 4, f"{made['files']} files in the backup")
        self._left = self._files()
        return "trial"

    def _trial(self) -> str:
        worker = self._worker("b", lambda: self._on_trial)
        self._on_trial = True
        result_of(worker.select())
        need(not self._shown.published(), "a version on trial gets data before it was copied")
        if self._fate == "goes-back" and not self._paid_in_between and self._dice.random() < 0.5:
            return "in-between"
        try:
            made = result_of(worker.migrate())
        except PosagentError as error:
            need(self._fate in ("aborts", "loses", "damages"), f"migration failed: {error}")
            need(self._fate != "aborts" or error.code == "data_step_failed", str(error))
            need(self._fate == "aborts" or error.code == "data_money_differs", str(error))
            return "rollback"
        need(self._fate != "aborts", "a step gave up and the data was taken over")
        need(self._fate != "loses" or not self._acknowledged, "a payment is gone and nobody saw")
        need(made["format_to"] == (1 if self._fate == "same-format" else 2), f"format {made['format_to']}")
        self._must_have("b", "on trial")
        self._test()
        if self._fate == "goes-back" and not self._paid_in_between:
            return "in-between"
        if self._fate == "at-once":
            self._on_trial = False
            return self._confirm(worker)
        if self._fate == "damages" and self._acknowledged:
            path = self._ledger("b")
            durable.replace(self._medium.files, path, batches.lines(self._acknowledged[:-1], 2))
        return "rollback" if self._fate in ("rollback", "loses") else "commit"

    def _test(self) -> None:
        """The new version's dummy transaction uses a trace number."""
        path = self._counter("b", "stan")
        value = batches.after(int(self._medium.files.read(path)))
        durable.replace(self._medium.files, path, f"{value}\n".encode())
        self._used["stan"] = value

    def _in_between(self) -> str:
        """Power cuts let the bootloader start the old version once more, which takes a payment."""
        worker = self._worker("a", False)
        result_of(worker.select())
        self._must_have("a", "between two trials")
        if not self._paid_in_between:
            self._pay("a")
            self._paid_in_between = True
        self._left = self._files()
        return "trial"

    def _commit(self) -> str:
        """The tests passed; whether the slot was marked good before the last cut is not sure."""
        worker = self._worker("b", self._dice.random() < 0.5)
        try:
            result_of(worker.select())
        except PosagentError as error:
            need(self._fate == "damages" and error.code == "data_money_differs", f"not selected: {error}")
            return "rollback"
        if self._shown.published():  # a cut after the switch
            self._must_have("b", "after the switch")
        return self._confirm(worker)

    def _confirm(self, worker: Generations) -> str:
        """As the agent does: the copy is looked at once more, the slot marked good, then the switch."""
        damaged = self._fate == "damages" and bool(self._acknowledged)
        try:
            result_of(worker.migrate())
        except PosagentError as error:
            need(damaged and error.code == "data_money_differs", f"not confirmed: {error}")
            return "rollback"
        self._on_trial = False
        need(not damaged, "a copy without a payment is confirmed")
        result_of(worker.switch(STARTED_S))
        self._must_have("b", "committed")
        if not self._fate.startswith("falls-back"):
            return "rest-b"
        return "fallen" if self._fate == "falls-back" else "sells"

    def _sells(self) -> str:
        """The new version takes a payment, and perhaps settles the batch."""
        result_of(self._worker("b", False).select())
        if not self._settled:
            self._must_have("b", "committed, after a start")
        if not self._sold:
            self._pay("b")
            self._sold = True
        if self._fate == "falls-back-settled":
            self._acknowledged, self._settled = [], True
            durable.replace(self._medium.files, self._ledger("b"), b"")
        return "fallen"

    def _fallen(self) -> str:
        """The new version cannot be started any more for a while."""
        told = result_of(self._worker("a", False).select())
        if self._fate == "falls-back" and (self._acknowledged or self._used):
            self._must_have("a", "fallen back before anything was paid")
            if not self._paid_in_between:
                self._pay("a")
                self._paid_in_between = True
        else:
            need(told == {"published": "", "problem": "data_newer"}, f"fallen back after a payment: {told}")
        result_of(self._worker("a", False).tidy(STARTED_S + 60))
        return "rest-b"

    def _rollback(self) -> str:
        worker = self._worker("a", False)
        result_of(worker.select())
        self._must_have("a", "rolled back")
        if self._files() != self._left:
            raise Touched(f"left as {self._left}, found as {self._files()}")
        return "rest-a"

    def _rest_a(self) -> str:
        return self._rest("a")

    def _rest_b(self) -> str:
        return self._rest("b")

    def _rest(self, slot: str) -> str:
        worker = self._worker(slot, False)
        result_of(worker.select())
        self._must_have(slot, "at rest")
        result_of(worker.tidy(STARTED_S + 120))
        self._must_have(slot, "tidied")
        self._pay(slot)
        result_of(self._worker(slot, False).select())
        self._must_have(slot, "after a payment")
        left = {name for name, kind in self._medium.files.entries(ROOT) if kind == "dir"}
        need(len(left) <= (3 if slot == "a" else 4), f"left behind: {sorted(left)}")
        return "end"

    # the payment application

    def _form(self, slot: str) -> int:
        return 2 if slot == "b" and self._fate != "same-format" else 1

    def _ledger(self, slot: str) -> str:
        return f"{self._shown.published()}/{config(self._form(slot)).ledger.path}"

    def _counter(self, slot: str, name: str) -> str:
        sources = {one.name: one.path for one in config(self._form(slot)).counters}
        return f"{self._shown.published()}/{sources[name]}"

    def _pay(self, slot: str) -> None:
        """Durable before it is acknowledged, as applications do."""
        files = self._medium.files
        path = self._counter(slot, "stan")
        stan = int(files.read(path))
        row = batches.payment(self._seed, stan)
        durable.replace(files, path, f"{batches.after(stan)}\n".encode())
        self._used["stan"] = batches.after(stan)
        self._maybe = row
        old = files.read(self._ledger(slot)) if files.size(self._ledger(slot)) is not None else b""
        durable.replace(files, self._ledger(slot), old + batches.lines([row], self._form(slot)))
        self._acknowledged.append(row)
        self._maybe = None

    def _files(self) -> dict[str, bytes]:
        """Whatever is in the data that the application finds; of counters only that they are there."""
        files, here = self._medium.files, self._shown.published()
        counters = {one.path for one in config(1).counters}
        names = [name for name, _ in files.entries(here)]
        return {name: b"" if name in counters else files.read(f"{here}/{name}") for name in names}

    def _must_have(self, slot: str, when: str) -> None:
        """What the application finds is all that was acknowledged."""
        files = self._medium.files
        need(bool(self._shown.published()), f"{when}: the payment application finds no data")
        path = self._ledger(slot)
        found = list(batches.rows(files.read(path))) if files.size(path) is not None else []
        if self._maybe is not None and found == [*self._acknowledged, self._maybe]:
            self._acknowledged, self._maybe = found, None
        need(found == self._acknowledged, f"{when}: {len(found)} payments, {len(self._acknowledged)} acknowledged")
        for name, used in self._used.items():
            value = int(files.read(self._counter(slot, name)))
            behind = (used - value) % batches.STAN_LAST if name == "stan" else used - value
            need(value == used or not 0 < behind < batches.STAN_LAST / 2, f"{when}: counter {name} {value} < {used}")


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


def shortened(seen: Seen) -> Seen:
    return replace(seen, stages=seen.stages[-8:])
