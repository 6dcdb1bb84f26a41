"""What cannot be taken back, from the laptop: shown exactly as it is signed, signed with a key in a file, in an agent
or in hardware, and done; at a real simulated terminal, and before the eyes of somebody who types."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.core.ports import Message
from posagent.field.challenge import Challenge
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.console.engineers import certify, make_key
from tests.console.security_key import SecurityKey
from tests.console.visit import Visit
from tests.field.key_agent import KeyAgent

DIGEST = "sha256:" + "5a" * 32
LOOK_S = 60.0


# between the laptop's link and the terminal's console


class Lying:
    """question.Api of a terminal that wants another thing signed than what was asked of it."""

    def __init__(self, terminal: InProcessTerminal) -> None:
        self._api = terminal.api
        self.challenge = ""

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb != "check":
            return self._api.call(verb, args, reply, caller)
        reply({"error": {"code": "sign_again", "detail": "to be signed", "challenge": self.challenge}})
        return lambda: None


def test_the_link_signs_for_exactly_what_was_asked(visit: Visit) -> None:
    shown: list[str] = []

    def agree(asked: Challenge) -> str:
        shown.append(asked.action)
        return visit.sign()(asked.line)

    visit.unlock()
    assert visit.laptop.call_signed("allow", {"bundle": DIGEST}, agree=agree) == {"allowed": DIGEST}
    assert shown == [f"allow {DIGEST}"]
    assert visit.code("allow", bundle=DIGEST) == "sign_again", "once"


def test_challenges_that_are_paced_are_waited_for(visit: Visit) -> None:
    visit.unlock()
    for _ in range(8):
        told = visit.laptop.call_signed("allow", {"bundle": DIGEST}, agree=lambda asked: visit.sign()(asked.line))
        assert told == {"allowed": DIGEST}


def test_a_terminal_that_wants_something_else_signed_gets_nothing(visits: Callable[..., Visit]) -> None:
    visit = visits(api=Lying)
    visit.unlock()
    api = visit.line.console._other_api
    assert isinstance(api, Lying)
    for action in ("update rollback b 1.0.0", "rollback check", "update"):
        api.challenge = f"posagent-console-v1 {visit.laptop.terminal_id} boot 2 00ff {action}"
        with pytest.raises(PosagentError, match="challenge_differs"):
            visit.laptop.call_signed("check", agree=lambda asked: pytest.fail(f"signed: {asked}"))


def test_what_needs_no_second_signature_is_answered_as_ever(visit: Visit) -> None:
    assert visit.laptop.call_signed("status", agree=lambda _: pytest.fail("signed"))["state"] == "idle"
    with pytest.raises(PosagentError, match="not_allowed"):
        visit.laptop.call_signed("rollback", agree=lambda _: pytest.fail("signed"))


# the program itself


@pytest.fixture(scope="module")
def terminal(lab: Lab) -> SimulatedTerminal:
    """It was updated: there is a version to go back to."""
    made = lab.terminal("pos-1")
    lab.publish("2.0.0")
    assert made.wait_outcome(made.ask("update", now=True)["id"], 200)["outcome"] == "committed"
    return made


def words(verb: str, terminal: SimulatedTerminal, key: Path, *more: str) -> list[str]:
    port = str(terminal.layout.laptop)
    return [sys.executable, "-m", "posagent.field.cli", "--lang", "en", verb, port, "--key", str(key), *more]


class Window:
    """A terminal window in which the program runs, and somebody who reads and types."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._window, inside = pty.openpty()
        self._process = subprocess.Popen(
            command, stdin=inside, stdout=inside, stderr=inside, env=dict(environment), start_new_session=True
        )
        os.close(inside)
        self.seen = ""

    def read_until(self, text: str) -> str:
        while text not in self.seen:
            ready, _, _ = select.select([self._window], [], [], LOOK_S)
            assert ready, f"nothing more after: {self.seen}"
            try:
                self.seen += os.read(self._window, 65536).decode()
            except OSError:
                raise AssertionError(f"it ended with: {self.seen}") from None
        return self.seen

    def type(self, text: str) -> None:
        os.write(self._window, text.encode())

    def end(self) -> int:
        """What is still shown, and the exit code."""
        try:
            while data := os.read(self._window, 65536):
                self.seen += data.decode()
        except OSError:
            pass  # EIO: it has ended
        os.close(self._window)
        return self._process.wait(60)


