"""Conversations on the serial line with a whole terminal, in virtual time, with real certificates and signatures."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent import config as configuration
from posagent.console.access import SessionLimits
from posagent.console.auth import CHALLENGE_S
from posagent.console.grammar import PROMPT
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from posagent.sim.virtual import LocalWorker
from tests.conftest import Desk
from tests.console.dumb import DumbTerminal
from tests.console.laptop import Laptop

Plug = Callable[..., Laptop]
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@pytest.fixture
def plug(in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path]) -> Plug:
    """Plugs a laptop into a fresh terminal; `limits` as for SessionLimits."""

    def make(**limits: Any) -> Laptop:
        return Laptop(in_process(), certificates, SessionLimits(**limits))

    return make


@pytest.fixture
def laptop(plug: Plug) -> Laptop:
    return plug()


def wait_in_ready(laptop: Laptop, desk: Desk) -> str:
    """An update under way that waits for the charger; its id."""
    set_power(laptop.terminal.layout, battery=20, mains=False)
    update: str = laptop.terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    laptop.terminal.run_until(lambda terminal: terminal.state is State.READY)
    return update


def charge(laptop: Laptop) -> None:
    set_power(laptop.terminal.layout, battery=90, mains=True)


# locked


def test_locked_it_answers_status_why_and_help(laptop: Laptop) -> None:
    assert "terminal: t" in laptop.ask("status")
    assert "nothing stands in the way" in laptop.ask("why")
    assert "unlock ROLE" in laptop.ask("help")
    assert laptop.ask("") == ""


def test_locked_it_refuses_every_other_verb(laptop: Laptop) -> None:
    for verb in ("check", "history", "update", "cancel", "update /tmp/x.bundle"):
        assert laptop.code(verb) == "not_allowed", verb
        assert "unlock" in laptop.ask(verb)
    assert laptop.terminal.state is State.IDLE


def test_what_is_no_command_here_is_refused(laptop: Laptop) -> None:
    verbs = ("watch", "follow", "config", "reboot", "sh", "_lock", "__init__")
    assert {laptop.code(verb) for verb in verbs} == {"unknown_verb"}
    laptop.unlock()
    assert {laptop.code(verb) for verb in verbs} == {"unknown_verb"}


def test_words_where_none_belong_are_a_bad_request(laptop: Laptop) -> None:
    assert laptop.code("status now") == "bad_request"
    assert laptop.code("unlock") == laptop.code("unlock look update") == laptop.code("unlock root") == "bad_request"
    assert "[bad_request]" in laptop.ask("update 'a")


def test_json_answers_every_verb_in_one_line(laptop: Laptop, desk: Desk) -> None:
    assert laptop.ask_json("status")["state"] == "idle"
    assert laptop.ask_json("why")["why"] == []
    assert "unlock ROLE" in laptop.ask_json("help")["help"]
    laptop.unlock()
    assert laptop.ask_json("history")["history"] == []
    assert laptop.code("cancel") == "nothing_to_cancel"
    started = laptop.ask_json(f"update {desk.bundles['2.0.0']}")
    assert started["id"] == laptop.terminal.ask("status")["update"]["id"], "and it is not followed"


# unlocking


def test_the_right_answer_unlocks_and_is_not_shown_on_the_screen(laptop: Laptop) -> None:
    assert laptop.unlock().splitlines() == [BEGIN, "unlocked: Li Wei as update, 15 min"]
    assert laptop.ask("history") == "no update yet"
    assert laptop.ask("logout") == "locked: logged out"
    assert laptop.locked


def test_the_role_look_may_look_but_not_touch(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock("look")
    assert laptop.ask("history") == "no update yet"
    assert laptop.code(f"update {desk.bundles['2.0.0']}") == laptop.code("cancel") == "not_allowed"
    assert laptop.terminal.state is State.IDLE


@pytest.mark.parametrize(("role", "who"), [("update", "stranger"), ("update", "look"), ("look", "update")])
def test_a_certificate_that_is_not_for_this_does_not_unlock(laptop: Laptop, role: str, who: str) -> None:
    assert "[unlock_refused]" in laptop.unlock(role, who)
    assert laptop.locked


def test_an_answer_can_not_be_replayed(laptop: Laptop) -> None:
    answer = laptop.sign(laptop.ask_json("unlock update")["challenge"])
    assert "unlocked" in laptop.ask(answer)
    laptop.ask("logout")
    assert "[unlock_expired]" in laptop.ask(answer), "no challenge is outstanding"
    laptop.ask("unlock update")
    assert "[unlock_refused]" in laptop.ask(answer), "another one is"
    assert laptop.locked


def test_a_challenge_is_void_after_a_minute(laptop: Laptop) -> None:
    answer = laptop.sign(laptop.ask_json("unlock update")["challenge"])
    laptop.terminal.time.let_pass(CHALLENGE_S + 1)
    assert "[unlock_expired]" in laptop.ask(answer)
    assert laptop.locked


def test_a_newer_challenge_voids_the_older(laptop: Laptop) -> None:
    answer = laptop.sign(laptop.ask_json("unlock update")["challenge"])
    laptop.ask("unlock update")
    assert "[unlock_refused]" in laptop.ask(answer)
    assert laptop.locked


def test_an_answer_of_another_terminal_does_not_unlock(plug: Plug) -> None:
    one, other = plug(), plug()
    answer = one.sign(one.ask_json("unlock update")["challenge"])
    other.ask("unlock update")
    assert "[unlock_refused]" in other.ask(answer)


def test_wrong_answers_delay_the_next_challenge_longer_and_longer_even_over_a_restart(laptop: Laptop) -> None:
    for wait_s in (2.0, 4.0, 8.0):
        assert "[unlock_refused]" in laptop.unlock(who="stranger")
        refused = laptop.ask_json("unlock update")
        assert refused["code"] == "unlock_wait" and wait_s - 0.1 <= refused["expected_s"] <= wait_s
        laptop.terminal.time.let_pass(wait_s)
    laptop.terminal.start_agent()
    laptop.plug_in()
    assert laptop.ask_json("unlock update")["expected_s"] == 8.0
    laptop.terminal.time.let_pass(8.0)
    assert "unlocked" in laptop.unlock()
    assert "challenge" in laptop.ask_json("unlock update"), "a success forgets the failures"


def test_an_answer_without_a_challenge_is_no_failed_try(laptop: Laptop) -> None:
    assert "[unlock_expired]" in laptop.ask(f"{BEGIN}\rAAAA\r{END}")
    assert "challenge" in laptop.ask_json("unlock update")


def test_while_the_installer_has_no_time_the_engineer_is_told_so(laptop: Laptop) -> None:
    """The installer's process does one thing after the other, and writing a slot takes minutes."""
    slow = LocalWorker(
        {"engineer": lambda _: iter([{"result": {"name": "late"}}])}, laptop.terminal.time, step_s=3600.0
    )
    laptop.plug_in(engineer=slow)
    before = laptop.terminal.time.monotonic()
    assert "[busy]" in laptop.unlock()
    assert laptop.terminal.time.monotonic() - before < 15
    assert laptop.locked and "challenge" in laptop.ask_json("unlock update"), "and it is no failed try"
    laptop.terminal.settle()
    assert laptop.locked, "the late answer does not count"


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {}},
        {"result": None},
        {"result": []},
        {"result": {"name": 5}},
        {"result": {"name": "x\r\nunlocked: root"}},
        {"error": None},
        {"error": ["code"]},
        {"error": {"self": 1}},
    ],
    ids=str,
)
def test_an_answer_of_the_installer_that_is_not_understood_unlocks_nothing(answer: Message, laptop: Laptop) -> None:
    laptop.plug_in(engineer=LocalWorker({"engineer": lambda _: iter([answer])}, laptop.terminal.time))
    assert "[internal]" in laptop.unlock()
    assert laptop.locked and "challenge" in laptop.ask_json("unlock update"), "and it is no failed try"


