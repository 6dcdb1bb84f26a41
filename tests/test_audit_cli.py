"""`posagent audit verify`: on the terminal, at the office, and what it says where a log is not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posagent import cli
from posagent.installer.notary import KEY_FILE
from tests.installer.test_notary import Terminal

CONFIG = """\
[terminal]
id = "pos-0001"
hardware = "sim-pos"
state_dir = "{root}"
installer_dir = "{root}/installer"
[slots.a]
device = "{root}/a"
[slots.b]
device = "{root}/b"
"""


class Office:
    """Somebody with the command, on the terminal (`own`) or elsewhere."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.terminal = Terminal(root)
        self.config = root / "posagent.toml"
        self.config.write_text(CONFIG.format(root=root))
        self._capsys = capsys

    def own(self, *words: str) -> tuple[int, str]:
        return self.run("--config", str(self.config), *words)

    def run(self, *words: str) -> tuple[int, str]:
        code = cli.main(["--lang", "en", "audit", "verify", *words])
        told = self._capsys.readouterr()
        return code, told.out + told.err

    def answer(self, *words: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.own("--json", *words)[1])
        return value


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    made = Office(tmp_path, capsys)
    made.terminal.note(5)
    return made


def test_a_whole_log_on_its_terminal(office: Office) -> None:
    office.terminal.seal()
    code, told = office.own()
    assert code == 0 and "whole: records 0 to 5, sealed up to 4" in told and office.terminal.key in told
    assert "own word" not in told
    answer = office.answer()
    assert (answer["whole"], answer["records"], answer["sealed"], answer["breaks"]) == (True, 6, 5, [])


def test_a_log_that_was_never_sealed_says_so(office: Office) -> None:
    assert office.own() == (0, "whole: records 0 to 4, not sealed yet\n")


def test_a_copy_at_the_office_is_held_against_the_key_that_is_given(office: Office, tmp_path: Path) -> None:
    office.terminal.seal()
    copy = tmp_path / "copy.log"
    copy.write_bytes(office.terminal.path.read_bytes())
    code, told = office.run(str(copy))
    assert code == 0 and "the key is the log's own word" in told
    for key in (office.terminal.key, str(office.terminal.installer / KEY_FILE)):
        code, told = office.run(str(copy), "--key", key)
        assert code == 0 and "own word" not in told
    other = Terminal(tmp_path / "other")
    other.note()
    other.seal()
    code, told = office.run(str(copy), "--key", other.key)
    assert code == 4 and "line 6: a checkpoint that is signed by another key" in told


def test_the_line_where_it_breaks_is_named(office: Office) -> None:
    office.terminal.seal()
    text = office.terminal.path.read_bytes()
    office.terminal.path.write_bytes(text.replace(b'"number":3', b'"number":8'))
    code, told = office.own()
    assert code == 4 and told.startswith("line 4: record 3 does not follow the one before it")
    assert office.answer()["breaks"][0][0] == 4


def test_a_log_that_was_cut_off_or_removed_breaks(office: Office) -> None:
    office.terminal.seal()
    office.terminal.path.write_bytes(office.terminal.path.read_bytes()[:8192])
    code, told = office.own()
    assert code == 4 and "the file: 5 records were sealed, 2 are left: the end is missing" in told
    office.terminal.path.unlink()
    assert office.own()[0] == 4
    office.terminal.restart()
    office.terminal.note(9)
    assert not office.terminal.seal()
    office.terminal.path.write_bytes(b"")
    code, told = office.own()
    assert code == 4 and "did not go on from the 5 records" in told, "what the installer saw, it remembers"


def test_what_cannot_be_read_is_told_with_the_next_step(office: Office, tmp_path: Path) -> None:
    for words in (["/nowhere.log"], [str(office.terminal.path), "--key", "/nowhere.pub"], [str(tmp_path)]):
        code, told = office.run(*words)
        assert code == 4 and "[audit_unreadable]" in told and "as root" in told
    code, told = office.run(str(office.terminal.path), "--key", str(office.config))
    assert code == 4 and "no public key of an audit log" in told


def test_a_log_without_any_record_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Office(tmp_path, capsys).own() == (0, "empty\n")
