"""On real processes: what is slower, not approved, or has a broken printer goes back with the measure in its reason."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from posagent.sim import image
from posagent.sim.lab import Lab, SimulatedTerminal

pytestmark = pytest.mark.real
OUTCOME_S = 120.0


def configure(terminal: SimulatedTerminal, old: str, new: str) -> None:
    """From the next start of each process on; the agent's comes with the update's restart."""
    text = terminal.layout.config.read_text()
    assert old in text
    terminal.layout.config.write_text(text.replace(old, new))


def restart(terminal: SimulatedTerminal) -> None:
    terminal.down()
    terminal.up()


def update(terminal: SimulatedTerminal, bundle: Path) -> dict[str, Any]:
    """How it ended."""
    return terminal.wait_outcome(terminal.ask("update", source=str(bundle))["id"], OUTCOME_S)


def failures(outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in outcome["checks"] if not check["passed"]}


def test_a_build_that_is_half_again_as_slow_goes_back_to_the_one_it_was_measured_against(lab: Lab) -> None:
    terminal = lab.terminal("slow", lab.image("1.0.0", transaction_s=0.2))
    configure(terminal, "timeout_s = 2\ncount = 5", "timeout_s = 15\ncount = 5")
    configure(terminal, "worse_percent_max = 500", "worse_percent_max = 30")
    outcome = update(terminal, lab.bundle("2.0.0", lab.image("2.0.0", transaction_s=0.3)))
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    failed = failures(outcome)["speed of payments"]
    assert failed["measure"] == "transaction_p95_ms" and failed["suite"] == "performance"
    assert failed["value"] >= 300 > failed["limit"] >= 260
    assert "the old version had 2" in failed["detail"], failed["detail"]
    assert update(terminal, lab.bundle("2.1.0", lab.image("2.1.0", transaction_s=0.2)))["outcome"] == "committed"
    terminal.down()


def test_a_printer_that_does_not_greet_back_sends_the_new_version_back(lab: Lab, terminal: SimulatedTerminal) -> None:
    terminal.control("peripheral", name="printer", works=False)
    outcome = update(terminal, lab.bundle("2.2.0"))
    assert (outcome["outcome"], list(failures(outcome))) == ("rolled_back", ["printer"])
    assert "answers ''" in outcome["detail"]
    terminal.control("peripheral", name="printer")
    result = terminal.ask("selftest", suite="functional")
    assert result["passed"] and {check["suite"] for check in result["checks"]} == {"functional"}


def test_a_build_with_one_more_open_port_goes_back(lab: Lab, terminal: SimulatedTerminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listening = [line.split()[1].rpartition(":")[2] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    allow = sorted({str(int(one, 16)) for one in listening} - {str(port)})
    last = '[[selftest.checks]]\nname = "running slot"'
    ports = f'[[selftest.checks]]\nname = "open ports"\nkind = "ports"\nallow = {json.dumps(allow)}\n\n'
    configure(terminal, last, ports + last)
    restart(terminal)
    told = {check["name"]: check["detail"] for check in terminal.ask("selftest", suite="security")["checks"]}
    assert f":{port}" not in told["open ports"], "other tests may have opened theirs"
    outcome = update(terminal, lab.bundle("2.5.0", lab.image("2.5.0", debug_port=port)))
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    failed = failures(outcome)["open ports"]
    assert failed["measure"] == "open_ports" and failed["value"] > failed["limit"] == 0
    assert f"127.0.0.1:{port}" in failed["detail"], failed["detail"]


def test_a_kernel_that_the_manifest_does_not_approve_goes_back(lab: Lab, terminal: SimulatedTerminal) -> None:
    kernel = f'path = "{terminal.layout.booted_root}/pos/payment.py"\napproved = "kernel"'
    last = '[[selftest.checks]]\nname = "running slot"'
    configure(terminal, last, f'[[selftest.checks]]\nname = "kernel"\nkind = "digest"\n{kernel}\n\n{last}')
    restart(terminal)
    result = terminal.ask("selftest", suite="security")
    told = {check["name"]: check["detail"] for check in result["checks"]}
    assert result["passed"] and "nothing is known to be approved" in told["kernel"], "it runs the factory's"
    outcome = update(terminal, lab.bundle("2.3.0", terms={"approved": {"kernel": "ab" * 32}}))
    assert (outcome["outcome"], list(failures(outcome))) == ("rolled_back", ["kernel"])
    assert failures(outcome)["kernel"]["limit"] == "ab" * 32
    image.fill(lab.base / "like-2.4.0", "2.4.0")
    digest = hashlib.sha256((lab.base / "like-2.4.0/opt/pos/payment.py").read_bytes()).hexdigest()
    assert update(terminal, lab.bundle("2.4.0", terms={"approved": {"kernel": digest}}))["outcome"] == "committed"
    told = {check["name"]: check["value"] for check in terminal.ask("selftest", suite="slot")["checks"]}
    whole = (lab.base / "image-2.4.0.ext4").read_bytes()
    assert told == {"running slot": hashlib.sha256(whole).hexdigest()}
