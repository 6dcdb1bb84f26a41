"""Whole updates on a simulated terminal of real processes, real sockets, nginx and fw_setenv."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from posagent import config as configuration
from posagent import texts
from posagent.core.errors import PosagentError
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.integration.conftest import noisy

pytestmark = pytest.mark.real


def sim(*words: str) -> subprocess.CompletedProcess[str]:
    """A `posagent-sim` command."""
    command = [sys.executable, "-m", "posagent.sim.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def digest(path: Path, length: int) -> str:
    with path.open("rb") as stream:
        return hashlib.sha256(stream.read(length)).hexdigest()


def test_an_update_over_the_network_commits_and_leaves_the_right_image(lab: Lab, terminal: SimulatedTerminal) -> None:
    image = noisy(lab, "2.0.0")
    lab.publish("2.0.0", image)
    offer = terminal.ask("check")["offer"]
    assert offer["version"] == "2.0.0"
    outcome = terminal.wait_outcome(terminal.ask("update")["id"])
    assert outcome["outcome"] == "committed"
    length = image.stat().st_size
    assert digest(terminal.layout.slot("b"), length) == digest(image, length)
    status = terminal.wait(lambda status: status["booted"] == "b", 10)
    assert status["slots"]["b"]["digest"] == digest(image, length)
    assert status["slots"]["a"]["state"] == "good", "the old version stays as the way back"
    assert terminal.ask("check")["offer"] is None
    with pytest.raises(PosagentError, match="no_update"):
        terminal.ask("update")


def test_a_shops_payment_application_takes_payments_and_the_update_fits_between_them(lab: Lab) -> None:
    terminal = lab.terminal("shop", shop="petrol_24h", shop_speed=300.0)

    def application(unlike: int = 0) -> int:
        found: int = terminal.control("state")["pids"].get("shop", unlike)
        return found

    def heard_of(status: Mapping[str, Any]) -> bool:
        (gate,) = (one for one in status["gates"] if one["gate"] == "payment")
        return bool(gate["open"])

    terminal.wait(heard_of, 30)
    first = application()
    os.kill(first, signal.SIGKILL)
    terminal.wait(lambda status: application(first) != first and heard_of(status), 30)
    outcome = terminal.wait_outcome(terminal.ask("update", source=lab.publish("2.0.5", noisy(lab, "2.0.5")))["id"])
    assert outcome["outcome"] == "committed"
    terminal.wait(heard_of, 30)
    log = terminal.layout.log / "shop.log"
    before = log.read_text().count("paid")
    terminal.wait(lambda _: log.read_text().count("paid") > before, 60)
    terminal.down()


def test_a_power_cut_in_the_middle_of_the_download_and_of_the_install(lab: Lab, terminal: SimulatedTerminal) -> None:
    url = lab.publish("2.1.0", noisy(lab, "2.1.0"))
    update = terminal.ask("update", source=url)["id"]
    terminal.wait(lambda status: status["state"] == "download" and status["update"]["bytes_done"] > 0, 20)
    terminal.control("cut", off_s=0.1)
    terminal.wait(lambda status: status["state"] == "install", 20)
    terminal.control("cut", off_s=0.1)
    assert terminal.wait_outcome(update)["outcome"] == "committed"


@pytest.mark.parametrize(
    ("version", "how", "code", "told"),
    [
        ("3.0.0", {"broken": "no parameters"}, "selftest_failed", "failed check: payment"),
        ("4.0.0", {"boot_fault": "panic"}, "boot_failed", "ended by: a kernel panic"),
        ("5.0.0", {"boot_fault": "hang"}, "boot_failed", "ended by: a hang; the watchdog"),
    ],
)
def test_a_broken_version_ends_on_the_old_slot_with_its_reason(
    lab: Lab, terminal: SimulatedTerminal, version: str, how: dict[str, str], code: str, told: str
) -> None:
    bundle = lab.bundle(version, lab.image(version, **how))
    outcome = terminal.wait_outcome(terminal.ask("update", source=str(bundle))["id"])
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", code)
    status = terminal.ask("status")
    assert (status["booted"], status["slots"]["b"]["state"]) == ("a", "bad")
    why = terminal.ask("why")
    assert why["why"][0]["code"] == code
    history = texts.history_lines(terminal.ask("history"), "en")
    for lines in (texts.why_lines(why, "en"), history):
        assert told in "\n".join(lines)


def _up_after(cuts: int, events: list[str]) -> bool:
    """Whether the system came up after so many power cuts."""
    last = max((at for at, one in enumerate(events) if one == "power cut"), default=0)
    return events.count("power cut") >= cuts and any(one.startswith("system up") for one in events[last:])


def test_a_merchant_who_switches_off_again_and_again_during_the_trial_gets_the_new_version(
    lab: Lab, terminal: SimulatedTerminal
) -> None:
    """More often than the bootloader counts tries."""
    bundle = lab.bundle("2.5.0", lab.image("2.5.0"))
    update = terminal.ask("update", source=str(bundle))["id"]
    terminal.wait(lambda status: status["state"] in ("activate", "selftest"), 20)
    for number in range(5):
        terminal.control("cut", off_s=0.1)
        terminal.wait_event(partial(_up_after, number + 1), 20)
    assert terminal.wait_outcome(update)["outcome"] == "committed"


def test_a_version_whose_agent_never_confirms_is_left_by_the_trial_timer(lab: Lab) -> None:
    """The agent is kept from starting on the new slot: only the timer and the bootloader can help."""
    terminal = lab.terminal("trial", trial_timeout_s=1.0, selftest_deadline_s=60)
    bundle = lab.bundle("2.2.0", lab.image("2.2.0"))
    update = terminal.ask("update", source=str(bundle))["id"]
    config = terminal.layout.config
    whole = config.read_text()
    terminal.wait(lambda status: status["state"] == "activate", 20)
    config.write_text(whole + "\n[nonsense]\n")  # from its next start on the agent refuses its configuration
    terminal.wait_event(lambda events: events.count("reset: trial timer") >= 3, 40)
    config.write_text(whole)
    outcome = terminal.wait_outcome(update)
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "boot_failed")


def test_a_low_battery_waits_in_ready_and_says_why_and_goes_on_when_charged(
    lab: Lab, terminal: SimulatedTerminal
) -> None:
    directory = str(terminal.layout.root)
    assert sim("power", directory, "--battery", "20", "--ac", "off").returncode == 0
    bundle = lab.bundle("2.3.0", lab.image("2.3.0"))
    update = terminal.ask("update", source=str(bundle))["id"]
    status = terminal.wait(lambda status: status["state"] == "ready", 20)
    gate = next(gate for gate in status["gates"] if gate["gate"] == "power_install")
    assert gate["open"] is False and "charger" in gate["remedy"]
    assert terminal.ask("why")["why"][0]["code"] == "gate_closed"
    assert sim("power", directory, "--battery", "60", "--ac", "on").returncode == 0
    assert terminal.wait_outcome(update)["outcome"] == "committed"


def test_the_trial_is_over_only_after_the_new_version_was_tested(lab: Lab, terminal: SimulatedTerminal) -> None:
    bundle = lab.bundle("2.4.0", lab.image("2.4.0"))
    update = terminal.ask("update", source=str(bundle))["id"]
    status = terminal.wait(lambda status: status["state"] in ("selftest", "commit"), 20)
    assert status["slots"]["b"]["state"] == "booted_trial"
    assert terminal.wait_outcome(update)["outcome"] == "committed"


def test_an_agent_that_hangs_is_killed_by_the_service_watchdog_and_goes_on(lab: Lab) -> None:
    terminal = lab.terminal("hung", service_watchdog_s=2)
    pid = int(terminal.control("state")["pids"]["agent"])
    os.kill(pid, signal.SIGSTOP)
    terminal.wait_event(lambda events: any("service watchdog" in event for event in events), 20)
    terminal.wait(lambda status: status["booted"] == "a", 20)
    assert terminal.control("state")["pids"]["agent"] != pid


def test_a_terminal_whose_agent_hangs_for_good_is_reset_by_the_hardware_watchdog(lab: Lab) -> None:
    terminal = lab.terminal("frozen", watchdog_timeout_s=5)
    os.kill(int(terminal.control("state")["pids"]["agent"]), signal.SIGSTOP)
    terminal.wait_event(lambda events: "reset: hardware watchdog" in events, 20)
    terminal.wait(lambda status: status["booted"] == "a", 20)


def test_a_second_agent_on_the_same_state_is_refused(terminal: SimulatedTerminal) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "posagent.daemon", "--config", str(terminal.layout.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 4 and "already_running" in second.stderr
    assert terminal.ask("status")["state"] == "idle"


def test_a_damaged_boot_environment_keeps_the_terminal_answering(terminal: SimulatedTerminal) -> None:
    terminal.layout.env_config.write_text(f"{terminal.layout.env} 0x0 0x4000\n")  # a single copy
    terminal.control("reboot")
    status = terminal.wait(lambda status: status["booted"] is None and bool(status["problems"]), 20)
    assert [problem["code"] for problem in status["problems"]] == ["boot_env_not_redundant"]
    with pytest.raises(PosagentError, match="busy: the agent is looking at the hardware"):
        terminal.ask("update", source="/tmp/some.bundle")


def test_a_damaged_journal_is_logged_once_and_stays_a_problem(terminal: SimulatedTerminal) -> None:
    # one that is killed at its first work leaves something to be mended, and that is told, too
    terminal.wait(lambda _: "installer" not in terminal.control("state")["pids"], 60)
    terminal.down()
    good = b'{"seq":5,"prev":"x","v":1,"state":"idle"}'
    (terminal.layout.state / "journal").write_bytes(b"damage\n%08x %s\n" % (zlib.crc32(good), good))
    terminal.up()
    assert [problem["code"] for problem in terminal.ask("status")["problems"]] == ["journal_damaged"]
    assert (terminal.layout.log / "agent.log").read_text().count("journal_damaged") == 1


def test_an_agent_told_to_stop_while_it_installs_ends_when_the_restart_was_asked_for(
    lab: Lab, terminal: SimulatedTerminal
) -> None:
    config = terminal.layout.config
    command = re.compile(r"reboot_command = .*")
    whole = config.read_text()
    assert command.search(whole)
    config.write_text(command.sub('reboot_command = ["/bin/true"]', whole))  # the restart takes its time
    terminal.down()
    terminal.up()
    bundle = lab.bundle("2.6.0", noisy(lab, "2.6.0"))
    update = terminal.ask("update", source=str(bundle))["id"]
    terminal.wait(lambda status: status["state"] == "install", 20)
    pid = int(terminal.control("state")["pids"]["agent"])
    os.kill(pid, signal.SIGTERM)
    terminal.wait_event(lambda _: not Path(f"/proc/{pid}").exists(), 20)
    log = [json.loads(line) for line in (terminal.layout.log / "agent.log").read_text().splitlines()]
    assert "stop_waits" in [line["event"] for line in log]
    config.write_text(whole)
    terminal.control("reboot")
    assert terminal.wait_outcome(update)["outcome"] == "committed"


def test_an_agent_told_to_stop_does_not_wait_for_a_worker_that_was_ended_too(
    lab: Lab, terminal: SimulatedTerminal
) -> None:
    """A shutdown during the self-test; the installer, which has to mark the version as bad, is not started any more."""
    bundle = lab.bundle("2.7.0", lab.image("2.7.0", broken="no parameters"))
    update = terminal.ask("update", source=str(bundle))["id"]
    terminal.wait(lambda status: status["state"] == "selftest", 30)
    installer = Path(configuration.load(str(terminal.layout.config)).worker_socket("installer"))
    away = installer.rename(installer.with_suffix(".away"))
    pid = int(terminal.control("state")["pids"]["agent"])
    os.kill(pid, signal.SIGTERM)
    terminal.wait_event(lambda _: not Path(f"/proc/{pid}").exists(), 30)
    away.rename(installer)
    assert "mark_failed" in (terminal.layout.log / "agent.log").read_text().split("stop_waits")[-1]
    assert terminal.wait_outcome(update)["outcome"] == "rolled_back"


def test_the_resident_carries_no_heavy_libraries() -> None:
    heavy = ("ssl", "_hashlib", "cryptography", "tuf", "urllib3", "backports.zstd", "rich", "textual", "xml")
    code = f"import sys, posagent.daemon; print([name for name in {heavy} if sys.modules.get(name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_simulator_from_an_empty_directory_by_its_own_commands(short_path: Path) -> None:
    directory = str(short_path / "mine")
    up = sim("up", directory, "--detach", "--json")
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)
    assert Path(told["socket"]).is_socket() and Path(told["pty"]).exists()
    try:
        state = json.loads(sim("state", directory, "--json").stdout)
        assert state["booted"] == "a" and {"agent", "payment"} <= set(state["pids"])
        assert sim("cut", directory, "--off-s", "0.1").returncode == 0
        assert sim("clock", directory, "--offset", "+3600").returncode == 0
        assert sim("new", directory).returncode == 2, "a terminal is never made over another"
    finally:
        assert sim("down", directory).returncode == 0
    assert sim("state", directory).returncode == 5