def test_progress_of_the_installer_is_no_answer_yet(laptop: Laptop) -> None:
    answers: list[Message] = [{"progress": {"bytes_done": 1}}, {"result": {"name": "engineer"}}]
    laptop.plug_in(engineer=LocalWorker({"engineer": lambda _: iter(answers)}, laptop.terminal.time))
    assert "unlocked: engineer" in laptop.unlock()


def test_two_answers_at_once_then_a_hang_up_unlock_nothing(laptop: Laptop) -> None:
    first = laptop.sign(laptop.ask_json("unlock update")["challenge"])
    laptop.type(first + "\r")
    laptop.type("unlock update\r")
    laptop.type(f"{BEGIN}\rAAAA\r{END}\r")
    laptop.session.hang_up()
    laptop.terminal.settle()
    assert b"unlocked" not in laptop.screen and laptop.locked


def test_a_hang_up_while_the_answer_is_looked_at_unlocks_nothing(laptop: Laptop) -> None:
    laptop.type(laptop.sign(laptop.ask_json("unlock update")["challenge"]) + "\r")
    laptop.session.hang_up()
    laptop.terminal.settle()
    assert b"unlocked" not in laptop.screen and laptop.locked


def test_control_c_gives_up_a_half_pasted_answer_and_nothing_else(laptop: Laptop, desk: Desk) -> None:
    wait_in_ready(laptop, desk)
    laptop.unlock()
    laptop.type(f"{BEGIN}\rAAAA\r")
    assert laptop.type("\x03") == PROMPT.decode()
    assert laptop.terminal.state is State.READY
    assert laptop.ask_json("status")["state"] == "ready", "the line is shown and understood again"


