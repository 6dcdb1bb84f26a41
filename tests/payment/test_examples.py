"""docs/payment.md shows what the agent does: the transcript word by word, the C and Java programs as they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from posagent import wire
from posagent.agent.payment import PaymentRules, Payments
from posagent.core.holds import Outlook, Question
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.virtual import VirtualTime
from tests.payment.process import ROOT, AgentProcess

PAGE = ROOT / "docs/payment.md"
SLOW_S = 60


def transcript() -> list[str]:
    [block] = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(block).splitlines()


def test_the_transcript_is_what_is_said() -> None:
    time, outlook = VirtualTime(), Outlook()
    payments = Payments(clock=time, timers=time, rules=PaymentRules(), outlook=lambda: outlook)
    said: list[Message] = []
    reply = said.append
    question = Question(
        id="q7", text="Install now? About 4 min.", text_zh="现在安装吗？约 4 分钟。", expires_at_s=600.0
    )
    turns = {
        "the bundle wants the merchant asked": Outlook(state=State.READY, question=question),
        "the restart has begun": Outlook(state=State.ACTIVATE, may_hold=False, expected_s=95.0),
    }
    compared = 0
    for line in transcript():
        kind, text = line[0], line[2:]
        if kind == ">":
            verb, args = wire.request_of(json.loads(text))
            assert verb == "payment"
            if "answer" in args:
                outlook = Outlook(state=State.INSTALL, expected_s=240.0)
            payments.line(args, reply, "uid 7")
        elif kind == "<":
            expected, seen = json.loads(text), said.pop(0)
            assert seen == expected and list(seen["progress"]) == list(expected["progress"])
            compared += 1
        elif text.startswith("gate: "):
            gate = payments.gate(State.INSTALL)
            assert text == ("gate: open" if gate.open else f"gate: closed, {gate.reason}")
        elif wait := re.match(r"(\d+) s ", text):
            time.let_pass(float(wait[1]))
        elif text in turns:
            outlook = turns[text]
            payments.tell()
    assert said == [] and compared == 8


def serves_customers(command: list[str], agent: AgentProcess) -> None:
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdin is not None and program.stdout is not None

    def serve() -> str:
        assert program.stdin is not None and program.stdout is not None
        program.stdin.write("\n")
        program.stdin.flush()
        return program.stdout.readline().strip()

    agent.hear(lambda one: one.get("sessions") == 1)
    assert serve() == "paid"
    assert agent.held("transaction")["reason"] == "a payment is under way"
    agent.hear(lambda one: "noted" in one)
    agent.held()
    agent.tell(state="activate", may_hold=False, expected_s=80)
    assert serve() == "please wait, the terminal is being updated"
    agent.held("transaction")
    agent.held()
    agent.down()
    assert serve() == "paid", "without an agent payments go on"
    agent.up()
    assert serve() == "paid"
    agent.hear(lambda one: one.get("holds") == ["transaction"])
    agent.held()
    program.stdin.close()
    assert program.wait(timeout=SLOW_S) == 0
    program.stdout.close()
    assert agent.hear(lambda one: one.get("sessions") == 0)["open"] is False, "reconcile-first asks for somebody"


@pytest.mark.real
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_the_c_program_holds_for_its_payments(agent: AgentProcess, tmp_path: Path) -> None:
    program = tmp_path / "pay"
    source = ROOT / "docs/payment/pay.c"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, source], check=True)
    serves_customers([str(program), agent.path], agent)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java compiler here")
def test_the_java_program_holds_for_its_payments(agent: AgentProcess, tmp_path: Path) -> None:
    subprocess.run(["javac", "-Xlint:all", "-d", tmp_path, ROOT / "docs/payment/Pay.java"], check=True)
    serves_customers(["java", "-Xshare:auto", "-cp", str(tmp_path), "Pay", agent.path], agent)


def test_the_examples_are_about_as_short_as_promised() -> None:
    """The function that an integrator copies, without the program around it."""
    c = (ROOT / "docs/payment/pay.c").read_text(encoding="utf-8")
    java = (ROOT / "docs/payment/Pay.java").read_text(encoding="utf-8")
    for text, begin in ((c, "static int hold"), (java, "static synchronized boolean hold")):
        lines = text[text.index(begin) :].splitlines()
        end = next(number for number, line in enumerate(lines) if line in ("}", "    }"))
        assert end <= 30
