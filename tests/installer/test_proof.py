"""The installer proves the running slot: every byte of it, against what was signed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from tests.installer.test_service import Terminal
from tests.release.desk import Desk

pytestmark = pytest.mark.real
KERNEL = "c3" * 32


@pytest.fixture
def terminal(tmp_path: Path, desk: Desk) -> Terminal:
    """It runs a version that an update has written."""
    made = Terminal(tmp_path, desk)
    Path(made.bundle).write_bytes(desk.build(5, security_counter=3, terms={"approved": {"kernel": KERNEL}}))
    made.write()
    made.ask("arm", slot="b")
    made.reboot_into("b")
    return made


def test_the_running_slot_is_what_was_signed_and_the_manifests_approvals_come_with_it(
    terminal: Terminal, desk: Desk
) -> None:
    digest = hashlib.sha256(desk.image.read_bytes()).hexdigest()
    assert terminal.ask("prove_slot") == {"expected": digest, "found": digest, "approved": {"kernel": KERNEL}}


@pytest.mark.parametrize("at", [0, 1_000_000, -1])
def test_one_changed_bit_anywhere_shows(terminal: Terminal, desk: Desk, at: int) -> None:
    data = bytearray(terminal.slot.read_bytes())
    data[at if at >= 0 else desk.image.stat().st_size - 1] ^= 1
    terminal.slot.write_bytes(data)
    told = terminal.ask("prove_slot")
    assert told["found"] != told["expected"]


def test_what_lies_behind_the_image_does_not_count(terminal: Terminal) -> None:
    data = bytearray(terminal.slot.read_bytes())
    data[-1] ^= 1
    terminal.slot.write_bytes(data)
    told = terminal.ask("prove_slot")
    assert told["found"] == told["expected"]


def test_nothing_signed_is_known_of_the_factorys_slot(terminal: Terminal) -> None:
    terminal.reboot_into("a")
    assert terminal.ask("prove_slot") == {"expected": "", "found": "", "approved": {}}


def test_a_slot_that_is_too_short_or_gone_is_no_proof(terminal: Terminal) -> None:
    terminal.slot.write_bytes(terminal.slot.read_bytes()[: 1 << 20])
    told = terminal.ask("prove_slot")
    assert told["found"] != told["expected"]
    terminal.slot.unlink()
    assert terminal.refusal("prove_slot") == "slot_missing"


def test_records_of_a_release_that_knew_no_approvals_hold_and_damaged_ones_do_not(terminal: Terminal) -> None:
    records = terminal.root / "state/installer/slots.json"
    told = json.loads(records.read_text())
    old = {name: {key: one[key] for key in one if key != "approved"} for name, one in told["slots"].items()}
    records.write_text(json.dumps({**told, "slots": old}))
    assert terminal.ask("prove_slot")["approved"] == {} and terminal.ask("prove_slot")["expected"]
    records.write_text(json.dumps({**told, "slots": {**old, "b": {**old["b"], "approved": {"kernel": 7}}}}))
    assert "damaged" in terminal.ask("observe")["contradictions"][0]


@pytest.mark.parametrize("approved", [{"kernel": "x"}, {"kernel": KERNEL.upper()}, {"a b": KERNEL}, [KERNEL], "x"])
def test_the_desk_approves_nothing_but_digests(desk: Desk, approved: object) -> None:
    with pytest.raises(PosagentError, match="approved"):
        desk.build(5, terms={"approved": approved})
