"""Parameter sets: tried, kept, withdrawn, and which of them the payment application finds."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from posagent.core import parameters
from posagent.core.errors import PosagentError
from posagent.core.parameters import Staged, trial_of, update_of
from posagent.data.generations import result_of
from posagent.platform.schema import SchemaFile
from posagent.platform.storage import LinuxFiles
from tests.data.terminal import PlainSteps, Terminal, renamed

LIMIT = {"type": "object", "properties": {"limit": {"type": "integer", "maximum": 9000}}, "required": ["limit"]}


def schema(path: Path, value: Any = None) -> str:
    path.write_text(json.dumps(LIMIT if value is None else value))
    return str(path)


def staged(holder: str, version: str = "p1", **values: Any) -> Staged:
    data = json.dumps(values or {"limit": 500}).encode()
    return Staged(holder=holder, version=version, sha256=hashlib.sha256(data).hexdigest(), data=data)


@pytest.fixture
def reloads() -> list[str]:
    return []


@pytest.fixture
def terminal(tmp_path: Path, reloads: list[str]) -> Terminal:
    made = Terminal(tmp_path, schema=schema(tmp_path / "schema.json"))
    made.reload = lambda: reloads.append(found(made).get("limit", "none"))
    made.boot("a", "1.0", 1)
    return made


def found(terminal: Terminal) -> dict[str, Any]:
    """What the payment application reads."""
    return dict(json.loads(terminal.shown.read_text())) if terminal.shown.exists() else {}


def alone(terminal: Terminal, do: str, update_id: str = "u1") -> dict[str, Any]:
    return result_of(terminal.generations.alone(do, update_id))


def update(terminal: Terminal, version: str = "p1", update_id: str = "u1", **values: Any) -> None:
    terminal.staged = staged(update_of(update_id), version, **values)
    alone(terminal, "begin", update_id)
    alone(terminal, "commit", update_id)


def test_a_new_terminal_finds_none(terminal: Terminal) -> None:
    assert not terminal.shown.exists()
    assert terminal.generations.parameters.version() == ""


def test_alone_they_are_tried_and_kept_while_the_application_runs(terminal: Terminal, reloads: list[int]) -> None:
    terminal.staged = staged(update_of("u1"))
    assert alone(terminal, "begin") == {"version": "p1", "before": ""}
    assert found(terminal) == {"limit": 500} and reloads == [500]
    alone(terminal, "commit")
    assert found(terminal) == {"limit": 500}
    assert reloads == [500], "nothing changed for the application at the commit"
    assert terminal.generations.parameters.version() == "p1"
    update(terminal, "p2", "u2", limit=600)
    assert reloads == [500, 600]


def test_what_was_tried_is_withdrawn(terminal: Terminal, reloads: list[int]) -> None:
    update(terminal)
    terminal.staged = staged(update_of("u2"), "p2", limit=600)
    alone(terminal, "begin", "u2")
    assert found(terminal) == {"limit": 600}
    alone(terminal, "withdraw", "u2")
    assert found(terminal) == {"limit": 500} and reloads == [500, 600, 500]


def test_a_restart_while_they_are_tried_goes_on_with_the_old_ones_until_they_are_tried_again(
    terminal: Terminal, reloads: list[int]
) -> None:
    update(terminal)
    terminal.staged = staged(update_of("u2"), "p2", limit=600)
    alone(terminal, "begin", "u2")
    terminal.shown.unlink()
    terminal.boot("a", "1.0", 1)
    assert found(terminal) == {"limit": 500}
    alone(terminal, "begin", "u2")
    alone(terminal, "commit", "u2")
    assert found(terminal) == {"limit": 600} and reloads[-1] == 600


def test_a_commit_that_the_power_cut_off_is_repeated(terminal: Terminal) -> None:
    update(terminal)
    terminal.staged = staged(update_of("u2"), "p2", limit=600)
    alone(terminal, "begin", "u2")
    alone(terminal, "commit", "u2")
    alone(terminal, "begin", "u2")
    alone(terminal, "commit", "u2")
    record = json.loads((terminal.root / "parameters.json").read_text())
    assert (record["current"]["version"], record["before"]["version"]) == ("p2", "p1"), "the one before is still there"
    assert sorted(os.listdir(terminal.root / "parameters")) == ["p-1", "p-2"]


@pytest.mark.parametrize("values", [{"limit": 9001}, {"limit": "4111111111111111"}, {"other": 1}])
def test_what_the_schema_does_not_accept_is_never_found(
    terminal: Terminal, reloads: list[int], values: dict[str, Any]
) -> None:
    update(terminal)
    terminal.staged = staged(update_of("u2"), "p2", **values)
    with pytest.raises(PosagentError) as caught:
        alone(terminal, "begin", "u2")
    assert caught.value.code == "parameters_invalid" and "4111" not in caught.value.detail
    assert found(terminal) == {"limit": 500} and reloads == [500], "the application was left alone"


def test_without_a_schema_an_image_takes_none(terminal: Terminal) -> None:
    terminal.schema = ""
    terminal.staged = staged(update_of("u1"))
    with pytest.raises(PosagentError, match="declares no schema"):
        alone(terminal, "begin")


def test_without_a_way_to_reload_they_have_to_come_with_an_image(terminal: Terminal) -> None:
    terminal.reload, terminal.staged = None, staged(update_of("u1"))
    with pytest.raises(PosagentError) as caught:
        alone(terminal, "begin")
    assert caught.value.code == "parameters_alone"


def test_an_application_that_cannot_reload_is_asked_again(terminal: Terminal) -> None:
    update(terminal)
    tries: list[int] = []

    def reload() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise PosagentError("parameters_reload", "no")

    terminal.reload, terminal.staged = reload, staged(update_of("u2"), "p2", limit=600)
    with pytest.raises(PosagentError):
        alone(terminal, "begin", "u2")
    alone(terminal, "begin", "u2")
    assert len(tries) == 2 and found(terminal) == {"limit": 600}


@pytest.mark.parametrize("do", ["commit", "withdraw"])
def test_one_that_cannot_reload_at_the_end_holds_nothing_up(terminal: Terminal, do: str) -> None:
    """The power was cut: the application has started with the old set, and is to read the one that stays."""
    update(terminal)
    terminal.staged = staged(update_of("u2"), "p2", limit=600)
    alone(terminal, "begin", "u2")
    if do == "commit":
        terminal.shown.unlink()
        terminal.boot("a", "1.0", 1)

    def reload() -> None:
        raise PosagentError("parameters_reload", "it is dead")

    terminal.reload = reload
    assert alone(terminal, do, "u2") == {"reloaded": False}
    assert found(terminal) == {"limit": 600 if do == "commit" else 500}, "what it finds at its next start"
    assert alone(terminal, do, "u2") == {"reloaded": True}


def test_another_updates_set_is_left_alone(terminal: Terminal) -> None:
    terminal.staged = staged(update_of("u1"))
    with pytest.raises(PosagentError) as caught:
        alone(terminal, "begin", "u2")
    assert caught.value.code == "data_io" and found(terminal) == {}


def trial(terminal: Terminal, **values: Any) -> dict[str, Any]:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.steps = PlainSteps({"10-rename": renamed})
    (terminal.link.parent.parent / "posagent-data/g-1/data/ledger.jsonl").touch()
    if values:
        terminal.staged = staged(trial_of("b", "2.0"), "p2", **values)
    return terminal.migrate()


def test_with_an_image_they_are_found_on_its_trial_and_kept_with_it(terminal: Terminal, reloads: list[int]) -> None:
    update(terminal)
    told = trial(terminal, limit=700)
    assert found(terminal) == {"limit": 700} and told["parameters"] == "p2"
    terminal.commit()
    terminal.tidy()
    assert found(terminal) == {"limit": 700}
    assert reloads == [500], "the application was started with them"
    terminal.boot("b", "2.0", 2)
    assert found(terminal) == {"limit": 700}


def test_on_trial_nothing_is_found_before_the_data_is_there(terminal: Terminal) -> None:
    update(terminal)
    terminal.boot("b", "2.0", 2, trial=True)
    assert found(terminal) == {}


def test_a_version_that_fails_takes_its_parameters_with_it(terminal: Terminal) -> None:
    update(terminal)
    trial(terminal, limit=700)
    terminal.boot("a", "1.0", 1)
    assert found(terminal) == {"limit": 500}
    terminal.tidy()
    terminal.boot("a", "1.0", 1)
    assert found(terminal) == {"limit": 500}
    assert os.listdir(terminal.root / "parameters") == ["p-1"] or terminal.generations.parameters.version() == "p1"


def test_an_image_that_brings_none_goes_on_with_what_is_there(terminal: Terminal) -> None:
    update(terminal)
    assert trial(terminal)["parameters"] == "p1"
    assert found(terminal) == {"limit": 500}


def test_an_image_that_does_not_take_what_is_there_fails_its_trial(terminal: Terminal) -> None:
    update(terminal)
    terminal.schema = schema(terminal.base / "new.json", {**LIMIT, "required": ["limit", "currency"]})
    with pytest.raises(PosagentError) as caught:
        trial(terminal)
    assert caught.value.code == "parameters_invalid"
    assert not terminal.link.exists(), "the application was not started on them"


def test_a_trial_that_ended_well_is_kept_whatever_was_cut_off(terminal: Terminal) -> None:
    update(terminal)
    trial(terminal, limit=700)
    terminal.boot("b", "2.0", 2)  # confirmed by the installer, then the power went
    assert found(terminal) == {"limit": 700}


def test_a_version_that_comes_back_finds_the_newest_that_it_takes(terminal: Terminal) -> None:
    update(terminal)
    old = terminal.schema
    terminal.schema = schema(terminal.base / "new.json", {"type": "object", "required": ["currency"]})
    trial(terminal, currency="EUR")
    terminal.commit()
    assert found(terminal) == {"currency": "EUR"}
    terminal.schema = old
    terminal.boot("a", "1.0", 1)
    assert found(terminal) == {"limit": 500}


def test_a_set_that_was_changed_on_the_medium_is_not_found(terminal: Terminal) -> None:
    update(terminal)
    update(terminal, "p2", "u2", limit=600)
    (terminal.root / "parameters/p-2").write_text('{"limit": 8999}')
    assert terminal.boot("a", "1.0", 1)["problem"] == ""
    assert found(terminal) == {"limit": 500}, "the one before is whole"
    (terminal.root / "parameters/p-1").unlink()
    assert terminal.boot("a", "1.0", 1)["problem"] == "parameters_invalid"
    assert found(terminal) == {}


@pytest.mark.parametrize("text", ["", "[]", '{"v": 2}', '{"v": 1, "holder": ""}', '{"v":1,"holder":1}'])
def test_a_record_that_cannot_be_read_does_not_keep_the_merchant_from_the_data(terminal: Terminal, text: str) -> None:
    update(terminal)
    (terminal.root / "parameters.json").write_text(text)
    told = terminal.boot("a", "1.0", 1)
    assert told == {"published": "g-1", "problem": "data_unreadable"}
    assert terminal.link.exists() and found(terminal) == {}


def test_everybody_may_read_them_and_nobody_change_them(terminal: Terminal) -> None:
    update(terminal)
    mode = stat.S_IMODE(os.stat(terminal.shown).st_mode)
    assert mode == 0o644


# the way from the installer


def test_what_was_left_is_read_back(tmp_path: Path) -> None:
    files, one = LinuxFiles(), staged("update u1", "p1", text="Bäckerei 中文")
    assert parameters.left(files, str(tmp_path)) is None
    parameters.stage(files, str(tmp_path), one)
    assert parameters.left(files, str(tmp_path)) == one
    parameters.stage(files, str(tmp_path), None)
    assert parameters.left(files, str(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"v":2,"for":"","version":"","sha256":"","text":""}', '{"v":1}'])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / parameters.FILE).write_text(text)
    assert parameters.left(LinuxFiles(), str(tmp_path)) is None


@pytest.mark.parametrize("data", [b"[]", b"1", b"{", b"\xff", b'{"a":' + b"[" * 200_000, b" " * (256 << 10) + b"{}"])
def test_what_is_no_set(data: bytes) -> None:
    with pytest.raises(ValueError):
        parameters.decoded(data)


# the schema


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "schema.json"),
        ("[]", "no JSON object"),
        ('{"type": "nothing"}', "schema.json"),
        ('{"$ref": "http://127.0.0.1:1/x.json"}', "outside of it"),
        ('{"$ref": "file:///etc/passwd"}', "outside of it"),
    ],
)
def test_a_schema_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(PosagentError, match=said) as caught:
        SchemaFile(str(tmp_path / "schema.json")).check({})
    assert caught.value.code == "parameters_invalid"


def test_a_schema_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PosagentError) as caught:
        SchemaFile(str(tmp_path / "schema.json")).check({})
    assert caught.value.code == "parameters_invalid"
