"""Everything that leaves a terminal for people and servers, as text: for those who look for what must not be in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from posagent.core import envelope
from posagent.release import keys
from posagent.sim.lab import SimulatedTerminal

APPLICATION = "payment.log"
"""What the payment program itself prints, which is not posagent's."""


def command(terminal: SimulatedTerminal, *words: str) -> str:
    """What `posagent` prints."""
    line = [sys.executable, "-m", "posagent.cli", "--socket", str(terminal.layout.api), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def opened(path: Path, key: Path) -> str:
    """A support bundle, with the vendor's key."""
    text = envelope.opened(path.read_bytes(), keys.vendor_pem(key)).decode()
    value = json.loads(text)
    return text + "".join(value["parts"].values())


def told(terminal: SimulatedTerminal, vendor_key: Path, folder: Path) -> dict[str, list[str]]:
    """By where it stands; one more support bundle is made in `folder`."""
    report = folder / "report"
    answers = (
        *(["status"], ["why"], ["history"], ["status", "--json"], ["history", "--json"], ["check"], ["data"]),
        ["support", "--out", str(report), "--config", str(terminal.layout.config)],
    )
    tickets = ["evidence"], ["evidence", "--json"], ["ticket"], ["evidence", "export", "--manager", "tms"]
    return {
        "answers": [command(terminal, *words) for words in answers],
        "tickets": [command(terminal, *words) for words in tickets],
        "support bundles": [
            opened(path, vendor_key) for path in (report, *sorted((terminal.layout.state / "support").glob("*")))
        ],
        "logs": [
            path.read_text(errors="replace") for path in terminal.layout.log.iterdir() if path.name != APPLICATION
        ],
    }