@pytest.mark.real
@pytest.mark.timeout(400)
def test_a_key_in_a_file_signs_without_asking_for_what_was_agreed_to_beforehand(
    lab: Lab, terminal: SimulatedTerminal, tmp_path: Path
) -> None:
    key = certify(lab.keys / "engineer-ca", make_key(tmp_path / "engineer"))
    how: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 200, "stdin": subprocess.DEVNULL}
    command = words("allow", terminal, key, "--json")
    done = subprocess.run([*command, DIGEST, "--sign", f"allow {DIGEST}"], check=False, **how)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"allowed": DIGEST}), done.stderr
    assert f"pos-1 does this once it is signed:\n  allow {DIGEST}\n" in done.stderr
    assert f" update allow {DIGEST}\n" in done.stderr, "the whole line"
    for more in ((), ("--sign", "allow sha256:" + "00" * 32)):
        done = subprocess.run([*command, DIGEST, *more], check=False, **how)
        assert (done.returncode, json.loads(done.stdout)["code"]) == (3, "not_signed")


@pytest.mark.real
@pytest.mark.timeout(400)
def test_a_no_at_the_question_signs_nothing(lab: Lab, terminal: SimulatedTerminal, tmp_path: Path) -> None:
    key = certify(lab.keys / "engineer-ca", make_key(tmp_path / "engineer"), role="rollback")
    window = Window(words("rollback", terminal, key), os.environ)
    assert "  rollback a 1.0.0\r\n" in window.read_until("Type yes: ")
    window.type("no\n")
    assert window.end() == 3 and "[not_signed]" in window.seen
    assert terminal.ask("status")["state"] == "idle"
    signed = [one for one in terminal.ask("audit")["records"] if one["event"] == "signed"]
    assert not [one for one in signed if one["action"].startswith("rollback")]


@pytest.mark.real
@pytest.mark.timeout(400)
def test_a_key_in_the_agent_and_a_security_key_bring_the_terminal_back_and_forth(
    lab: Lab, terminal: SimulatedTerminal, tmp_path: Path
) -> None:
    def go_back(key: Path, socket: Path) -> str:
        window = Window(words("rollback", terminal, key), {**os.environ, "SSH_AUTH_SOCK": str(socket)})
        window.read_until("Type yes: ")
        window.type("yes\n")
        assert window.end() == 0, window.seen
        return window.seen

    path = certify(lab.keys / "engineer-ca", make_key(tmp_path / "engineer"), role="rollback")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None and b"SSH_AUTH_SOCK" in agent.stdout.readline()
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")}
        subprocess.run(["ssh-add", "-q", str(tmp_path / "engineer")], check=True, env=environment)
        (tmp_path / "engineer").unlink()
        seen = go_back(path, tmp_path / "agent")
    finally:
        agent.terminate()
        agent.wait()
    assert "rollback rollback a 1.0.0" in seen and "touch" not in seen
    assert terminal.ask("version")["running"] == "1.0.0"

    key = SecurityKey(tmp_path / "hardware", "ed25519")
    path = certify(lab.keys / "engineer-ca", key.path, role="rollback", name="Wang Fang")
    hardware = KeyAgent(tmp_path / "hardware-agent", key, path)
    try:
        seen = go_back(path, tmp_path / "hardware-agent")
    finally:
        hardware.end()
    assert "rollback rollback b 2.0.0" in seen and seen.count("touch the key") == 2 == hardware.touches
    assert terminal.ask("version")["running"] == "2.0.0"
    assert {"Li Wei", "Wang Fang"} <= {one.get("name") for one in terminal.ask("audit")["records"]}
