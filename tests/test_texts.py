"""Texts for people: both languages are whole, and every answer of the API can be shown."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent import texts, texts_inspection, texts_words
from posagent.core.energy import Supply
from posagent.core.errors import CATALOGUE, PosagentError
from posagent.core.manifest import REASONS
from posagent.core.model import OutcomeKind, State
from posagent.core.ports import ResetCause
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.conftest import Desk

LANGUAGES = ("en", "zh")
CHINESE = re.compile("[\u4e00-\u9fff]")
PACKAGE = Path(texts.__file__).parent


def is_text(line: str) -> bool:
    """Whole and printable: nothing left to fill in, no Python value shown by accident."""
    return line.isprintable() and not re.search(r"\{\}|None|True|False|\bdict\b", line)


# the table of words


@pytest.mark.parametrize(
    ("table", "name"),
    [(table, name) for table in (texts_words.WORDS, texts_inspection.WORDS) for name in table],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_word_has_both_languages(table: Mapping[str, tuple[str, str]], name: str) -> None:
    english, chinese = table[name]
    assert english and not CHINESE.search(english)
    units = english == chinese and not re.search("[a-z]{3}", english)
    assert CHINESE.search(chinese) or units
    assert english.count("{}") == chinese.count("{}"), "both are filled in with the same values"


def words_asked_for(table: str) -> Iterator[str]:
    """Names that stand in the code as `say("name", …)` or as a branch of it, of that module's table."""
    own = ("texts.py", "texts_inspection.py")  # the console's have a table of their own: tests/console/test_wording.py
    for module in (*own, "cli.py", "console/session.py", "console/screen.py"):
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(("say", "span")):
                continue
            where = ast.unparse(node.func).rpartition(".")[0] or module.removesuffix(".py")
            name = node.args[0]
            for part in (name.body, name.orelse) if isinstance(name, ast.IfExp) else (name,):
                if where == table and isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def test_every_word_that_is_asked_for_exists_and_none_is_idle() -> None:
    by_value = (
        {kind.value for kind in OutcomeKind}
        | {"running", "on_trial", "good", "bad", "writing", "complete"}
        | {"delta", "full", "parameters", "rollback", "go", "wait"}
        | {"started", "back_started"}
        | {"packed_large", "packed_small", "packed_metered"}
        | set(REASONS)
    )
    causes = {texts._CAUSES.get(cause.value, cause.value) for cause in ResetCause}
    assert set(words_asked_for("texts")) | by_value | causes == texts_words.WORDS.keys()
    supplies = {supply.value for supply in Supply} - {Supply.BATTERY.value}
    steps = {"link", "dns", "connect", "tls", "repository", "rate"}
    assert set(words_asked_for("texts_inspection")) | supplies | steps | {"rising", "falling"} == (
        texts_inspection.WORDS.keys()
    )


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [("zh_CN.UTF-8", "zh"), ("zh", "zh"), ("ZH_tw", "zh"), ("en_US.UTF-8", "en"), ("", "en"), ("C", "en")],
)
def test_the_language_follows_the_locale(setting: str, wanted: str) -> None:
    assert texts.language(setting) == wanted


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "0 s", "0 秒"),
        (-3, "0 s", "0 秒"),
        (12.4, "12 s", "12 秒"),
        (89, "89 s", "89 秒"),
        (90, "2 min", "2 分钟"),
        (5399, "90 min", "90 分钟"),
        (5400, "2 h", "2 小时"),
        (86400, "24 h", "24 小时"),
    ],
)
def test_durations(seconds: float, english: str, chinese: str) -> None:
    assert (texts.duration(seconds, "en"), texts.duration(seconds, "zh")) == (english, chinese)


# errors


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_error_is_shown_with_its_code_and_the_next_step(code: str) -> None:
    error = PosagentError(code).as_dict()
    for lang in LANGUAGES:
        what, then = texts.error_lines(error, lang)
        assert what.endswith(f"[{code}]") and is_text(what) and is_text(then)
    assert CHINESE.search(texts.error_lines(error, "zh")[1])


# answers of the API


def stages(terminal: InProcessTerminal, bundle: Path) -> Iterator[dict[str, Any]]:
    """The status after every step of an update to its end."""
    yield terminal.ask("status")
    terminal.ask("update", source=str(bundle))
    while terminal.state is not State.IDLE:
        yield terminal.ask("status")
        terminal.step()
    yield terminal.ask("status")


def shown(status: dict[str, Any], lang: str) -> list[str]:
    return [*texts.status_lines(status, lang), texts.state_line(status, lang), texts.progress_line(status, lang)]


