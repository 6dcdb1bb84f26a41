"""The line as a person uses it: languages, pages, keys, and a screen for every verb. On a terminal that is dumb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.console.display import MORE, Display
from posagent.console.grammar import PROMPT
from posagent.console.screen import _ANSWERS, answer_lines
from posagent.console.verbs import VERBS
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from tests.console.dumb import DumbTerminal
from tests.console.laptop import Laptop
from tests.test_texts import CHINESE

UP = "\x1b[A"


@pytest.fixture
def laptop(in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path]) -> Laptop:
    return Laptop(in_process(), certificates)


def on_screen(laptop: Laptop) -> DumbTerminal:
    """What the engineer sees now."""
    terminal = DumbTerminal()
    terminal.write(laptop.screen)
    assert terminal.strange == b"", "nothing but plain characters was sent"
    return terminal


# keys


def test_a_mistyped_command_is_brought_back_and_mended(laptop: Laptop) -> None:
    assert "[unknown_verb]" in laptop.ask("satus")
    assert "terminal: t" in laptop.type(UP + "\x01\x06t\r")
    assert "posagent> status" in on_screen(laptop).lines


def test_whoever_comes_next_does_not_find_what_was_typed(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.ask("update /secret/path --jsonx")
    for end in (lambda: laptop.ask("logout"), laptop.session.hang_up):
        end()
        before = len(laptop.screen)
        laptop.type(UP)
        assert b"secret" not in laptop.screen[before:]


def test_tab_knows_the_role(laptop: Laptop) -> None:
    assert laptop.type("hist\t\x15") == "hist" + "\b\b\b\b    \b\b\b\b", "locked"
    laptop.unlock("look")
    assert "history " in laptop.type("hist\t\x15")
    assert "update" not in laptop.type("upd\t\x15")


def test_an_answer_that_comes_late_leaves_what_is_being_typed(laptop: Laptop) -> None:
    slow = Canned({"check": []})
    laptop.plug_in(slow)
    laptop.unlock()
    laptop.type("check\r")
    laptop.type("stat")
    slow.reply({"result": {"offer": None, "booted_version": "1.0.0", "gates": []}})
    assert on_screen(laptop).lines[-3:] == ["stat", "nothing newer than 1.0.0 is offered", "posagent> stat"]
    laptop.type("us\r")
    assert slow.asked[-1][0] == "status"


@pytest.mark.parametrize(("keys", "line"), [("stat", "posagent> stat"), ("\r", "posagent>"), ("\x03", "posagent>")])
def test_a_key_that_ends_the_progress_is_the_first_of_a_command(laptop: Laptop, keys: str, line: str) -> None:
    laptop.plug_in(Canned({"update": [{"result": {"id": "1", "version": "2.0.0"}}]}))
    laptop.unlock()
    laptop.type("update\r")
    laptop.type(keys)
    lines = on_screen(laptop).lines
    assert "the update goes on; see: status" in lines and lines[-1] == line
    assert lines[-2] in ("the update goes on; see: status", "posagent>")


# languages


def test_why_somebody_may_not_is_said_in_chinese(laptop: Laptop) -> None:
    laptop.ask("lang zh")
    assert "未解锁" in laptop.ask("check")
    assert "角色为 look、update" in laptop.ask("unlock nobody")
    assert "证书不含角色 rollback" in laptop.unlock("rollback", who="update")
    assert "尝试过多；请等待" in laptop.ask("unlock update")
    laptop.terminal.time.let_pass(10)
    assert "已解锁：Li Wei，角色 update，15 分钟" in laptop.unlock()
    assert "角色 update 无权执行 rollback" in laptop.ask("rollback")
    shown = laptop.ask("allow sha256:" + "5a" * 32)
    assert "待签名：allow" in shown


def test_the_line_speaks_chinese_until_it_is_hung_up(laptop: Laptop) -> None:
    assert laptop.ask("lang zh") == "本串口现使用中文"
    assert "终端：" in laptop.ask("status").replace(": ", "：")
    assert CHINESE.search(laptop.ask("help")) and CHINESE.search(laptop.ask("nonsense"))
    assert "已解锁" in laptop.unlock()
    assert laptop.ask("logout") == "已锁定：已退出"
    laptop.session.hang_up()
    assert "terminal:" in laptop.ask("status")


def test_a_language_that_is_not_there_is_refused(laptop: Laptop) -> None:
    assert laptop.code("lang fr") == "bad_request"
    assert laptop.ask_json("lang") == {"lang": "en"}


# pages


def history(laptop: Laptop, count: int) -> Canned:
    one = {"version": "2.0.0", "outcome": "committed", "code": "ok", "detail": "", "at": 0}
    api = Canned({"history": [{"result": {"history": [one] * count}}]})
    laptop.plug_in(api)
    laptop.unlock()
    return api


def test_a_long_answer_waits_for_keys_and_what_is_typed_after_it_is_a_command_again(laptop: Laptop) -> None:
    history(laptop, 60)
    laptop.type("history\r")
    assert laptop.screen.endswith(MORE.encode())
    laptop.type("status")
    assert laptop.screen.endswith(MORE.encode()), "these are no keys of a page"
    laptop.type(" ")
    assert laptop.type("q").endswith(PROMPT.decode())
    assert "[not_allowed]" not in laptop.ask("help history")


def test_json_is_never_paged(laptop: Laptop) -> None:
    history(laptop, 60)
    assert len(laptop.ask_json("history")["history"]) == 60


@pytest.mark.parametrize("end", ["hang-up", "idle"])
def test_a_page_that_waits_ends_with_the_session(laptop: Laptop, end: str) -> None:
    history(laptop, 60)
    laptop.type("history\r")
    if end == "hang-up":
        laptop.session.hang_up()
    else:
        laptop.terminal.run_until(lambda _: b"locked: idle" in laptop.screen)
    before = len(laptop.screen)
    laptop.type(" \r")
    assert b"committed" not in laptop.screen[before:]
    assert "terminal:" not in laptop.ask("history") and laptop.locked


def test_the_agent_goes_on_while_a_page_waits(laptop: Laptop) -> None:
    laptop.ask("lang en")
    laptop.unlock()
    laptop.type("help\r" * 9)
    assert laptop.terminal.ask("status")["state"] == "idle"


# a screen for every verb

SPAN = {"p50": 100.0, "p90": 200.0}
BACK = {"possible": True, "slot": "b", "version": "1.0.0", "estimate": {"total": SPAN, "outage": SPAN}}
NO_WAY_BACK = {
    "possible": False,
    "slot": "b",
    "version": "0.9.0",
    "refusal": "rollback_floor",
    "detail": "below the floor",
    "remedy": "Install a newer release.",
    "remedy_zh": "请安装更新的版本。",
}
SLOT = {"version": "1.0.0", "digest": "ab" * 32, "counter": 3, "tries_left": 3, "unconfirmed": False}
SLOTS = {
    "booted": "a",
    "order": ["a", "b"],
    "floor": 2,
    "slots": {"a": {**SLOT, "state": "good"}, "b": {**SLOT, "state": "bad", "version": ""}},
}
POWER = {
    "battery": {
        "present": True,
        "percent": 80,
        "believed_percent": 60,
        "health_percent": 90,
        "temperature_c": 21.0,
    },
    "charger": {"supply": "battery"},
    "trend": {"direction": "falling", "percent_per_h": -12.0},
    "needs": {"percent": 30, "seconds": 400.0, "energy_wh": 1.0},
    "gate": {"open": True, "reason": "", "remedy": ""},
    "charge_min": None,
}
STEP = {"step": "dns", "ok": True, "ms": 12, "detail": "updates.example: 192.0.2.1"}
FAULT = {
    "step": "connect",
    "ok": False,
    "ms": None,
    "code": "net_connect",
    "detail": "no answer",
    "remedy": "Check the cable.",
    "remedy_zh": "请检查网线。",
}
CHECK = {"name": "payment", "passed": False, "detail": "Connection refused"}
SCREENS: Mapping[str, tuple[list[Message], str, str]] = {
    "slots": ([{"result": {**SLOTS, "rollback": BACK}}], "can go back to 1.0.0 (slot b)", "可恢复至 1.0.0"),
    "slots ": ([{"result": {**SLOTS, "rollback": NO_WAY_BACK}}], "cannot go back: below", "不能恢复"),
    "power": ([{"result": POWER}], "shows 80 %, but can only have 60 %, falling 12 %", "实际约 60 %"),
    "network": (
        [{"progress": STEP}, {"progress": FAULT}, {"result": {"ok": False, "steps": [STEP, FAULT]}}],
        "next step: Check the cable.",
        "请检查网线。",
    ),
    "selftest": (
        [
            {"progress": {"check": "payment", "passed": False, "done": 1, "total": 1}},
            {"result": {"passed": False, "checks": [CHECK]}},
        ],
        "1 of 1 self-tests failed",
        "1 项自检未通过",
    ),
    "log 5": (
        [{"result": {"lines": [{"at": 0.0, "level": "warning", "event": "stop_waits", "code": "critical_section"}]}}],
        "1970-01-01 00:00:00 warning stop_waits code=critical_section",
        "code=critical_section",
    ),
    "version": (
        [{"result": {"version": "0.1.0", "running": "2.0.0", "terminal": "t"}}],
        "running version 2.0.0",
        "2.0.0",
    ),
    "support": (
        [
            {
                "result": {
                    "path": "/var/lib/posagent/s.bin",
                    "size": 1234,
                    "code": "A1B2-C3D4",
                    "sha256": "ab" * 32,
                    "redacted": 2,
                }
            }
        ],
        "support code A1B2-C3D4",
        "服务代码 A1B2-C3D4",
    ),
}


class Canned:
    """question.Api that answers a verb as it is told to; other verbs never."""

    def __init__(self, answers: Mapping[str, list[Message]]) -> None:
        self._answers = answers
        self.reply: Callable[[Message], None] = lambda _: None
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        self.asked.append((verb, args))
        self.reply = reply
        for message in self._answers.get(verb, []):
            reply(message)
        return lambda: None


def all_roles(laptop: Laptop) -> None:
    """As if somebody in a role that may do anything had unlocked."""
    laptop.access.permit = lambda verb: None  # type: ignore[method-assign]
    laptop.access.signed = lambda action: True  # type: ignore[method-assign]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("line", SCREENS)
def test_a_verb_has_a_screen_in_both_languages(laptop: Laptop, line: str, lang: str) -> None:
    answers, english, chinese = SCREENS[line]
    api = Canned({line.split()[0]: answers})
    laptop.plug_in(api)
    all_roles(laptop)
    laptop.ask(f"lang {lang}")
    shown = laptop.ask(line)
    assert (english if lang == "en" else chinese) in shown
    assert on_screen(laptop).line == "posagent>"
    assert api.asked[-1][0] == line.split()[0]


@pytest.mark.parametrize("line", SCREENS)
def test_its_json_is_one_line_without_the_progress(laptop: Laptop, line: str) -> None:
    answers, _, _ = SCREENS[line]
    laptop.plug_in(Canned({line.split()[0]: answers}))
    all_roles(laptop)
    assert laptop.ask_json(line) == answers[-1]["result"]


def test_a_rollback_is_followed_like_an_update(laptop: Laptop) -> None:
    slots = {"rollback": {"possible": True, "slot": "b", "version": "1.0.0"}}
    api = Canned({"slots": [{"result": slots}], "rollback": [{"result": {"id": "1", "version": "1.0.0"}}]})
    laptop.plug_in(api)
    all_roles(laptop)
    laptop.type("rollback\r")
    assert api.asked[-1] == ("follow", {"id": "1"})


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_an_answer_holds_cannot_write_on_the_screen_as_it_likes(version: str, detail: str) -> None:
    """Versions come from bundles, details from servers."""
    terminal = DumbTerminal()
    outcome = {"version": version, "outcome": "failed", "code": "fetch_status", "detail": detail, "at": 0}
    Display(terminal.write).text(answer_lines("history", {"history": [outcome]}, "en"))
    assert terminal.strange == b""


def test_every_verb_that_the_agent_answers_has_a_screen() -> None:
    own = {"help", "lang", "unlock", "logout", "machine", "upload"}
    followed = {"update", "rollback"}
    assert set(VERBS) - own - followed == set(_ANSWERS)
