"""Backups in the record: made before an update, kept for its time, and taken back where nothing is lost by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.data.backup import Backups
from posagent.data.generations import result_of
from posagent.data.keys import FileKeys
from posagent.data.vault import Vault
from posagent.platform.host import LinuxClock
from posagent.platform.storage import LinuxFiles
from posagent.platform.trees import LinuxTrees
from tests.data.terminal import NoDatabases, PlainSteps, Terminal, renamed


class Shop(Terminal):
    """A terminal with a vault."""

    def vault(self) -> Vault:
        backups = Backups(
            trees=LinuxTrees(str(self.root)),
            databases=NoDatabases(),
            keys=FileKeys(LinuxFiles(0o600), str(self.root / "key")),
            clock=LinuxClock(),
            root_dir=str(self.root),
            sources=["ledger.jsonl", "payments.jsonl", "counters", "parameters"],
            excluded=[],
        )
        return Vault(self.generations, backups, LinuxClock(), "pos-1")

    def backup(self, update_id: str, version: str = "2.0") -> dict[str, Any]:
        return result_of(self.vault().backup(update_id, version))

    def restore(self, name: str, *, dry_run: bool = False) -> dict[str, Any]:
        return result_of(self.vault().restore(name, dry_run=dry_run))

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.root / "backups").iterdir())

    def update(self, at: float) -> None:
        self.boot("b", "2.0", 2, trial=True)
        self.migrate()
        self.commit(at)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(base=tmp_path, steps=PlainSteps({"10-rename": renamed}))
    made.boot("a", "1.0", 1)
    made.take(1000)
    made.take(250, reversal=1)
    return made


def test_a_backup_is_kept_for_its_time_after_the_commit(shop: Shop) -> None:
    shop.backup("u1")
    shop.update(at=5000)
    shop.tidy(now=5000 + 72 * 3600)
    assert shop.kept == ["u1.backup"]
    assert "backups/u1.backup" in shop.tidy(now=5001 + 72 * 3600)["removed"]
    assert shop.kept == []


def test_of_updates_that_came_to_nothing_only_the_last_ones_backup_is_kept(shop: Shop) -> None:
    for name in ("u1", "u2", "u3"):
        shop.backup(name)
    shop.tidy(now=5000)
    assert shop.kept == ["u3.backup"]


def test_the_backup_of_an_update_that_is_tried_again_takes_the_place_of_its_first(shop: Shop) -> None:
    shop.backup("u1")
    shop.take(99)
    shop.backup("u1")
    assert [note.name for note in shop.generations.record().backups] == ["u1"]
    assert shop.restore("u1", dry_run=True)["lost"] == []


def test_a_backup_that_never_got_into_the_record_is_a_leftover(shop: Shop) -> None:
    shop.backup("u1")
    (shop.root / "backups/u2.backup").write_bytes(b"whole")
    (shop.root / "backups/u3.backup.part").write_bytes(b"half")
    assert shop.tidy()["removed"] == ["backups/u2.backup", "backups/u3.backup.part"]


def test_where_a_copy_has_no_room_the_update_does_not_begin(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posagent.data.place.SPARE_BYTES", 1 << 60)
    with pytest.raises(PosagentError, match="data_no_space") as found:
        shop.backup("u1")
    assert found.value.facts["limit"] > found.value.facts["measured"]


def test_a_dry_run_says_what_would_change_and_changes_nothing(shop: Shop) -> None:
    shop.backup("u1")
    shop.take(99)
    found = shop.restore("u1", dry_run=True)
    assert (found["now"]["payments"], found["then"]["payments"]) == (3, 2)
    assert found["lost"] == [{"measure": "number of sale 978", "before": 3, "after": 2}]
    assert shop.amounts == [1000, 250, 99] and sorted(one.name for one in shop.root.glob("g-*")) == ["g-1"]


def test_a_backup_that_lacks_a_payment_is_not_taken_back(shop: Shop) -> None:
    shop.backup("u1")
    shop.take(99)
    with pytest.raises(PosagentError, match="data_restore_loses"):
        shop.restore("u1")
    assert shop.amounts == [1000, 250, 99] and sorted(one.name for one in shop.root.glob("g-*")) == ["g-1"]


def test_a_backup_that_has_all_is_taken_back_and_counters_go_on(shop: Shop) -> None:
    (shop.link / "parameters").write_text("right")
    shop.backup("u1")
    (shop.link / "parameters").write_text("spoiled")
    (shop.link / "counters/stan").write_text("40")
    done = shop.restore("u1")
    assert (done["generation"], done["dry_run"]) == ("g-2", False)
    assert not shop.link.exists(), "whoever has the old data open does not meet the new before a restart"
    assert shop.boot("a", "1.0", 1) == {"published": "g-2", "problem": ""}
    assert (shop.link / "parameters").read_text() == "right"
    assert shop.stan == 40 and shop.amounts == [1000, 250]
    shop.tidy(now=LinuxClock().wall() + 80 * 3600)
    assert sorted(one.name for one in shop.root.glob("g-*")) == ["g-2"]


def test_what_was_settled_since_is_not_brought_back_to_be_charged_again(shop: Shop) -> None:
    shop.backup("u1")
    (shop.link / "ledger.jsonl").write_text("")
    tried = shop.restore("u1", dry_run=True)
    assert [(one["before"], one["after"]) for one in tried["again"]] == [(2, 0)]
    with pytest.raises(PosagentError, match="data_restore_doubles"):
        shop.restore("u1")
    assert shop.amounts == [], "the present data is published as before"


def test_data_that_cannot_be_read_any_more_is_replaced(shop: Shop) -> None:
    shop.backup("u1")
    (shop.link / "ledger.jsonl").write_text("spoiled")
    tried = shop.restore("u1", dry_run=True)
    assert (tried["now"], tried["then"]["payments"]) == (None, 2)
    shop.restore("u1")
    shop.boot("a", "1.0", 1)
    assert shop.amounts == [1000, 250]


def test_a_backup_of_another_format_is_not_taken_back(shop: Shop) -> None:
    shop.backup("u1")
    shop.update(at=5000)
    with pytest.raises(PosagentError, match="the backup has format 1, the data 2"):
        shop.restore("u1")


@pytest.mark.parametrize("name", ["u9", "../../etc", ""])
def test_there_is_no_such_backup(shop: Shop, name: str) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        shop.restore(name)


@pytest.mark.parametrize("name", ["../u1", "", "u/1", "x" * 65, ".hidden"])
def test_a_backup_is_not_made_under_a_name_that_leads_elsewhere(shop: Shop, name: str) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        shop.backup(name)


def test_looking_at_everything_tells_what_is_wrong_and_changes_nothing(shop: Shop) -> None:
    shop.backup("u1")
    with (shop.root / "backups/u1.backup").open("ab") as file:
        file.write(b"x")
    found = result_of(shop.vault().verify())
    assert found["current"]["counters"] == {"stan": 2} and found["current"]["ledger"]["payments"] == 2
    assert [one["problem"] for one in found["backups"]] == found["problems"] == ["data_backup_corrupt"]
    (shop.link / "ledger.jsonl").write_text("spoiled")
    assert result_of(shop.vault().verify())["problems"] == ["data_unreadable", "data_backup_corrupt"]
