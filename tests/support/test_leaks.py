"""Card numbers are planted wherever somebody else's words come in; none comes out: not in answers, on the console, in
logs, in the history, in what the command prints, nor in a support bundle that the vendor has opened.

The scanner (tests.planted) is not the one that does the work.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent import texts
from posagent.agent.conditions import Conditions
from posagent.agent.payment import PaymentRules, Payments
from posagent.console.access import SessionLimits
from posagent.core.energy import EnergyLimits
from posagent.core.model import State
from posagent.core.ports import Message, ResetCause, ResetReport
from posagent.installer.opening import Ports
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.lab import Lab, SimulatedTerminal
from posagent.sim.stand_ins import SimulatedProbes
from tests.conftest import Desk
from tests.console.engineers import certify, make_key
from tests.console.laptop import Laptop
from tests.planted import CARDS, PLAIN, card_numbers
from tests.support import outlets

TRACK = f";{PLAIN[0]}=25121010000000000000?"
SAID = f"reader: pan {CARDS[1]}, {CARDS[2]}; track2 {TRACK} amex {CARDS[3]}"
Make = Callable[..., InProcessTerminal]


def test_the_scanner_finds_every_planted_number() -> None:
    for card in CARDS:
        assert card_numbers(f"x {card} y") and card_numbers(json.dumps([card])) and card_numbers(f"a{card}b")
    assert card_numbers(SAID) and card_numbers(TRACK) and card_numbers("4111\n1111 1111\t1111")
    assert (
        card_numbers("2026-11-28 12:00 sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08") == []
    )


class TalkingProbes(SimulatedProbes):
    """Self-tests whose peripherals print what they have read."""

    says: str | None = None

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        return self.says


class TalkingKernel:
    """core.ports.Resets: a panic with a card in the reader's buffer."""

    def read(self) -> ResetReport:
        return ResetReport(cause=ResetCause.PANIC, boot_id="f" * 32, log=(f"reader0: buffer {SAID}", "Kernel panic"))


class Talkative(InProcessTerminal):
    """A terminal with payment applications."""

    def _conditions(self) -> Conditions:
        self.payments = Payments(
            clock=self.time, timers=self.time, rules=PaymentRules(required=True, lease_s_max=60, grace_s=5)
        )
        return Conditions(clock=self.time, power=self._parts.power, limits=EnergyLimits(), payments=self.payments)


@pytest.fixture
def terminal(in_process: Make) -> Iterator[Talkative]:
    made = in_process()
    text = made.layout.config.read_text()
    spoiled = text.replace('name = "payment program answers"', f'name = "answers to {CARDS[0]}"').replace(
        "[fetch]", f'[fetch]\nchannel = "{CARDS[1]}"'
    )
    made.layout.config.write_text(spoiled)
    terminal = Talkative(made.layout)
    terminal.boot()
    yield terminal
    terminal.time.end()


