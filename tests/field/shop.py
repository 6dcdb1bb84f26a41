"""Ten terminals in all that can become of them, as an engineer's laptop sees them. The statuses are a whole simulated
terminal's own."""

from __future__ import annotations

from posagent.field.diary import Diary
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def diaries(terminal: InProcessTerminal, bundle: str) -> list[Diary]:
    """`terminal` is fresh; it is updated by this."""
    clock = Clock()
    made = [Diary(f"pos-{n:04d}", f"/dev/ttyUSB{n}", clock, lambda: None) for n in range(10)]
    idle = terminal.ask("status")
    for diary in made:
        diary.versions(before="1.0.0", wanted="2.0.0")
        diary.status(idle)
    terminal.ask("update", source=bundle)
    for diary, state in zip(made[1:5], ("download", "ready", "install", "selftest"), strict=True):
        if state == "ready":
            layout.set_power(terminal.layout, battery=20, mains=False)
        terminal.run_until(lambda one, state=state: one.state.value == state)  # type: ignore[misc]
        if state == "install":
            terminal.run_until(lambda one: (one.ask("status")["update"] or {}).get("bytes_done", 0) > 0)
        diary.status(terminal.ask("status"))
        layout.set_power(terminal.layout, battery=80, mains=True)
    _, _, _, _, _, sending, done, unlocking, pulled, back = made
    sending.enter("sending")
    sending.sent(1_000_000, 3_000_000, 185.0)
    done.versions(after="2.0.0")
    done.end("committed")
    unlocking.enter("unlocking")
    pulled.enter("activate")
    pulled.pulled()
    back.versions(after="1.0.0")
    back.support(code="7K3F-9QTN")
    back.end("rolled_back", "selftest_failed", "payment program answers: Connection refused")
    return made