def test_every_status_on_the_way_through_a_commit_and_a_rollback_is_shown(
    in_process: Callable[[], InProcessTerminal], desk: Desk
) -> None:
    seen: set[str] = set()
    for version in ("2.0.0", "3.0.0", "4.0.0"):
        terminal = in_process()
        for status in stages(terminal, desk.bundles[version]):
            seen.add(status["state"])
            for lang in LANGUAGES:
                lines = shown(status, lang)
                assert all(map(is_text, lines)), lines
                assert max(map(len, lines[:-2])) <= 120
            assert CHINESE.search("".join(texts.status_lines(status, "zh")))
        for lang in LANGUAGES:
            assert all(map(is_text, texts.history_lines(terminal.ask("history"), lang)))
            assert all(map(is_text, texts.why_lines(terminal.ask("why"), lang)))
    assert seen | {"ready"} == set(State)


def test_a_closed_gate_says_in_both_languages_what_to_do(
    in_process: Callable[[], InProcessTerminal], desk: Desk
) -> None:
    terminal = in_process()
    set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.READY)
    status, why = terminal.ask("status"), terminal.ask("why")
    assert "waiting for: battery 20 %, needs 30 % -> Put the terminal on its charger." in texts.status_lines(
        status, "en"
    )
    assert any("充电器" in line for line in texts.status_lines(status, "zh"))
    assert "  next step: Put the terminal on its charger." in texts.why_lines(why, "en")
    assert all(CHINESE.search(line) for line in texts.why_lines(why, "zh"))


def test_power_that_is_not_known_is_said_to_be_unknown() -> None:
    unknown = {"battery_percent": None, "charging": None, "mains": None}
    assert texts.power_line(unknown, "en") == "power: battery unknown"
    assert texts.power_line({**unknown, "mains": True}, "en") == "power: battery unknown, on charger"
    assert texts.power_line({**unknown, "battery_percent": 7, "mains": False}, "zh") == "电源: 电量 7 %, 未接充电器"


@pytest.mark.parametrize(
    "state", ["booted", "booted_trial", "good", "bad", "writing", "complete", "of a later release"]
)
def test_every_state_of_a_slot_is_shown(state: str) -> None:
    slot = {"state": state, "version": "", "tries_left": 0}
    for lang in LANGUAGES:
        assert is_text(texts.slot_line("b", slot, lang))
    assert "unknown version" in texts.slot_line("b", slot, "en")


def test_an_agent_that_does_not_know_its_slots_yet_is_shown_with_its_problem() -> None:
    status = {
        "terminal": "t",
        "state": "idle",
        "meaning": "no update under way",
        "meaning_zh": "无升级任务",
        "critical": False,
        "expected_s": None,
        "slots": {},
        "power": {"battery_percent": None, "mains": None},
        "update": None,
        "gates": [],
        "problems": [PosagentError("boot_env_missing").as_dict()],
        "last_outcome": None,
    }
    assert "problem: The boot environment cannot be read. [boot_env_missing]" in texts.status_lines(status, "en")
    assert texts.progress_line(status, "en") == texts.state_line(status, "en")


def test_the_progress_bar_grows_to_its_full_width_and_no_further() -> None:
    status = {"state": "download", "meaning": "", "critical": False}
    bars = []
    for done in (0, 50, 100, 150):
        update = {"version": "2.0.0", "bytes_done": done * 10_000, "bytes_total": 1_000_000}
        line = texts.progress_line({**status, "update": update}, "en")
        bars.append(re.findall(r"\[(#*)(\.*)\]", line)[0])
    assert [(len(full), len(empty)) for full, empty in bars] == [(0, 24), (12, 12), (24, 0), (24, 0)]


def test_nothing_to_tell_is_told() -> None:
    assert texts.history_lines({"history": []}, "zh") == ["尚无升级记录"]
    assert texts.why_lines({"state": "idle", "why": []}, "en") == ["nothing stands in the way"]
    assert texts.check_lines({"offer": None, "booted_version": "1.0.0", "gates": []}, "en") == [
        "nothing newer than 1.0.0 is offered"
    ]
    offer = {"version": "2.0.0", "length": 12_345_678, "staged": True, "reason": "", "contents": []}
    answer = {"offer": offer, "gates": [], "bytes": 1_200_000, "estimate": None, "verdict": "go"}
    assert texts.check_lines(answer, "zh") == [
        "可升级版本：2.0.0（12.3 MB）",
        "需下载：1.20 MB",
        "先完整下载，再安装",
        "可以开始",
    ]
    said = texts.check_lines({**answer, "offer": {**offer, "staged": False}}, "en")
    assert said[2].startswith("there is no room for all of it")
