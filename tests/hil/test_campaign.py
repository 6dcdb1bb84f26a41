"""The power-cut campaign's own parts, without a machine: plans, the console, the log of writes, the report."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hil.campaign import life, report, writelog
from hil.campaign.guest import KERNEL, UBOOT, Guest
from hil.machine import Machine
from posagent.agent.journal import Journal
from posagent.data import record
from posagent.platform.storage import LinuxFiles
from posagent.sim.till import Till

TOOLS = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
SECTOR = writelog.SECTOR


# plans


def test_a_plan_can_be_written_down_and_lived_again() -> None:
    for plan in itertools.islice(life.plans(1), 20):
        assert life.parse(str(plan)) == plan


@pytest.mark.parametrize("text", ["none nowhere+1", "melts install+1", "none install+soon", "none install", ""])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        life.parse(text)


def test_the_same_seed_makes_the_same_lives() -> None:
    first, second, other = ([*map(str, itertools.islice(life.plans(seed), 9))] for seed in (1, 1, 2))
    assert first == second != other


def test_delays_sweep_every_phase_from_its_begin_to_its_end() -> None:
    cuts = [cut for plan in itertools.islice(life.plans(1), 60) for cut in plan.cuts]
    for marker, span_s in life.SPAN_S.items():
        shares = sorted(cut.delay_s / span_s for cut in cuts if cut.marker == marker)
        assert len(shares) > 10 and shares[0] < 0.15 and shares[-1] > 0.85, marker
        assert max(late - early for early, late in itertools.pairwise(shares)) < 0.25, marker


# the console


class Said(Machine):
    """A machine whose console says what is given."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.typed = b""

    def on(self) -> None:
        """It says the same, on or off."""

    def read(self, timeout_s: float, bytes_max: int = 1 << 16) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def write(self, data: bytes) -> None:
        self.typed += data


def seen(*pieces: bytes) -> Guest:
    guest = Guest(Said(*pieces))
    for _ in pieces:
        guest.pump(0)
    return guest


STATUS = b'{"state": "install", "booted": "a", "last_outcome": null}\r\n'


def test_phases_follow_what_the_console_says() -> None:
    assert seen(b"boot: slot b\r\n").phase == UBOOT
    assert seen(b"boot: slot b\r\nStarting ker", b"nel ...\r\n").phase == KERNEL
    guest = seen(b"boot: slot b\r\nStarting kernel ...\r\n", STATUS)
    assert (guest.phase, guest.booted, guest.starts, guest.decided()) == ("install", "b", 1, True)


def test_a_restart_forgets_what_the_agent_said_before() -> None:
    guest = seen(STATUS, b"boot: slot a\r\n")
    assert (guest.phase, guest.decided()) == (UBOOT, False)


@pytest.mark.parametrize(
    "line", [b'{"state": "install", "booted": "a"', b"\xff\xfe", b"[  9.1] watchdog: did not stop!"]
)
def test_what_is_torn_or_foreign_changes_nothing(line: bytes) -> None:
    assert seen(b"boot: slot a\r\n" + line + b"\r\n").phase == UBOOT


def test_the_agent_is_watched_as_soon_as_there_is_a_shell() -> None:
    machine = Said(b"terminal login: root\r\n", b"root@terminal:~# ", STATUS)
    guest = Guest(machine)
    assert guest.until(guest.decided, 5)
    assert machine.typed == b"posagent watch --json\n"


def test_the_agent_has_decided_when_it_first_knew_its_slots_since_the_power_came() -> None:
    machine = Said(b"boot: slot b\r\n", b'{"state": "idle", "booted": null}\r\n', STATUS, b"boot: slot a\r\n", STATUS)
    guest = Guest(machine)
    told = []
    for _ in range(5):
        guest.pump(0)
        told.append(guest.decided_at)
    assert told[:2] == [None, None]
    assert told[2] is not None and told[2] == told[3] == told[4]
    assert (guest.decided_starts, guest.starts) == (1, 2)
    guest.power_on()
    assert (guest.decided_at, guest.starts) == (None, 0)


# the end of a life


