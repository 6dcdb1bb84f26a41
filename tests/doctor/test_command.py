"""`posagent doctor` as it is typed: what it prints, its exit codes, and the question before a test."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from posagent import cli
from tests.doctor.board import CHECKS, Bench

DONE, REFUSED, FAILED, INTERRUPTED = 0, 3, 4, 130


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value


Type = Callable[..., Said]


@pytest.fixture
def typed(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """Types the command; `answer` is what is typed when it asks."""
    endings = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}

    def run(*words: str, lang: str = "en", answer: str = "") -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code = cli.main(["--lang", lang, "doctor", "--config", str(bench.config), *words])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield run
    for number, handler in endings.items():
        signal.signal(number, handler)


def test_a_healthy_board_exits_with_0_and_shows_every_check(typed: Type) -> None:
    said = typed()
    lines = said.out.splitlines()
    assert (said.code, said.err) == (DONE, "")
    assert len(lines) == len(CHECKS) + 3 and lines[-1] == f"{len(CHECKS)} checks ok, 0 faults, 0 warnings, 2 skipped"
    assert "ok: The boot environment can be read and has two copies: kind uboot [boot.readable]" in lines


def test_a_warning_alone_is_no_failure(bench: Bench, typed: Type) -> None:
    del bench.board.groups["posagent-admin"]
    said = typed()
    assert said.code == DONE and "0 faults, 1 warnings" in said.out


def test_a_fault_exits_with_4_and_stands_last_with_its_remedy(bench: Bench, typed: Type) -> None:
    bench.write("cmdline", "posagent.slot=a posagent.reset=junk\n")
    said = typed()
    assert said.code == FAILED
    fault, remedy, total = said.out.splitlines()[-3:]
    assert fault.startswith("fault: A hang can be told") and fault.endswith("[boot.reset_word]")
    assert remedy.startswith("  next step: Let the boot script") and "1 faults" in total


def test_everything_is_said_in_chinese(bench: Bench, typed: Type) -> None:
    bench.write("cmdline", "posagent.slot=a posagent.reset=junk\n")
    said = typed(lang="zh")
    assert "故障: 可区分死机与断电" in said.out and "下一步: 请让启动脚本" in said.out
    assert all(not line.isascii() for line in said.out.splitlines())


def test_json_has_every_finding_with_its_remedy_in_both_languages(bench: Bench, typed: Type) -> None:
    bench.write("cmdline", "posagent.slot=a posagent.reset=junk\n")
    said = typed("--json")
    assert said.code == FAILED and len(said.out.splitlines()) == 1
    assert said.json.keys() == {"healthy", "counts", "findings"}
    assert said.json["healthy"] is False
    assert said.json["counts"] == {"ok": len(CHECKS) - 1, "skipped": 2, "warning": 0, "fault": 1}
    findings = {one["check"]: one for one in said.json["findings"]}
    assert findings.keys() == {"config.loads", "root", *CHECKS}
    for one in findings.values():
        assert one.keys() == {"check", "level", "detail", "title", "title_zh", "remedy", "remedy_zh"}
        assert all(isinstance(value, str) for value in one.values())
        assert one["level"] in ("ok", "skipped", "warning", "fault")


def test_a_configuration_that_is_missing_is_a_finding(bench: Bench, typed: Type) -> None:
    bench.config.unlink()
    said = typed("--json")
    assert said.code == FAILED and [one["check"] for one in said.json["findings"]] == ["config.loads"]


@pytest.mark.parametrize("answer", ["", "\n", "y\n", "no\n", "YES\n", "yes please\n"])
@pytest.mark.parametrize("test", ["--boot-test", "--watchdog-test"])
def test_without_a_typed_yes_no_test_is_begun(bench: Bench, typed: Type, test: str, answer: str) -> None:
    said = typed(test, answer=answer)
    assert (said.code, said.out) == (REFUSED, "") and "not confirmed [test_refused]" in said.err
    said = typed(test, "--json", answer=answer)
    assert (said.code, said.json["code"]) == (REFUSED, "test_refused")
    assert bench.board.events == [] and not (bench.installer / "doctor.json").exists()


def test_it_is_asked_in_the_readers_language_on_standard_error(typed: Type) -> None:
    assert "The terminal will restart" in typed("--boot-test").err
    assert "看门狗将直接复位终端" in typed("--watchdog-test", lang="zh").err


def test_a_confirmed_boot_test_restarts_the_terminal(bench: Bench, typed: Type) -> None:
    said = typed("--boot-test", "--json", answer="yes\n")
    assert (said.code, said.json) == (DONE, {"restarting": True})
    assert (bench.installer / "doctor.json").exists()


def test_a_test_is_refused_with_3_while_an_update_is_under_way(bench: Bench, typed: Type) -> None:
    assert bench.status is not None
    bench.status["state"] = "installing"
    for test in ("--boot-test", "--watchdog-test"):
        said = typed(test, "--json", answer="yes\n")
        assert (said.code, said.json["code"]) == (REFUSED, "test_refused")
        assert said.json["detail"] == "the agent's state is installing" and said.json["remedy_zh"]


def test_a_confirmed_watchdog_test_that_ends_is_a_fault(typed: Type) -> None:
    said = typed("--watchdog-test", answer="yes\n")
    assert said.code == FAILED and "a reset within 30 s" in said.err and "[watchdog.bites]" in said.out


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_hangs_up_during_the_watchdog_test_leaves_the_watchdog_petted(
    bench: Bench, typed: Type, ending: signal.Signals
) -> None:
    bench.board.interrupt_after, bench.board.interrupt = 2, ending
    assert typed("--watchdog-test", answer="yes\n").code == INTERRUPTED
    assert bench.board.events[-2:] == ["disarmed", "reloaded"]


def test_both_tests_at_once_are_a_mistake(typed: Type) -> None:
    with pytest.raises(SystemExit) as ended:
        typed("--boot-test", "--watchdog-test")
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "module", ["daemon", "cli", "installer.service", "fetcher.service", "selftest.service", "console.session"]
)
def test_no_program_of_the_terminal_loads_the_doctor_before_it_is_asked_for(module: str) -> None:
    script = f"import sys, posagent.{module}; print([one for one in sys.modules if one.startswith('posagent.doctor')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