# the end of a session


def test_a_session_ends_after_its_time_however_busy_it_is(plug: Plug) -> None:
    laptop = plug(actions_max=200)
    laptop.unlock()
    for _ in range(8):
        laptop.terminal.time.let_pass(100)
        laptop.ask("status")
    assert not laptop.locked
    laptop.terminal.time.let_pass(101)
    assert "locked: session over" in laptop.ask("status")
    assert laptop.locked


def test_a_session_ends_when_nobody_types(laptop: Laptop) -> None:
    laptop.unlock()
    unlocked_at = laptop.terminal.time.monotonic()
    laptop.terminal.run_until(lambda _: laptop.screen.endswith(b"locked: idle\r\n" + PROMPT))
    assert laptop.terminal.time.monotonic() - unlocked_at == pytest.approx(120)
    assert laptop.locked


def test_any_key_keeps_a_session_awake(laptop: Laptop) -> None:
    laptop.unlock()
    for _ in range(3):
        laptop.terminal.time.let_pass(119)
        laptop.type(" ")
        laptop.type("\x7f")
    assert not laptop.locked


def test_a_session_ends_after_its_number_of_commands(laptop: Laptop) -> None:
    laptop.unlock()
    for _ in range(20):
        assert laptop.ask("history") == "no update yet"
    assert laptop.code("history") == "not_allowed"
    assert laptop.locked and "terminal" in laptop.ask("status")


def test_looking_costs_no_command(laptop: Laptop) -> None:
    laptop.unlock()
    for _ in range(30):
        laptop.ask("status")
    assert not laptop.locked


def end_session(laptop: Laptop, how: str) -> None:
    """Every way a session can end."""
    match how:
        case "time":
            laptop.terminal.time.let_pass(1000)
            laptop.ask("status")
        case "idle":
            laptop.terminal.run_until(lambda _: laptop.screen.endswith(b"locked: idle\r\n" + PROMPT))
        case "number of commands":
            for _ in range(4):
                laptop.ask("history")
        case "logout":
            laptop.ask("logout")
        case "^D":
            laptop.type("\x04")
        case _:
            laptop.session.hang_up()


@pytest.mark.parametrize("end", ["time", "idle", "number of commands", "logout", "^D", "hang-up"])
def test_the_end_of_a_session_never_touches_the_update(plug: Plug, desk: Desk, end: str) -> None:
    laptop = plug(actions_max=3)
    laptop.unlock()
    update = wait_in_ready(laptop, desk)
    end_session(laptop, end)
    assert laptop.locked
    status = laptop.terminal.ask("status")
    assert (status["state"], status["update"]["id"]) == ("ready", update)
    charge(laptop)
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"


