"""Which signatures permit an expired bundle: one for this terminal, this start, this role, over exactly that."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.installer.permits import Permits
from posagent.installer.service import linux_ports
from tests.console.engineers import certify, make_key, sign
from tests.installer.test_service import Terminal
from tests.release.desk import Desk

pytestmark = pytest.mark.real
BUNDLE = "ab" * 32
BOOT = "0123456789abcdef0123456789abcdef"
NONCE = "5d41402abc4b2a76b9719d911017c592"
CHALLENGE = f"posagent-console-v1 pos-1 {BOOT} 41 {NONCE} update allow sha256:{BUNDLE}"


class Gate:
    """A terminal and an engineer with a certificate for every role."""

    def __init__(self, root: Path, desk: Desk) -> None:
        terminal = Terminal(root, desk)
        ca = make_key(root / "ca")
        (root / "boot_id").write_text(BOOT + "\n")
        self.certificate = certify(ca, make_key(root / "key"), role="look,posagent-update,posagent-rollback")
        self.config = dataclasses.replace(
            terminal.config,
            console=dataclasses.replace(terminal.config.console, engineer_ca_file=f"{ca}.pub"),
            boot=dataclasses.replace(terminal.config.boot, boot_id_file=str(root / "boot_id")),
        )
        self.file = Path(self.config.terminal.installer_dir) / "allowed.json"

    @property
    def permits(self) -> Permits:
        return Permits(self.config, linux_ports(self.config))

    def answer(self, challenge: str, role: str = "update") -> None:
        self.permits.engineer(challenge, sign(self.certificate, challenge), role)


@pytest.fixture
def gate(tmp_path: Path, desk: Desk) -> Gate:
    made = Gate(tmp_path, desk)
    Path(made.config.terminal.installer_dir).mkdir(parents=True)
    return made


@pytest.mark.parametrize("role", ["update", "rollback"])
def test_a_signature_over_the_bundle_permits_it(gate: Gate, role: str) -> None:
    assert gate.permits.allowed() == ""
    gate.answer(CHALLENGE.replace(" update ", f" {role} "), role)
    assert gate.permits.allowed() == BUNDLE
    gate.permits.spend()
    assert gate.permits.allowed() == ""


@pytest.mark.parametrize(
    ("what", "challenge", "role"),
    [
        ("another terminal", CHALLENGE.replace("pos-1", "pos-2"), "update"),
        ("another start", CHALLENGE.replace(BOOT, BOOT[::-1]), "update"),
        ("another role than in the challenge", CHALLENGE, "rollback"),
        ("a role that may only look", CHALLENGE.replace(" update ", " look "), "look"),
        ("more than one action", CHALLENGE + " " + BUNDLE, "update"),
        ("half a digest", CHALLENGE[:-1], "update"),
        ("another action", CHALLENGE.replace("allow", "forbid"), "update"),
        ("another domain", CHALLENGE.replace("console-v1", "console-v2"), "update"),
        ("no nonce", CHALLENGE.replace(NONCE, "x"), "update"),
        ("an unlock", CHALLENGE.partition(" allow")[0], "update"),
    ],
)
def test_a_signature_over_something_else_permits_nothing(gate: Gate, what: str, challenge: str, role: str) -> None:
    gate.answer(challenge, role)
    assert gate.permits.allowed() == "", what


def test_without_a_good_signature_nothing_is_permitted(gate: Gate) -> None:
    answer = sign(gate.certificate, CHALLENGE.replace("sha256:ab", "sha256:ac"))
    with pytest.raises(PosagentError, match="unlock_refused"):
        gate.permits.engineer(CHALLENGE, answer, "update")
    assert gate.permits.allowed() == ""


@pytest.mark.parametrize("kept", ["", "[]", "null", '{"bundle":5}', "{", '{"other":""}'])
def test_a_damaged_permission_is_none(gate: Gate, kept: str) -> None:
    gate.file.write_text(kept)
    assert gate.permits.allowed() == ""


def test_the_newest_permission_takes_the_place_of_the_last(gate: Gate) -> None:
    gate.answer(CHALLENGE)
    gate.answer(CHALLENGE.replace(BUNDLE, "cd" * 32))
    assert json.loads(gate.file.read_text()) == {"bundle": "cd" * 32}
