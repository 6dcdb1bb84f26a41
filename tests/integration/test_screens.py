"""The session that docs/console.md shows, in a real terminal program: tmux, picocom, ssh-keygen, sz."""

from __future__ import annotations

import importlib.util
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SPEC = importlib.util.spec_from_file_location("screens", ROOT / "docs/screens.py")
assert SPEC is not None and SPEC.loader is not None
screens = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(screens)

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

TOLD = {
    "status-locked": "last update: no update yet",
    "help-locked": "with role rollback: all of update, rollback",
    "unlock": "unlocked: Li Wei as update, 15 min",
    "check": "GO: it can begin now",
    "update-download": "2.0.0 download [#",
    "update-install": "2.0.0 install [#",
    "cancel-refused": "[critical_section]",
    "history": "2.0.0 committed",
    "upload": "to install it: update ",
    "status-chinese": "终端: pos-0001",
}
"""What each screen must have on it."""


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line)


def test_an_engineers_visit_in_a_real_terminal_program() -> None:
    with screens.stage(noise_mib=10) as (lab, terminal, screen):
        shown = dict(screens.session(lab, terminal, screen))
        assert shown.keys() == TOLD.keys()
        for name, text in shown.items():
            assert TOLD[name] in text, text
            lines = text.strip("\n").splitlines()
            assert len(lines) <= 24, text
            assert name == "upload" or max(map(columns, lines)) <= 80, text
        inbox = terminal.layout.spool / "inbox"
        assert (inbox / "2.1.0.bundle").read_bytes() == (lab.base / "2.1.0.bundle").read_bytes()
        update = terminal.ask("update", source=str(inbox / "2.1.0.bundle"))["id"]
        assert terminal.wait_outcome(update)["outcome"] == "committed"
        assert not (inbox / "2.1.0.bundle").exists(), "it was moved into the spool"


def test_the_screens_in_the_page_are_those_that_were_recorded() -> None:
    recorded = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/screens").glob("*.txt")}
    assert recorded.keys() == TOLD.keys()
    assert all(TOLD[name] in text for name, text in recorded.items())