def test_a_hang_up_in_the_middle_of_a_line_leaves_nothing_behind(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.type("upda")
    laptop.session.hang_up()
    assert "terminal:" in laptop.ask("status")
    laptop.type(f"{BEGIN}\rAAAA")
    laptop.session.hang_up()
    assert "terminal:" in laptop.ask("status"), "not taken for the rest of an answer"


# cancelling


def test_cancel_during_the_install_is_refused_with_the_seconds(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock()
    laptop.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    laptop.terminal.run_until(lambda terminal: terminal.state is State.INSTALL)
    refused = laptop.ask_json("cancel")
    assert refused["code"] == "critical_section" and refused["expected_s"] > 0
    assert "about" in laptop.ask("cancel") and "posagent status" in laptop.ask("cancel")
    shown = laptop.type("\x03")
    assert "^C" in shown and "[critical_section]" in shown, "^C is no back door"
    assert laptop.terminal.state is State.INSTALL
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"


def test_control_c_asks_to_cancel_like_anybody(laptop: Laptop, desk: Desk) -> None:
    wait_in_ready(laptop, desk)
    assert "[not_allowed]" in laptop.type("\x03"), "locked: not from here"
    assert laptop.terminal.state is State.READY
    laptop.unlock("look")
    assert "[not_allowed]" in laptop.type("\x03")
    laptop.unlock()
    assert "cancelled" in laptop.type("\x03")
    assert laptop.terminal.run_to_idle()["outcome"] == "cancelled"
    assert "[nothing_to_cancel]" in laptop.type("\x03")


# following


def test_an_update_is_followed_until_the_terminal_restarts(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock()
    before = len(laptop.screen)
    laptop.type(f"update {desk.bundles['2.0.0']}\r")
    laptop.terminal.run_until(lambda terminal: terminal.state is State.SELFTEST)
    shown = laptop.screen[before:].decode()
    for state in ("download", "verify", "install", "activate"):
        assert f" {state}" in shown
    assert len(shown.splitlines()) < 20
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"


def test_a_followed_update_that_fails_says_why(laptop: Laptop, desk: Desk, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bundle"
    damaged.write_bytes(desk.bundles["2.0.0"].read_bytes()[:-20_000])
    laptop.unlock()
    laptop.type(f"update {damaged}\r")
    laptop.terminal.run_to_idle()
    last = " ".join(line.strip() for line in laptop.screen.decode().splitlines()[-4:-1])
    assert "failed" in last and "[bundle_unreadable]" in last
    assert laptop.screen.endswith(PROMPT)


@pytest.mark.parametrize("key", ["\r", "q\r", "\x03"], ids=["Enter", "a word", "^C"])
def test_a_key_stops_following_and_the_update_goes_on(laptop: Laptop, desk: Desk, key: str) -> None:
    laptop.unlock()
    set_power(laptop.terminal.layout, battery=20, mains=False)
    laptop.type(f"update {desk.bundles['2.0.0']}\r")
    laptop.terminal.run_until(lambda terminal: terminal.state is State.READY)
    assert "the update goes on" in laptop.type(key)
    before = len(laptop.screen)
    charge(laptop)
    laptop.terminal.run_until(lambda terminal: terminal.state is State.INSTALL)
    assert len(laptop.screen) == before, "nothing more is shown"
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"


def test_an_update_that_cannot_begin_is_not_followed(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock()
    assert laptop.code("update relative/path") == "bad_request"
    laptop.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert "[busy]" in laptop.ask(f"update {desk.bundles['3.0.0']}")


class LongDownload:
    """session.Api for an update of which the status changes four times a second."""

    def __init__(self, status: Message) -> None:
        self._status = status
        self.tell: Callable[[Message], None] = lambda _: None

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb == "update":
            reply({"result": {"id": "1", "version": "2.0.0"}})
        else:
            self.tell = reply
        return lambda: None

    def proceed(self, done: int, total: int) -> None:
        update = {**self._status["update"], "bytes_done": done, "bytes_total": total}
        self.tell({"progress": {**self._status, "state": "download", "update": update}})


@pytest.mark.parametrize("baud", [1200, 9600, 115200])
def test_a_long_download_takes_a_tenth_of_the_line_at_most(laptop: Laptop, desk: Desk, baud: int) -> None:
    """Ten minutes with four changes a second."""
    wait_in_ready(laptop, desk)
    api = LongDownload(laptop.terminal.ask("status"))
    laptop.plug_in(api, baud=baud)
    laptop.unlock()
    before, seconds = len(laptop.screen), 600
    laptop.type("update /x.bundle\r")
    for quarter in range(4 * seconds):
        laptop.terminal.time.let_pass(0.25)
        api.proceed(quarter << 16, 4 * seconds << 16)
    shown = laptop.screen[before:]
    assert len(shown) / seconds <= 0.11 * baud / 10
    assert shown.count(b"\r") > seconds / 10, "and it is seen to move"
    terminal = DumbTerminal()
    terminal.write(shown)
    assert len(terminal.lines) == 3, "in one line"
    assert "99 % 15" in terminal.line and "about" in terminal.line


def test_on_a_terminal_that_cannot_redraw_a_line_a_phase_is_shown(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock()
    before = len(laptop.screen)
    laptop.type(f"update {desk.bundles['2.0.0']} --plain\r")
    laptop.terminal.run_until(lambda terminal: terminal.state is State.SELFTEST)
    lines = laptop.screen[before:].decode().split("\r\n")
    assert not any("\r" in line for line in lines)
    states = [line.split()[1].rstrip(",") for line in lines if line.startswith(("? ", "2.0.0 "))]
    assert states == ["download", "verify", "ready", "install", "activate"]


# whatever arrives


VERBS = (b"status", b"why", b"help", b"check", b"history", b"update /x", b"cancel", b"logout", b"--json", b"'")
TOKENS = st.sampled_from([*VERBS, BEGIN.encode(), END.encode(), b"\r", b"\n", b"\r\n", b"\x03", b"\x04", b"\x7f"])
PIECES = st.one_of(st.binary(max_size=64), TOKENS)


@pytest.fixture(scope="module")
def waiting(desk: Desk, certificates: Mapping[str, Path]) -> Iterator[Laptop]:
    """A locked terminal whose update waits for the charger; shared by tests that change nothing."""
    with tempfile.TemporaryDirectory(prefix="pos-") as folder:
        terminal = InProcessTerminal(
            layout.create(Path(folder), image=desk.images["1.0.0"], keys_dir=desk.keys, settings=layout.Settings())
        )
        terminal.boot()
        laptop = Laptop(terminal, certificates)
        wait_in_ready(laptop, desk)
        yield laptop
        terminal.time.end()


def journal(laptop: Laptop) -> bytes:
    config = configuration.load(str(laptop.terminal.layout.config))
    return Path(config.journal_path).read_bytes()


@settings(max_examples=340)
@given(st.lists(PIECES, min_size=30, max_size=40))
def test_ten_thousand_random_strings_on_a_locked_line_change_nothing(waiting: Laptop, pieces: list[bytes]) -> None:
    before = waiting.terminal.situation, journal(waiting)
    waiting.screen = b""
    for piece in pieces:
        waiting.type(piece)
    waiting.session.hang_up()
    assert (waiting.terminal.situation, journal(waiting)) == before
    assert waiting.locked


@pytest.mark.parametrize(
    ("first", "piece", "count"),
    [
        (b"", b"x" * 4096, 128),
        (b"", b"\x00\xff\x1b\x00" * 1024, 128),
        (BEGIN.encode() + b"\r", b"A" * 63 + b"\r", 1024),
        (BEGIN.encode() + b"\r", b"\r" * 512, 32),
        (b"", b"\r" * 512, 32),
    ],
    ids=["one endless line", "garbage", "an endless answer", "an answer of empty lines", "empty lines"],
)
def test_a_flood_of_anything_costs_no_memory_and_the_line_still_answers(
    waiting: Laptop, first: bytes, piece: bytes, count: int
) -> None:
    waiting.type(first)
    tracemalloc.start()
    try:
        for _ in range(count):
            waiting.type(piece)
            waiting.screen = b""
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    waiting.session.hang_up()
    assert waiting.ask_json("status")["state"] == "ready"