@pytest.mark.parametrize(
    ("acknowledged", "ledger", "said"),
    [
        ([], ["0", "sound"], []),
        ([1, 2, 4], ["5", "sound"], []),  # an answer may be lost, or the terminal's last payment be unheard
        ([1, 2, 3], ["2", "sound"], ["2 payments are left of those acknowledged up to 3"]),
        ([1, 2, 2, 3], ["3", "sound"], ["acknowledged, lost, and their numbers given again: from [2]"]),
        ([1, 2], ["2", "damaged"], ["the ledger is ['2', 'damaged']"]),
        ([1], [], ["the ledger is []"]),
    ],
)
def test_payments_that_were_acknowledged_and_are_gone_are_told(
    acknowledged: list[int], ledger: list[str], said: list[str]
) -> None:
    assert life.gone(acknowledged, ledger) == said


@pytest.mark.parametrize(("fault", "kind", "code", "slot"), [(fault, *end) for fault, end in life.ENDS.items()])
def test_an_update_has_to_end_in_its_outcome_with_its_code_and_in_its_slot(
    fault: str, kind: str, code: str, slot: str
) -> None:
    outcome = {"outcome": kind, "code": code, "cause": None}
    assert life.misses(fault, outcome, slot) == []
    assert "interrupted" in life.misses(fault, outcome | {"code": "interrupted"}, slot)[0]
    assert len(life.misses(fault, outcome | {"outcome": "failed"}, "ab".replace(slot, ""))) == 2


def test_an_update_that_is_refused_is_the_terminals_fault_and_not_the_rigs() -> None:
    machine = Said(b"root@terminal:~# ", b'posagent update\r\n{"code": "no_update"}\r\n:END:\r\n')
    with pytest.raises(life.Stuck, match="no_update"):
        life.begin(Guest(machine))


# the log of writes


