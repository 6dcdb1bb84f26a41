"""The command `posagent` against a running terminal: what it prints, in which language, and how it exits."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import posagent
from posagent.cli import main
from posagent.core.errors import PosagentError
from posagent.evidence_texts import columns
from posagent.release import bundle
from posagent.sim.lab import Lab, SimulatedTerminal
from posagent.sim.layout import set_power
from tests.catm import breaches

pytestmark = pytest.mark.real

CHINESE = re.compile("[\u4e00-\u9fff]")
STAGE_S = 30.0
DONE, USAGE, REFUSED, FAILED, UNREACHABLE, INTERRUPTED = 0, 2, 3, 4, 5, 130


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one line of JSON on standard output."""
        (line,) = self.out.splitlines()
        value: dict[str, Any] = json.loads(line)
        return value


class Shell:
    """Where somebody types `posagent …` at one terminal."""

    def __init__(self, terminal: SimulatedTerminal, capsys: pytest.CaptureFixture[str]) -> None:
        self.terminal = terminal
        self._capsys = capsys

    def run(self, *words: str, lang: str = "en") -> Answer:
        """In this process, which is quicker."""
        self._capsys.readouterr()
        try:
            code = main(["--socket", str(self.terminal.layout.api), "--lang", lang, *words])
        except SystemExit as error:
            code = int(error.code or 0)
        shown = self._capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    def start(self, *words: str, api: Path | None = None) -> subprocess.Popen[str]:
        """In a process of its own, to be interrupted."""
        return subprocess.Popen(
            [sys.executable, "-m", "posagent.cli", "--socket", str(api or self.terminal.layout.api), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LANG": "C.UTF-8", "LC_ALL": ""},
        )

    def wait_ready(self, source: Path) -> str:
        """An update under way that waits for the charger; its id."""
        set_power(self.terminal.layout, battery=20, mains=False)
        update: str = self.run("update", "--json", str(source)).json["id"]
        self.terminal.wait(lambda status: status["state"] == "ready", STAGE_S)
        return update


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        made = Lab(Path(folder))
        yield made
        made.close()


@pytest.fixture(scope="module")
def running(lab: Lab) -> SimulatedTerminal:
    """One terminal for all tests; its self-test gives up sooner than usual."""
    made = lab.terminal("pos-0001")
    config = made.layout.config
    config.write_text(config.read_text().replace("retry_for_s = 5", "retry_for_s = 3"))
    return made


@pytest.fixture
def waiting(lab: Lab, image: Path) -> Path:
    """A good bundle, newer than all before, that is not going to be installed."""
    return lab.bundle("2.2.0", image)


@pytest.fixture(scope="module")
def image(lab: Lab) -> Path:
    return lab.image("2.2.0")


@pytest.fixture
def shell(running: SimulatedTerminal, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """A shell at an idle, charged terminal; whatever a test leaves behind is cancelled."""
    yield Shell(running, capsys)
    try:
        running.ask("cancel")
    except PosagentError:
        pass  # there was nothing to cancel
    set_power(running.layout, battery=80, mains=True)
    running.wait(lambda status: status["state"] == "idle" and status["booted"] is not None, STAGE_S)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Read what the process prints up to the line with the word."""
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if word in line:
            return shown
    raise AssertionError(f"{word!r} was never printed: {shown}")


# support


def test_a_support_bundle_is_made_and_copied_and_its_code_is_told(shell: Shell, tmp_path: Path, lab: Lab) -> None:
    out = tmp_path / "report"
    config = str(shell.terminal.layout.config)
    text = shell.run("support", "--out", str(out), "--config", config)
    kept = max((shell.terminal.layout.state / "support").iterdir())
    assert (text.code, text.err) == (DONE, "") and out.read_bytes() == kept.read_bytes()
    code = re.search(r"support code (\w{4}-\w{4})\n", text.out)
    assert code is not None and code[1] in kept.name and str(out) in text.out
    answer = shell.run("support", "--json", "--config", config).json
    assert set(answer) == {"path", "size", "code", "sha256", "redacted"}
    assert CHINESE.search(shell.run("support", "--config", config, lang="zh").out)


def test_a_support_bundle_that_cannot_be_written_exits_with_4(shell: Shell, tmp_path: Path) -> None:
    answer = shell.run("support", "--json", "--out", str(tmp_path / "none/report"))
    assert (answer.code, answer.json["code"]) == (FAILED, "support_failed")


# looking


def test_status_says_what_runs_and_what_the_power_does(shell: Shell) -> None:
    text, answer = shell.run("status"), shell.run("status", "--json")
    assert (text.code, text.err, answer.code, answer.err) == (DONE, "", DONE, "")
    assert text.out.startswith("terminal: pos-0001\nstate: idle - no update under way\n")
    assert "power: battery 80 %, on charger" in text.out and "slot a: 1.0.0" in text.out
    assert answer.json["terminal"] == "pos-0001" and set(answer.json["slots"]) == {"a", "b"}


@pytest.mark.parametrize("verb", ["status", "why", "history"])
def test_looking_works_in_chinese(shell: Shell, verb: str) -> None:
    answer = shell.run(verb, lang="zh")
    assert answer.code == DONE and CHINESE.search(answer.out)


def test_the_language_comes_from_the_locale(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    for locale, chinese in (("zh_CN.UTF-8", True), ("en_US.UTF-8", False)):
        monkeypatch.setenv("LANG", locale)
        assert main(["--socket", str(shell.terminal.layout.api), "status"]) == DONE
        assert bool(CHINESE.search(capsys.readouterr().out)) == chinese


def test_version(shell: Shell) -> None:
    assert shell.run("version").out == f"{posagent.__version__}\n"
    assert shell.run("version", "--json").json == {"version": posagent.__version__}


def test_watch_shows_changes_until_it_is_interrupted(shell: Shell, waiting: Path) -> None:
    watch = shell.start("watch")
    read_until(watch, "idle")
    shell.wait_ready(waiting)
    assert "verify" in read_until(watch, "ready")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(STAGE_S) == DONE


# configuration


def test_config_checks_a_file_without_starting_anything(shell: Shell) -> None:
    path = str(shell.terminal.layout.config)
    assert shell.run("config", path) == Answer(DONE, f"{path} is valid\n", "")
    assert shell.run("config", path, "--json").json == {"terminal": "pos-0001", "valid": True}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "config_unreadable"),
        ("[terminal\n", "config_unreadable"),
        ('[terminal]\nid = "x"\nspeed = 1\n', "config_unknown_key"),
        ("", "config_missing_key"),
    ],
)
def test_a_bad_configuration_is_an_error_of_usage(shell: Shell, tmp_path: Path, content: str | None, code: str) -> None:
    path = tmp_path / "posagent.toml"
    if content is not None:
        path.write_text(content)
    answer = shell.run("config", str(path), "--json")
    assert (answer.code, answer.json["code"]) == (USAGE, code) and answer.json["remedy"]
    text = shell.run("config", str(path))
    assert (text.code, text.out) == (USAGE, "") and f"[{code}]" in text.err


# mistakes


@pytest.mark.parametrize(
    "words", [(), ("reboot",), ("status", "now"), ("history", "--count", "many"), ("--lang", "fr")]
)
def test_words_that_are_not_understood_exit_with_2(shell: Shell, words: tuple[str, ...]) -> None:
    answer = shell.run(*words)
    assert answer.code == USAGE and "usage: posagent" in answer.err and answer.out == ""


@pytest.mark.parametrize("words", [("history", "--count", "0"), ("update", "ftp://x/y")])
def test_a_request_the_agent_does_not_understand_exits_with_2_and_says_why(
    shell: Shell, words: tuple[str, ...]
) -> None:
    answer = shell.run(*words, "--json")
    assert (answer.code, answer.json["code"]) == (USAGE, "bad_request") and answer.json["remedy"]


@pytest.mark.parametrize(
    "verb",
    ["status", "check", "update", "cancel", "history", "why", "watch", "slots", "rollback", "selftest", "network"],
)
def test_an_agent_that_does_not_run_exits_with_5(verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nowhere = ["--socket", str(tmp_path / "none.sock"), "--lang", "en"]
    assert main([*nowhere, verb]) == UNREACHABLE
    shown = capsys.readouterr()
    assert shown.out == "" and "next step: Check that posagentd runs" in shown.err
    assert main([*nowhere, verb, "--json"]) == UNREACHABLE
    assert json.loads(capsys.readouterr().out)["code"] == "agent_unreachable"
    assert main(["--socket", nowhere[1], "--lang", "zh", verb]) == UNREACHABLE
    assert CHINESE.search(capsys.readouterr().err)


def test_an_interrupted_question_ends_without_a_traceback(shell: Shell, short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "mute.sock"))
        listener.listen()
        asking = shell.start("status", api=short_path / "mute.sock")
        connection, _ = listener.accept()
        with connection:
            assert b"status" in connection.recv(1000)
            asking.send_signal(signal.SIGINT)
            _, err = asking.communicate(timeout=STAGE_S)
    assert (asking.returncode, err) == (INTERRUPTED, "")


@pytest.mark.parametrize("words", [("watch", "--json"), ("watch",), ("status",)])
def test_a_closed_pipe_ends_the_command_quietly(shell: Shell, waiting: Path, words: tuple[str, ...]) -> None:
    process = shell.start(*words)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    shell.wait_ready(waiting)
    assert process.wait(STAGE_S) == FAILED
    assert process.stderr.read() == ""


def test_following_into_a_closed_pipe_ends_and_leaves_the_update_going(shell: Shell, waiting: Path) -> None:
    set_power(shell.terminal.layout, battery=20, mains=False)
    process = shell.start("update", "--follow", "--json", str(waiting))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(STAGE_S) == FAILED
    assert process.stderr.read() == ""
    shell.terminal.wait(lambda status: status["state"] == "ready", STAGE_S)


# updates


def test_the_way_from_an_offer_to_a_committed_update(lab: Lab, shell: Shell) -> None:
    lab.publish("2.0.0")
    offered = shell.run("check")
    assert offered.code == DONE and offered.out.startswith("offered: version 2.0.0 (")
    assert shell.run("check", "--json").json["offer"]["version"] == "2.0.0"
    assert "可升级版本：2.0.0" in shell.run("check", lang="zh").out

    followed = shell.run("update", "--follow")
    assert followed.code == DONE
    assert re.search(r"^2\.0\.0 committed \d{4}-\d\d-\d\d \d\d:\d\d UTC$", followed.out.splitlines()[-1])
    assert len(followed.out.splitlines()) < 30, "a line a state where nobody watches"
    assert shell.run("status", "--json").json["booted"] == "b"

    assert shell.run("check").out == "nothing newer than 2.0.0 is offered\n"
    nothing = shell.run("update", "--json")
    assert (nothing.code, nothing.json["code"]) == (REFUSED, "no_update")
    assert shell.run("history", "--json").json["history"][-1]["outcome"] == "committed"
    assert shell.run("why").out == "nothing stands in the way\n"


def test_what_is_on_record_of_an_update(lab: Lab, shell: Shell, tmp_path: Path) -> None:
    assert shell.run("update", "--follow", str(lab.bundle("2.0.5"))).code == DONE
    *before, line = shell.run("evidence").out.splitlines()
    assert re.search(r"UTC pos-0001 [0-9a-f]{12} \S+ -> 2\.0\.5 committed SUCC ok .* install=\d", line)
    record = shell.run("evidence", "--json").json["records"][-1]
    assert shell.run("evidence", "show", record["id"], "--json").json["records"] == [record]
    assert f"digest of image: {record['digests']['image']}\n" in shell.run("evidence", "show", record["id"]).out
    ticket = shell.run("ticket", "--width", "24", lang="zh").out.splitlines()
    assert ticket[0].strip() == "软件升级凭证" and max(map(columns, ticket)) <= 24
    assert shell.run("ticket", record["id"], "--json").json["records"] == [record]
    unknown = shell.run("ticket", "nobody")
    assert unknown.code == USAGE and "no update nobody is remembered" in unknown.err

    file = tmp_path / "report.xml"
    exported = shell.run("evidence", "export", "--manager", "tms.example", "--out", str(file))
    assert exported.out == f"{len(before) + 1} updates written to {file}\n" and breaches(file.read_bytes()) == []
    assert b"<Rslt>SUCC</Rslt>" in file.read_bytes()
    assert breaches(shell.run("evidence", "export", "--manager", "tms.example").out.encode()) == []
    assert shell.run("evidence", "export").code == USAGE, "it is for somebody"
    nowhere = shell.run("evidence", "export", "--manager", "x", "--out", "/nowhere/report.xml", "--json")
    assert (nowhere.code, nowhere.json["code"]) == (FAILED, "evidence_io")


def test_an_update_is_followed_in_json_line_by_line(lab: Lab, shell: Shell) -> None:
    followed = shell.run("update", "--follow", "--json", str(lab.bundle("2.1.0")))
    *progress, last = map(json.loads, followed.out.splitlines())
    assert followed.code == DONE and progress
    assert last["outcome"]["outcome"] == "committed"
    assert all(status["update"]["id"] == last["id"] for status in progress)


def test_what_waits_can_be_cancelled_and_only_once(lab: Lab, shell: Shell, image: Path) -> None:
    set_power(shell.terminal.layout, battery=20, mains=False)
    lab.publish("2.2.0", image)
    started = shell.run("update")
    assert started.code == DONE and "has begun" in started.out
    shell.terminal.wait(lambda status: status["state"] == "ready", STAGE_S)
    assert "next step: Put the terminal on its charger." in shell.run("why").out
    assert shell.run("why", "--json").json["why"][0]["code"] == "gate_closed"
    again = shell.run("update", "--json")
    assert (again.code, again.json["code"]) == (REFUSED, "same_bundle")
    assert shell.run("cancel", "--json") == Answer(DONE, '{"cancelled": true}\n', "")
    for lang in ("en", "zh"):
        refused = shell.run("cancel", lang=lang)
        assert (refused.code, refused.out) == (REFUSED, "") and "[nothing_to_cancel]" in refused.err
        assert bool(CHINESE.search(refused.err)) == (lang == "zh")
    assert "cancelled" in shell.run("history").out.splitlines()[-1]


def test_an_interrupt_while_following_leaves_the_update_going(shell: Shell, waiting: Path) -> None:
    set_power(shell.terminal.layout, battery=20, mains=False)
    following = shell.start("update", "--follow", str(waiting))
    read_until(following, "ready")
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=STAGE_S)
    assert following.returncode == DONE and "the update goes on" in err and "Traceback" not in err
    assert shell.run("status", "--json").json["state"] == "ready"


def test_who_follows_an_update_whose_place_another_takes_is_told_and_exits_with_4(shell: Shell, waiting: Path) -> None:
    set_power(shell.terminal.layout, battery=20, mains=False)
    following = shell.start("update", "--follow", str(waiting))
    read_until(following, "ready")
    assert shell.run("update", str(waiting)).code == DONE
    out, _ = following.communicate(timeout=STAGE_S)
    assert following.returncode == FAILED and "superseded" in out


def test_who_follows_an_update_that_somebody_cancels_is_told_and_exits_with_4(shell: Shell, waiting: Path) -> None:
    set_power(shell.terminal.layout, battery=20, mains=False)
    following = shell.start("update", "--follow", str(waiting))
    read_until(following, "ready")
    assert shell.run("cancel").code == DONE
    out, _ = following.communicate(timeout=STAGE_S)
    assert following.returncode == FAILED and "[cancelled]" in out


def test_cancel_in_the_critical_section_is_refused_with_the_seconds(lab: Lab, shell: Shell) -> None:
    """A version whose payment program does not start: its self-test takes some seconds before it gives up."""
    broken = lab.bundle("3.0.0", lab.image("3.0.0", broken="no parameters"))
    following = shell.start("update", "--follow", str(broken))
    shell.terminal.wait(lambda status: status["state"] == "selftest", STAGE_S)
    refused = shell.run("cancel", "--json")
    assert (refused.code, refused.json["code"]) == (REFUSED, "critical_section")
    assert refused.json["expected_s"] > 0 and refused.json["remedy"] and refused.json["state"] == "selftest"
    text, chinese = shell.run("cancel"), shell.run("cancel", lang="zh")
    assert re.search(r"about \d+ s to go \[critical_section\]", text.err)
    assert text.code == chinese.code == REFUSED and "约剩" in chinese.err
    other = shell.run("update", "--json", "/tmp/other.bundle")
    assert (other.code, other.json["code"]) == (REFUSED, "busy")
    assert "must not be interrupted" in shell.run("status").out

    out, _ = following.communicate(timeout=STAGE_S)
    assert following.returncode == FAILED
    assert "rolled back" in out and "[selftest_failed]" in out.splitlines()[-1]
    assert "[selftest_failed]" in shell.run("why").out
    assert "已回退" in shell.run("history", lang="zh").out


def test_a_bundle_for_other_hardware_exits_with_4_and_stays_in_the_history(lab: Lab, shell: Shell) -> None:
    other = bundle.build(
        lab.image("3.1.0"),
        version="3.1.0",
        compatible=["other-pos"],
        keys_dir=lab.keys,
        out=lab.base / "other.bundle",
    )
    followed = shell.run("update", "--follow", str(other))
    assert followed.code == FAILED and "[wrong_hardware]" in followed.out
    last = shell.run("history", "--count", "1", "--json").json["history"]
    assert [(one["outcome"], one["code"]) for one in last] == [("failed", "wrong_hardware")]
    assert "Get the bundle for this model" in shell.run("why").out


# looking closer, and going back


def test_an_engineer_goes_back_and_the_payments_still_work(lab: Lab, shell: Shell) -> None:
    refused = shell.run("rollback", "--json")
    assert (refused.code, refused.json["code"]) == (REFUSED, "rollback_no_version")
    assert "分区" in shell.run("rollback", lang="zh").err
    assert shell.run("update", "--follow", str(lab.bundle("2.3.0"))).code == DONE
    before = shell.run("status", "--json").json
    slots = shell.run("slots")
    assert slots.code == DONE and "can go back to" in slots.out and "可恢复至" in shell.run("slots", lang="zh").out
    version = shell.run("slots", "--json").json["rollback"]["version"]
    followed = shell.run("rollback", "--follow")
    assert followed.code == DONE, followed.out
    assert followed.out.splitlines()[-1].startswith(f"going back to {version}: committed")
    after = shell.run("status", "--json").json
    assert (after["booted"], before["booted"]) in (("a", "b"), ("b", "a"))
    assert (after["last_outcome"]["kind"], after["slots"][before["booted"]]["state"]) == ("rollback", "good")
    tests = shell.run("selftest")
    assert tests.code == DONE and tests.out.splitlines()[0] == "1/15 payment program answers: passed"
    assert tests.out.splitlines()[-1] == "all 15 self-tests passed"


def test_a_self_test_that_fails_exits_with_4_and_says_which(shell: Shell) -> None:
    pid = int(shell.terminal.control("state")["pids"]["payment"])
    os.kill(pid, signal.SIGKILL)
    shell.terminal.wait_event(lambda _: not Path(f"/proc/{pid}").exists(), 30)
    answer, text = shell.run("selftest", "tcp", "--json"), shell.run("selftest")
    assert (answer.code, answer.json["passed"]) == (FAILED, False) and len(answer.json["checks"]) == 1
    assert text.code == FAILED and "1/15 payment program answers: FAILED" in text.out
    assert "FAILED: payment program answers [functional]: connection: none (limit made)" in text.out
    assert text.out.splitlines()[-1] == "5 of 15 self-tests failed", "whatever asks the payment program"
    chinese = shell.run("selftest", "performance", lang="zh").out
    assert "未通过: speed of payments [性能]: 模拟交易 p95 时间（毫秒）（限值 5000）" in chinese
    other = shell.run("selftest", "usb", "--json")
    assert (other.code, other.json["code"]) == (USAGE, "bad_request")
    assert "functional" in other.json["detail"] and "serial, slot" in other.json["detail"]


def test_power_network_and_log_are_told_in_both_languages(lab: Lab, shell: Shell) -> None:
    assert (
        "that is enough for an update" in shell.run("power").out and "电量足够升级" in shell.run("power", lang="zh").out
    )
    assert shell.run("power", "--json").json["battery"]["percent"] == 80
    lab.publish("2.4.0")
    network, chinese = shell.run("network", "--json"), shell.run("network", lang="zh")
    assert (network.code, network.json["ok"]) == (DONE, True) and network.json["bytes_per_s"] > 0
    assert chinese.code == DONE and "可以连接升级服务器" in chinese.out
    log = shell.run("log", "--json").json["lines"]
    assert log and {"at", "level", "event"} <= log[-1].keys()
    assert shell.run("log", "1").out.count("\n") == 1
    assert shell.run("log", "0").code == USAGE


def test_a_network_that_fails_exits_with_4_and_names_the_step_and_the_remedy(lab: Lab, shell: Shell) -> None:
    lab.web.kill()
    try:
        answer = shell.run("network")
    finally:
        lab.web.start()
    assert answer.code == FAILED and "[net_connect]" in answer.out and "next step: " in answer.out
    assert answer.out.splitlines()[-1] == "the update server cannot be reached"


def test_an_update_comes_from_a_stick(lab: Lab, shell: Shell) -> None:
    assert (shell.run("check", "usb", "--json").json["code"]) == "fetch_no_stick"
    stick = shell.terminal.layout.media / "sda1"
    stick.mkdir(parents=True)
    lab.bundle("2.5.0").rename(stick / "new.bundle")
    assert shell.run("check", "usb").out.startswith("offered: version 2.5.0 (")
    followed = shell.run("update", "--follow", "usb")
    assert followed.code == DONE and followed.out.splitlines()[-1].startswith("2.5.0 committed")
