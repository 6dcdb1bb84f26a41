"""What was asked, pasted or watched on the line ends with whoever did it, and costs no memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.console.auth import CHALLENGE_S
from posagent.console.grammar import PROMPT
from posagent.core.deadline import Deadline
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from posagent.sim.virtual import VirtualTime
from tests.conftest import Desk
from tests.console.laptop import Laptop

BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
NOTHING_NEWER: Message = {"result": {"offer": None, "booted_version": "1.0.0", "gates": []}}


class SlowRepository:
    """question.Api of an agent whose repository takes its time: `check` and `update` are answered by `arrives`."""

    def __init__(self, terminal: InProcessTerminal) -> None:
        self._terminal = terminal
        self._waiting: list[tuple[str, Callable[[Message], None]]] = []
        self.begun = 0

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb not in ("check", "update"):
            return self._terminal.api.call(verb, args, reply, caller)
        asked = (verb, reply)
        self._waiting.append(asked)
        return lambda: self._waiting.remove(asked)

    def arrives(self) -> None:
        """The repository answers; an update that still waits for it begins."""
        waiting, self._waiting = self._waiting, []
        for verb, reply in waiting:
            self.begun += verb == "update"
            reply(NOTHING_NEWER if verb == "check" else {"error": {"code": "no_update"}})


@pytest.fixture
def laptop(in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path]) -> Laptop:
    return Laptop(in_process(), certificates)


@pytest.fixture
def slow(laptop: Laptop) -> SlowRepository:
    """The laptop is unlocked at a terminal with a slow repository."""
    made = SlowRepository(laptop.terminal)
    laptop.plug_in(made)
    assert "unlocked" in laptop.unlock()
    return made


def test_an_answer_that_takes_its_time_is_shown(laptop: Laptop, slow: SlowRepository) -> None:
    laptop.type("check\r")
    before = len(laptop.screen)
    slow.arrives()
    assert laptop.screen[before:] == b"nothing newer than 1.0.0 is offered\r\n" + PROMPT


@pytest.mark.parametrize("end", ["hang-up", "logout\r", "\x04", "idle"])
def test_an_answer_never_reaches_whoever_comes_after_the_session(
    laptop: Laptop, slow: SlowRepository, end: str
) -> None:
    laptop.type("check\r")
    laptop.type("update\r")
    if end == "hang-up":
        laptop.session.hang_up()
    elif end == "idle":
        laptop.terminal.run_until(lambda _: laptop.screen.endswith(b"locked: idle\r\n" + PROMPT))
    else:
        laptop.type(end)
    before = len(laptop.screen)
    slow.arrives()
    assert laptop.screen[before:] == b"" and slow.begun == 0
    assert laptop.locked


@pytest.mark.parametrize("word", ["\x03", "cancel\r"], ids=["^C", "cancel"])
def test_an_update_that_is_cancelled_while_it_asks_for_its_offer_does_not_begin(
    laptop: Laptop, slow: SlowRepository, word: str
) -> None:
    laptop.type("update\r")
    assert laptop.type(word).endswith(PROMPT.decode())
    slow.arrives()
    assert slow.begun == 0
    laptop.type("update\r")
    slow.arrives()
    assert slow.begun == 1, "the next one is asked for as always"


def test_control_c_gives_up_the_question_and_not_the_update_under_way(
    laptop: Laptop, slow: SlowRepository, desk: Desk
) -> None:
    set_power(laptop.terminal.layout, battery=20, mains=False)
    laptop.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    laptop.terminal.run_until(lambda terminal: terminal.state is State.READY)
    assert "unlocked" in laptop.unlock()
    laptop.type("check\r")
    assert "cancelled" not in laptop.type("\x03")
    assert laptop.terminal.state is State.READY
    assert "cancelled" in laptop.type("\x03"), "nothing is waited for now: it cancels like anybody"


def test_a_command_typed_while_an_update_is_followed_is_answered(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock()
    set_power(laptop.terminal.layout, battery=20, mains=False)
    laptop.type(f"update {desk.bundles['2.0.0']}\r")
    laptop.terminal.run_until(lambda terminal: terminal.state is State.READY)
    assert laptop.screen.endswith(b"2.0.0 ready - waiting for: battery 20 %, needs 30 %"), "it says for what"
    assert "the update goes on" in laptop.type("s"), "one key is enough"
    assert "terminal: t" in laptop.type("tatus\r")
    assert laptop.terminal.state is State.READY


# half a signature


def test_a_signature_whose_end_is_lost_on_the_line_does_not_leave_a_dead_console(laptop: Laptop) -> None:
    laptop.type(f"{BEGIN}\rAAAA\rBBB")
    assert laptop.type("status\r") == "", "taken for a part of it"
    laptop.terminal.run_until(lambda _: laptop.screen.endswith(PROMPT))
    assert laptop.terminal.time.monotonic() <= CHALLENGE_S + 1
    assert laptop.type("status\r").startswith("status\r\nterminal: t"), "shown and understood again"


def test_the_time_for_one_paste_is_not_counted_from_an_earlier_one(laptop: Laptop) -> None:
    laptop.type(f"{BEGIN}\rAAAA\r{END}\r")
    laptop.terminal.time.let_pass(CHALLENGE_S - 1)
    answer = laptop.sign(laptop.ask_json("unlock update")["challenge"])
    laptop.type(answer[:100])
    laptop.terminal.time.let_pass(2)
    assert "unlocked: Li Wei" in laptop.ask(answer[100:])


def test_a_signature_that_came_whole_is_not_missed_later(laptop: Laptop) -> None:
    assert "[unlock_expired]" in laptop.ask(f"{BEGIN}\rAAAA\r{END}")
    before = laptop.screen
    laptop.terminal.settle()
    assert laptop.screen == before and laptop.terminal.time.monotonic() >= CHALLENGE_S


# memory


def test_typing_on_and_on_leaves_nothing_on_the_loop(laptop: Laptop) -> None:
    """A timer a byte once took 200 bytes each, for two minutes: megabytes on a fast line."""
    assert "unlocked" in laptop.unlock()
    tracemalloc.start()
    try:
        for _ in range(5_000):
            laptop.type(b"x")
            laptop.type(b"\x7f")
            laptop.screen = b""
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()


def test_a_deadline_that_is_put_off_comes_at_the_time_set_last() -> None:
    time, reached = VirtualTime(), list[float]()
    deadline = Deadline(time, time, lambda: reached.append(time.monotonic()))
    deadline.set(10)
    time.let_pass(7)
    deadline.set(17)
    while time.step():
        continue
    assert reached == [17]
    deadline.set(20)
    deadline.clear()
    while time.step():
        continue
    assert reached == [17]
    deadline.set(30)
    while time.step():
        continue
    assert reached == [17, 30]
