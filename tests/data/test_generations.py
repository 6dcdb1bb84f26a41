"""Generations of the merchant's data: each version finds what belongs to it, and no payment is lost on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from tests.data.terminal import PlainSteps, Terminal, renamed


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """It runs 1.0 and has taken two payments."""
    made = Terminal(base=tmp_path, steps=PlainSteps({"10-rename": renamed}))
    made.boot("a", "1.0", 1)
    made.take(1000)
    made.take(250, reversal=1)
    return made


def test_the_very_first_start_begins_with_an_empty_generation(tmp_path: Path) -> None:
    terminal = Terminal(base=tmp_path)
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
    assert list(terminal.link.iterdir()) == []


def test_a_version_on_trial_gets_nothing_before_its_copy_is_migrated(terminal: Terminal) -> None:
    assert terminal.boot("b", "2.0", 2, trial=True) == {"published": "", "problem": ""}
    assert not terminal.link.exists()
    done = terminal.migrate()
    assert (done["generation"], done["changed"], done["format_from"], done["format_to"]) == ("g-2", True, 1, 2)
    assert done["ledger"]["totals"] == [["sale", "978", 2, 1250]]
    assert terminal.amounts == [1000, 250]


def test_the_old_data_is_untouched_by_whatever_the_new_version_does(terminal: Terminal) -> None:
    old = (terminal.root / "g-1/data/ledger.jsonl").read_bytes()
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "payments.jsonl").write_text("ruined")
    assert (terminal.root / "g-1/data/ledger.jsonl").read_bytes() == old
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
    assert terminal.amounts == [1000, 250]


def test_a_committed_version_goes_on_with_its_copy(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    assert terminal.on_trial.exists(), "whoever cannot hear the agent sees that a rollback would lose what is paid"
    assert terminal.commit() == {"published": "g-2", "retired": "g-1"}
    assert not terminal.on_trial.exists()
    terminal.take(5)
    assert terminal.boot("b", "2.0", 2) == {"published": "g-2", "problem": ""}
    assert terminal.amounts == [1000, 250, 5]


def test_after_the_commit_the_old_version_is_told_that_the_data_is_newer(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    terminal.commit()
    terminal.take(5)
    assert terminal.boot("a", "1.0", 1) == {"published": "", "problem": "data_newer"}
    terminal.boot("a", "1.0", 1, trial=True)
    with pytest.raises(PosagentError, match="data_newer"):
        terminal.migrate()


def test_as_long_as_nothing_was_paid_the_old_version_goes_on_with_its_own_data_and_the_new_takes_over_again(
    terminal: Terminal,
) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "counters/stan").write_text("17")
    terminal.commit()
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
    assert (terminal.amounts, terminal.stan) == ([1000, 250], 17)
    terminal.take(5)
    assert terminal.boot("b", "2.0", 2)["problem"] == ""
    assert terminal.amounts == [1000, 250, 5]


def test_counters_that_the_trial_used_are_not_used_again_after_a_rollback(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "counters/stan").write_text("17")
    terminal.boot("a", "1.0", 1)
    assert terminal.stan == 17
    terminal.tidy()
    terminal.take(1)
    assert terminal.stan == 18 and terminal.amounts == [1000, 250, 1]


def test_a_counter_that_began_again_is_ahead(terminal: Terminal) -> None:
    (terminal.link / "counters/stan").write_text("999998")
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "counters/stan").write_text("3")
    terminal.boot("a", "1.0", 1)
    assert terminal.stan == 3


def test_a_copy_that_a_broken_version_ruined_does_not_keep_the_old_one_from_working(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "counters/stan").write_text("ruined")
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": "data_unreadable"}
    assert terminal.tidy()["problem"] == ""
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}


def test_payments_taken_between_two_trials_are_in_the_second_ones_copy(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    terminal.boot("a", "1.0", 1)
    terminal.take(99)
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    assert terminal.amounts == [1000, 250, 99]


def test_payments_taken_after_a_lost_commit_are_in_what_is_switched_to(terminal: Terminal) -> None:
    """Marked good, power cut, the bootloader falls back, a payment, and then the new version commits after all."""
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    terminal.boot("a", "1.0", 1)
    terminal.take(99)
    assert terminal.boot("b", "2.0", 2)["problem"] == ""
    assert terminal.amounts == [1000, 250, 99]
    terminal.commit()
    assert terminal.amounts == [1000, 250, 99]


def test_a_copy_that_is_up_to_date_is_only_published_again(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "note").write_text("of the new version")
    assert terminal.migrate()["generation"] == "g-2"
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    assert (terminal.link / "note").exists()


def test_switching_again_changes_nothing(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    terminal.commit()
    assert terminal.commit() == {"published": "g-2", "retired": ""}


def test_a_version_of_the_same_format_works_on_a_copy_too(terminal: Terminal) -> None:
    terminal.boot("b", "1.1", 1, trial=True)
    done = terminal.migrate()
    assert (done["generation"], done["changed"]) == ("g-2", False)
    terminal.boot("a", "1.0", 1)
    assert terminal.link.resolve() == terminal.root / "g-1/data"


def test_where_nothing_is_on_trial_there_is_nothing_to_migrate(terminal: Terminal) -> None:
    assert terminal.migrate()["generation"] == "g-1"
    assert terminal.commit() == {"published": "g-1", "retired": ""}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda _: 2, "data_step_failed"),
        (lambda _: 3, "data_step_failed"),
        (lambda _: 1, "data_step_failed"),
        (lambda _: 0, "data_money_differs"),
    ],
    ids=["gives up", "fails", "does not apply", "does nothing"],
)
def test_a_step_that_does_not_do_its_work_leaves_nothing_behind(terminal: Terminal, wrong: object, code: str) -> None:
    terminal.steps = PlainSteps({"10-wrong": wrong})  # type: ignore[dict-item]
    terminal.boot("b", "2.0", 2, trial=True)
    with pytest.raises(PosagentError, match=code):
        terminal.migrate()
    assert not terminal.link.exists() and sorted(one.name for one in terminal.root.glob("g-*")) == ["g-1"]


def test_a_payment_that_the_step_loses_is_found_with_its_sum(terminal: Terminal) -> None:
    def loses(directory: Path) -> int:
        lines = (directory / "ledger.jsonl").read_text().splitlines()
        (directory / "payments.jsonl").write_text(lines[0] + "\n")
        return 0

    terminal.steps = PlainSteps({"10-loses": loses})
    terminal.boot("b", "2.0", 2, trial=True)
    with pytest.raises(PosagentError, match="data_money_differs") as found:
        terminal.migrate()
    differences = {one["measure"]: (one["before"], one["after"]) for one in found.value.facts["differences"]}
    assert differences["sum of sale 978"] == (1250, 1000)
    assert differences["reversals waiting"] == (1, 0)


def test_a_counter_that_the_step_sets_back_is_found(terminal: Terminal) -> None:
    def sets_back(directory: Path) -> int:
        (directory / "counters/stan").write_text("1")
        return renamed(directory)

    terminal.steps = PlainSteps({"10-sets-back": sets_back})
    terminal.boot("b", "2.0", 2, trial=True)
    with pytest.raises(PosagentError, match="counter stan: 1, before 2"):
        terminal.migrate()


def test_what_was_cut_short_is_gone_after_the_next_tidying(terminal: Terminal) -> None:
    (terminal.root / "g-7/data").mkdir(parents=True)
    (terminal.root / "scratch/half").mkdir(parents=True)
    (terminal.root / "backups").mkdir()
    (terminal.root / "backups/half.backup").write_text("half")
    assert terminal.tidy()["removed"] == ["g-7", "scratch", "backups/half.backup"]
    assert sorted(one.name for one in terminal.root.iterdir()) == ["backups", "g-1", "generations.json", "room.reserve"]


def test_an_old_generation_goes_when_its_time_is_over(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    terminal.commit(at=1000.0)
    assert terminal.tidy(now=1000.0 + 72 * 3600)["removed"] == []
    assert terminal.tidy(now=1001.0 + 72 * 3600)["removed"] == ["g-1"]
    assert terminal.amounts == [1000, 250]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"v":9}', b"\xff"])
def test_a_record_that_cannot_be_read_is_never_taken_for_a_new_terminal(terminal: Terminal, damage: bytes) -> None:
    (terminal.root / "generations.json").write_bytes(damage)
    with pytest.raises(PosagentError, match="data_unreadable"):
        terminal.boot("a", "1.0", 1)
    (terminal.root / "generations.json").unlink()
    with pytest.raises(PosagentError, match="g-1 has data"):
        terminal.boot("a", "1.0", 1)


def test_a_record_of_a_newer_posagent_is_understood_as_far_as_it_goes(terminal: Terminal) -> None:
    path = terminal.root / "generations.json"
    value = json.loads(path.read_text())
    value["new"] = value["current"]["new"] = 1
    path.write_text(json.dumps(value))
    assert terminal.boot("a", "1.0", 1)["published"] == "g-1"


def test_a_link_in_the_data_is_refused(terminal: Terminal) -> None:
    (terminal.link / "out").symlink_to("/etc/passwd")
    terminal.boot("b", "2.0", 2, trial=True)
    with pytest.raises(PosagentError, match="out is a link"):
        terminal.migrate()


def test_nobody_gets_through_to_what_is_not_published(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    assert {one.name: oct(one.stat().st_mode & 0o777) for one in terminal.root.glob("g-*")} == {
        "g-1": "0o700",
        "g-2": "0o711",
    }


def test_a_generation_that_is_gone_is_not_taken_for_an_empty_one(terminal: Terminal) -> None:
    shutil.rmtree(terminal.root / "g-1")
    with pytest.raises(PosagentError, match="g-1/data is gone"):
        terminal.boot("a", "1.0", 1)


def test_a_terminal_that_kept_its_data_elsewhere_does_not_begin_with_empty_data(tmp_path: Path) -> None:
    terminal = Terminal(base=tmp_path)
    terminal.boot("b", "2.0", 2, trial=True)
    with pytest.raises(PosagentError, match="no step leads from format 0 to 2"):
        terminal.migrate()


def test_counters_of_a_trial_go_on_in_the_next_trial_of_another_version(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    (terminal.link / "counters/stan").write_text("17")
    terminal.boot("b", "2.1", 2, trial=True)
    terminal.migrate()
    assert terminal.stan == 17 and terminal.amounts == [1000, 250]


def test_nothing_of_an_attempt_that_was_cut_short_gets_into_the_next_copy(terminal: Terminal) -> None:
    (terminal.root / "g-2/data").mkdir(parents=True)
    (terminal.root / "g-2/data/half").touch()
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    assert terminal.link.resolve() == terminal.root / "g-2/data" and not (terminal.link / "half").exists()


def test_a_commit_whose_data_could_not_be_brought_up_to_date_goes_on_when_it_can(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.migrate()
    terminal.boot("a", "1.0", 1)
    terminal.take(99)
    terminal.steps = PlainSteps({"10-rename": lambda _: 2})
    with pytest.raises(PosagentError, match="data_step_failed"):
        terminal.boot("b", "2.0", 2)
    for _ in range(2):
        with pytest.raises(PosagentError, match="data_step_failed"):
            terminal.commit()
        assert not terminal.link.exists()
    terminal.steps = PlainSteps({"10-rename": renamed})
    terminal.commit()
    assert terminal.amounts == [1000, 250, 99]