class Everything:
    """What came out, wherever."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def hear(self, message: Message) -> None:
        self.seen.append(json.dumps(message, ensure_ascii=False))

    @property
    def leaks(self) -> list[tuple[list[str], str]]:
        return [(found, text[:2000]) for text in self.seen if (found := card_numbers(text))]


def ask(terminal: InProcessTerminal, out: Everything, verb: str, **args: Any) -> dict[str, Any]:
    told: list[Message] = []

    def reply(message: Message) -> None:
        told.append(message)
        out.hear(message)

    terminal.api.call(verb, args, reply, f"uid {CARDS[0]}")
    terminal.run_until(lambda _: any("progress" not in message for message in told) or verb == "payment")
    return told[-1]


def told(terminal: InProcessTerminal, out: Everything, certificate: Path) -> None:
    """Everything that can be asked now, in both languages, by whoever."""
    answers = {verb: ask(terminal, out, verb)["result"] for verb in ("status", "why", "history", "estimate")}
    for lang in ("en", "zh"):
        out.seen += texts.status_lines(answers["status"], lang) + texts.why_lines(answers["why"], lang)
        out.seen += [*texts.history_lines(answers["history"], lang), texts.progress_line(answers["status"], lang)]
    laptop = Laptop(terminal, {"look": certificate}, SessionLimits(actions_max=100))
    laptop.unlock("look")
    for line in ("status", "why", "history", "status --json", "why --json", "history --json", "estimate"):
        laptop.ask(line)
    out.seen.append(laptop.screen.decode())


def test_no_card_number_comes_out_of_whole_updates(
    terminal: Talkative, desk: Desk, tmp_path: Path, short_path: Path
) -> None:
    out, certificate = Everything(), certify(desk.keys / "engineer-ca", make_key(tmp_path / "key"), role="look")

    def pays(number: int, **args: Any) -> None:
        """A payment application says something, on a connection of its own."""
        terminal.api.call("payment", args, lambda message: out.hear({"to": number, **message}), f"uid {number}")

    # payment applications: their names, reasons, answers, words
    terminal.api.call("watch", {}, out.hear, "somebody")
    pays(1, name=PLAIN[0], lease_s=5, holds=[{"reason": "transaction"}])
    pays(2, name="x", lease_s=5, holds=[{"reason": f"pan {CARDS[1]}"}])
    pays(3, name=f"a {CARDS[1]}", lease_s=5, holds=[])
    pays(4, name="y", lease_s=5, holds=[], **{CARDS[2]: 1})
    pays(5, name="z", lease_s=5, holds=[], answer={"question": PLAIN[4], "answer": CARDS[3]})
    told(terminal, out, certificate)
    terminal.time.let_pass(6.0)
    told(terminal, out, certificate)
    problems = ask(terminal, out, "status")["result"]["problems"]
    assert any("[card]" in problem["detail"] for problem in problems), "who went silent is told, without its name"

    # file names, of files that do not exist and that do
    terminal.start_agent()
    terminal.api.call("watch", {}, out.hear, "somebody")
    ask(terminal, out, "update", source=f"/media/{CARDS[1]}/{CARDS[4]}.bundle")
    terminal.run_to_idle()
    told(terminal, out, certificate)
    named = short_path / f"copy of {CARDS[1]}.bundle"
    named.write_bytes(desk.bundles["3.0.0"].read_bytes())

    # peripherals that print what they read, a kernel that dies with it
    probes = TalkingProbes(terminal.layout, terminal.time)
    probes.says = SAID
    installer: Ports = dataclasses.replace(terminal._parts.installer, resets=TalkingKernel())
    terminal._parts = dataclasses.replace(terminal._parts, probes=probes, installer=installer)
    terminal.start_agent()
    ask(terminal, out, "update", source=str(named))
    pays(1, name="acme-pay", lease_s=60, holds=[])
    terminal.run_until(lambda one: one.state is State.SELFTEST)
    told(terminal, out, certificate)
    outcome = terminal.run_to_idle()
    assert outcome["outcome"] == "rolled_back" and "[card]" in json.dumps(outcome["checks"])
    terminal.settle()
    told(terminal, out, certificate)
    checks = [{"check": "power.battery", "level": "fault", "detail": SAID}]
    path = Path(ask(terminal, out, "support", checks=checks)["result"]["path"])
    reports = [outlets.opened(one, desk.keys / "vendor.pem") for one in path.parent.iterdir()]
    assert len(reports) == 2 and all("[card]" in text and "rolled_back" in text for text in reports)
    journal = (terminal.layout.state / "journal").read_text(errors="replace")
    assert "rolled_back" in journal and "[card]" in journal
    assert TRACK not in journal and CARDS[3] not in journal, "nor is it kept of what others say"
    out.seen += reports
    assert out.leaks == []
    assert len(out.seen) > 100


@pytest.mark.real
def test_no_card_number_comes_out_of_real_processes_and_their_logs(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", rate_limit="6m")
    try:
        terminal = lab.terminal("t")
        _spoil(terminal)
        out = Everything()
        named = tmp_path / f"copy of {CARDS[1]}.bundle"
        named.write_bytes(lab.bundle("2.0.0").read_bytes())
        outcomes = []
        for source in (f"/none/{CARDS[2]}.bundle", str(named)):
            update = terminal.ask("update", source=source)["id"]
            outcomes.append(terminal.wait_outcome(update))
        assert [one["outcome"] for one in outcomes] == ["failed", "rolled_back"]
        terminal.wait(lambda status: "ticket" in (status["last_outcome"] or {}), 30.0)
        out.seen.append(outlets.command(terminal, "config", str(_unusable(terminal, tmp_path))))
        out.seen.append(outlets.command(terminal, "doctor", "--config", str(terminal.layout.config)))
        told = outlets.told(terminal, lab.keys / "vendor.pem", tmp_path)
        assert any('"event": "decided"' in text and "[card]" in text for text in told["logs"])
        assert len(told["support bundles"]) == 3
        out.seen += itertools.chain.from_iterable(told.values())
        assert out.leaks == []
    finally:
        lab.close()


def _spoil(terminal: SimulatedTerminal) -> None:
    """Another configuration from the next start on: its last self-test prints what a reader has read, and fails."""
    check = f"""
[[selftest.checks]]
name = "reader {CARDS[0]}"
kind = "command"
command = ["/bin/sh", "-c", "echo '{SAID}' >&2; exit 1"]
"""
    with terminal.layout.config.open("a") as stream:
        stream.write(check)
    terminal.control("cut", off_s=0.1)
    terminal.wait(lambda status: status["booted"] is not None, 30.0)


def _unusable(terminal: SimulatedTerminal, folder: Path) -> Path:
    path = folder / "unusable.toml"
    path.write_text(terminal.layout.config.read_text().replace("[fetch]", f'[fetch]\n"{CARDS[1]}" = "{CARDS[2]}"'))
    return path
