"""Power cuts before every operation of migrate, switch and tidy: the old data or the whole new, and no payment lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from posagent.config_data import DataConfig
from posagent.core.ledger import LedgerSource
from posagent.core.ports import StepRun
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.crash.merchant import NoDatabases
from posagent.data.generations import Generations, result_of
from posagent.platform.host import LinuxClock
from tests.data.sets import no_parameters
from tests.data.terminal import STAN

ROOT = "/var/lib/posagent-data"
ROWS = [
    {"stan": 1, "type": "sale", "currency": "978", "amount": 1000, "batch": 7},
    {"stan": 2, "type": "sale", "currency": "978", "amount": 250, "batch": 7, "reversal": 1},
]
KEPT_S = 72 * 3600


@dataclass
class Link:
    """core.ports.Publisher on tmpfs: empty after each start."""

    target: str = ""

    def published(self) -> str:
        return self.target

    def publish(self, path: str, *, trial: bool = False) -> None:
        self.target = path

    def withhold(self) -> None:
        self.target = ""


@dataclass
class Renaming:
    """core.ports.Steps: one that writes the ledger under another name, and syncs nothing, as steps do."""

    medium: Medium

    def run(self, directory: str, format_from: int, format_to: int) -> Iterator[StepRun]:
        files = self.medium.files
        files.write(f"{directory}/payments.jsonl", 0, files.read(f"{directory}/ledger.jsonl"))
        files.unlink(f"{directory}/ledger.jsonl")
        yield StepRun(name="10-rename", ended=True, code=0)


@dataclass
class Terminal:
    medium: Medium
    link: Link = field(default_factory=Link)
    slot: str = "a"
    trial: bool = False
    used: int = 2
    """The highest trace number that anybody used."""
    taken: list[int] = field(default_factory=lambda: [1000, 250])
    """Amounts of the payments that are surely durable."""

    def start(self, slot: str, *, trial: bool = False) -> str:
        """Another start of the system: the problem of `select`."""
        self.link, self.slot, self.trial = Link(), slot, trial
        return str(result_of(self.generations.select())["problem"])

    @property
    def generations(self) -> Generations:
        data_format = 1 if self.slot == "a" else 2
        path = "ledger.jsonl" if self.slot == "a" else "payments.jsonl"
        ledger = LedgerSource(kind="lines", path=path)
        return Generations(
            trees=self.medium.files,
            databases=NoDatabases(),
            steps=Renaming(self.medium),
            publisher=self.link,
            clock=LinuxClock(),
            data=DataConfig(format=data_format, root_dir=ROOT, ledger=ledger, counters=(STAN,)),
            slot=self.slot,
            version=f"{data_format}.0",
            on_trial=lambda: self.trial,
            parameters=no_parameters(self.medium.files, ROOT),
        )

    def write(self, path: str, text: str) -> None:
        """What an application does, durably."""
        files, whole = self.medium.files, f"{self.link.target}/{path}"
        files.make_dir(whole.rpartition("/")[0])
        files.write(whole, 0, text.encode())
        files.sync(whole)
        files.sync_dir(whole.rpartition("/")[0])

    def amounts(self) -> list[int]:
        path = "ledger.jsonl" if self.slot == "a" else "payments.jsonl"
        lines = self.medium.files.read(f"{self.link.target}/{path}").decode().splitlines()
        return [json.loads(line)["amount"] for line in lines]

    def stan(self) -> int:
        return int(self.medium.files.read(f"{self.link.target}/counters/stan"))

    def update(self) -> None:
        """A trial of 2.0 that uses trace numbers, the commit, and what comes after."""
        self.start("b", trial=True)
        result_of(self.generations.migrate())
        self.write("counters/stan", "9\n")
        self.used = 9
        self.trial = False
        result_of(self.generations.switch(1000.0))
        result_of(self.generations.tidy(1001.0 + KEPT_S))

    def give_up(self) -> None:
        """A trial of 2.0 that uses trace numbers, and the way back."""
        self.start("b", trial=True)
        result_of(self.generations.migrate())
        self.write("counters/stan", "9\n")
        self.used = 9
        self.start("a")
        result_of(self.generations.tidy(1000.0))

    def lose_the_commit(self) -> None:
        """2.0 was tried and marked good, but the bootloader fell back: 1.0 takes a payment before 2.0 goes on."""
        self.start("b", trial=True)
        result_of(self.generations.migrate())
        self.start("a")
        self.write("ledger.jsonl", "".join(f"{json.dumps(row)}\n" for row in [*ROWS, {**ROWS[0], "amount": 99}]))
        self.taken = [1000, 250, 99]
        self.go_on()

    def go_on(self) -> None:
        """2.0 after it was marked good."""
        self.start("b")
        result_of(self.generations.switch(1000.0))


def shop(cut_at: int | None = None) -> Terminal:
    """1.0 runs and has taken two payments; the power goes `cut_at` operations later."""
    made = Terminal(Medium())
    made.medium.files.make_dir(ROOT)
    made.start("a")
    made.write("ledger.jsonl", "".join(f"{json.dumps(row)}\n" for row in ROWS))
    made.write("counters/stan", "2\n")
    made.medium.flush_all()
    if cut_at is not None:
        made.medium.cut_at = len(made.medium.done) + cut_at
    return made


def operations(of: str) -> int:
    terminal = shop()
    before = len(terminal.medium.done)
    getattr(terminal, of)()
    return len(terminal.medium.done) - before


def after_a_cut(of: str, lost: frozenset[str]) -> Iterator[Terminal]:
    """The terminal with power again, for every operation of a whole update."""
    for cut_at in range(1, operations(of) + 1):
        terminal = shop(cut_at)
        with pytest.raises(PowerCut):
            getattr(terminal, of)()
        terminal.medium.power_on(lost)
        yield terminal


every_loss = pytest.mark.parametrize(
    "lost",
    [ALL, frozenset[str](), frozenset({"content"}), frozenset({"names"}), frozenset({"size"})],
    ids=["all", "nothing", "content", "names", "sizes"],
)


@every_loss
@pytest.mark.parametrize("of", ["update", "give_up"])
def test_whatever_is_started_after_a_cut_finds_its_data_or_is_told(of: str, lost: frozenset[str]) -> None:
    for terminal in after_a_cut(of, lost):
        for slot in ("a", "b", "a"):
            if (problem := terminal.start(slot)) or not terminal.link.target:
                assert problem in (("data_newer",) if slot == "a" else ("", "data_older"))
            else:
                assert terminal.amounts() == [1000, 250] and terminal.stan() in (2, 9)


@every_loss
@pytest.mark.parametrize("of", ["update", "give_up"])
def test_an_update_that_was_cut_is_brought_to_its_end_and_leaves_nothing_behind(of: str, lost: frozenset[str]) -> None:
    for terminal in after_a_cut(of, lost):
        terminal.update()
        assert terminal.amounts() == [1000, 250] and terminal.stan() == 9
        assert [name for name in terminal.medium.files.names(ROOT) if name.startswith("g-")] == [
            terminal.link.target.split("/")[-2]
        ]
        assert terminal.start("a") == "data_newer"


@every_loss
def test_a_commit_that_was_lost_is_made_up_for_with_the_payments_taken_meanwhile(lost: frozenset[str]) -> None:
    for terminal in after_a_cut("lose_the_commit", lost):
        if terminal.slot != "b" or terminal.trial:
            continue  # before the old version's payment was durable, there was no commit to be lost
        terminal.go_on()
        assert terminal.amounts() == terminal.taken == [1000, 250, 99]
        terminal.go_on()
        assert terminal.amounts() == terminal.taken


@every_loss
@pytest.mark.parametrize("of", ["update", "give_up"])
def test_a_trace_number_that_was_used_is_never_used_again(of: str, lost: frozenset[str]) -> None:
    for terminal in after_a_cut(of, lost):
        for slot in ("a", "b"):
            terminal.start(slot)
            if terminal.link.target:
                assert terminal.stan() >= terminal.used
