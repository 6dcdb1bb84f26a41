"""An agent that does nothing but hold for payments: the real API socket, loop and sessions in a process of their own.

It prints a JSON line for everything it is told; on its standard input it reads the outlook it shall tell, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from posagent.agent.payment import PaymentRules, Payments
from posagent.core.holds import Outlook, Question
from posagent.core.model import State
from posagent.platform.host import LinuxClock
from posagent.platform.loop import Loop
from posagent.platform.sockets import ApiServer


def show(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Host:
    def __init__(self, path: str) -> None:
        clock = LinuxClock()
        self.outlook = Outlook()
        self.loop = Loop(clock)
        self.payments = Payments(
            clock=clock,
            timers=self.loop,
            rules=PaymentRules(),
            outlook=lambda: self.outlook,
            on_change=self.changed,
            on_noted=lambda count: show(noted=count),
            on_answer=lambda answer: show(answer=answer.question, yes=answer.yes, by=answer.by),
        )
        self.server = ApiServer(
            path,
            self.loop,
            lambda verb, args, reply, caller: self.payments.line(args, reply, caller),
            admin_groups=(),
            open_verbs=(),
        )
        self.loop.watch(sys.stdin.fileno(), self.told)

    def changed(self) -> None:
        gate = self.payments.gate(State.INSTALL, reconcile_first=True)
        show(
            open=gate.open,
            reason=gate.reason,
            holds=sorted(hold.reason.value for session in self.payments.sessions for hold in session.holds),
            sessions=len(self.payments.sessions),
            problems=[problem.code for problem in self.payments.problems()],
        )

    def told(self) -> None:
        line = sys.stdin.readline()
        if not line:
            self.loop.stop()
            return
        told = json.loads(line)
        question = told.pop("question", None)
        self.outlook = Outlook(
            state=State(told.get("state", "idle")),
            may_hold=told.get("may_hold", True),
            expected_s=told.get("expected_s"),
            question=question and Question(id=question, text="Now?", text_zh="现在？", expires_at_s=1e12),
        )
        self.payments.tell()
        show(told=told)


if __name__ == "__main__":
    host = Host(sys.argv[1])
    show(up=True)
    host.loop.run()