def log_of(path: Path, *writes: tuple[int, bytes], superblock: bool = True) -> Path:
    """As QEMU's blklogwrites makes it: a superblock, then for each write a header and its data, in sectors."""
    blocks = [struct.pack("<QQQI", writelog.MAGIC, 1, len(writes), SECTOR) if superblock else bytes(28)]
    for sector, data in writes:
        blocks += [struct.pack("<QQQQ", sector, len(data) // SECTOR, 0, 0), data]
    path.write_bytes(b"".join(block.ljust(-(-len(block) // SECTOR) * SECTOR, b"\0") for block in blocks))
    return path


@pytest.mark.parametrize("superblock", [True, False])
def test_writes_are_read_in_their_order(tmp_path: Path, superblock: bool) -> None:
    given = [(7, b"a" * SECTOR), (0, b"b" * SECTOR * 3), (7, b"c" * SECTOR)]
    log = writelog.WriteLog(log_of(tmp_path / "log", *given, superblock=superblock))
    assert [(write.at // SECTOR, log.data(write)) for write in log.writes] == given


def test_a_write_that_was_torn_in_the_log_itself_is_left_out(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", (1, b"a" * SECTOR), (2, b"b" * SECTOR * 4))
    path.write_bytes(path.read_bytes()[:-SECTOR])
    assert len(writelog.WriteLog(path).writes) == 1


def test_another_file_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * SECTOR * 2)
    with pytest.raises(ValueError, match="no log"):
        writelog.WriteLog(tmp_path / "log")


def test_moments_lie_where_it_matters(tmp_path: Path) -> None:
    places = [life.SLOT_AT["b"]] * 900 + [writelog.DATA_AT] * 90 + [1 << 20] * 10
    writes = [writelog.Write(at, 0, SECTOR) for at in places]
    chosen = writelog.moments(writes, 40, seed=1)
    assert chosen == sorted(set(chosen)) and chosen[-1] == len(writes)
    kinds = [places[number] for number in chosen[:-1]]
    assert [kinds.count(place) for place in (1 << 20, writelog.DATA_AT, life.SLOT_AT["b"])] == [10, 20, 10]


def card_with(card: Path, tree: Path) -> Path:
    """A card whose data partition holds that tree; the rest of it is empty."""
    data = card.with_suffix(".ext4")
    subprocess.run(["mkfs.ext4", "-q", "-d", tree, data, "8M"], check=True, capture_output=True, env=TOOLS)
    with card.open("wb") as medium:
        medium.seek(writelog.DATA_AT)
        medium.write(data.read_bytes() + bytes(life.MIB))
    return card


@pytest.mark.real
def test_a_journal_or_a_payment_that_vanishes_is_found_once_it_had_been_seen(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    journal, data = tree / "posagent/journal", tree / "posagent-data"
    log = writelog.WriteLog(log_of(tmp_path / "log"))
    replay = writelog.Replay(tmp_path / "card", log, {}, tmp_path)

    def looked() -> list[str]:
        card_with(replay.card, tree)
        return list(replay.data_partition(["a"]))

    tree.mkdir()
    assert looked() == [], "before its first start there is no journal"
    Journal(LinuxFiles(), str(journal))
    taken(data, 1, payments=2)
    assert looked() == [] and replay.seen == writelog.Seen(payments=2, journal=True)
    shutil.rmtree(journal.parent)
    taken(data, 2, payments=1)
    assert looked() == [
        "1 payments, and 2 at an earlier moment",
        "the agent's journal is gone, and was there at an earlier moment",
    ]
    (data / "generations.json").write_text("{")
    assert "the merchant's data: " in looked()[0]


def taken(data: Path, number: int, *, payments: int) -> None:
    """A generation with so many payments is the current one."""
    current = record.Generation(name=f"g-{number}", format=2)
    inside = data / current.name / "data"
    inside.mkdir(parents=True)
    till = Till(inside, current.format)
    for _ in range(payments):
        till.take(100)
    till.close()
    record.store(LinuxFiles(), str(data / "generations.json"), record.Record(current=current))


def test_a_finding_comes_with_the_command_that_examines_its_moment_again(tmp_path: Path) -> None:
    log, card, keep = log_of(tmp_path / "writes.log"), tmp_path / "card.img", tmp_path / "kept"
    card.write_bytes(b"as it leaves the factory")
    finding = writelog.Finding(7, writelog.Seen(payments=2), ("the boot order is empty",))
    (told,) = writelog.kept(log, card, {}, [finding], keep)
    said, _, command = told.partition(" -- ")
    assert said == "before write 7: the boot order is empty"
    assert command.startswith(".venv/bin/python -m hil.campaign --moment ") and command.endswith(":7")
    stays = Path(command.split()[-1].removesuffix(":7"))
    assert stays.parent == keep and stays.exists() and not log.exists()
    card.write_bytes(b"built anew")
    with pytest.raises(ValueError, match="built anew"):
        writelog.again(stays, 7, tmp_path, card)


# the report


def lived(**more: Any) -> dict[str, Any]:
    fired = life.Fired("install+1.00", "install", 1.0, "a", recover_s=30.0, sells_s=20.0, starts=1)
    record = life.Record("none install+1.00 commit+1.00", [fired], {"outcome": "committed"}, payments=5)
    return record.to_dict() | more


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"wrong": ["slot a runs, not <b>"]}, "wrong_outcome"),
        ({"lost": ["2 payments are left"]}, "data_lost"),
        ({"unbootable": True, "wrong": ["not decided"], "outcome": {}}, "unbootable"),
    ],
)
def test_a_life_that_went_wrong_is_counted_and_can_be_lived_again(
    tmp_path: Path, more: dict[str, Any], name: str
) -> None:
    lives = [lived(), lived(**more)]
    result = report.summary(lives, seconds=1.0)
    assert result[name] == 1 and not report.is_clean(result)
    report.write(result, tmp_path)
    page, told = (tmp_path / "campaign.html").read_text(), io.StringIO()
    report.tell(lives, told)
    for text in (page.replace("&#x27;", "'"), told.getvalue()):
        assert "make hil-campaign LIFE='none install+1.00 commit+1.00'" in text
    assert "<b>" not in page


def test_a_clean_campaign_says_so(tmp_path: Path) -> None:
    result = report.summary([lived()], seconds=1.0)
    assert report.is_clean(result)
    assert (result["cuts"], result["fired"], result["by_phase"]) == (2, 1, {"install": 1})
    report.write(result, tmp_path)
    assert "None." in (tmp_path / "campaign.html").read_text()


def test_what_was_found_between_the_writes_is_not_clean() -> None:
    assert not report.is_clean({"writes": {"found": ["before write 7: the boot order is empty"]}})
    assert report.is_clean({"writes": {"found": []}})


def test_quantiles_of_little_are_no_invention() -> None:
    assert report.spread([]) == {} and report.spread([3.0]) == {"p50": 3.0, "p90": 3.0, "max": 3.0}
    assert report.spread([1.0, 2.0, 3.0]) == {"p50": 2.0, "p90": 2.8, "max": 3.0}
