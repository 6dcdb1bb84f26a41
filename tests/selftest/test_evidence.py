"""What a self-test says about a failure is bounded and the part that explains it; it leaves nothing behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from posagent import wire
from posagent.agent import journal
from posagent.config import CheckConfig, SelftestConfig
from posagent.core.errors import PosagentError
from posagent.platform.health import LinuxProbes
from posagent.platform.host import LinuxClock
from posagent.selftest import checks
from posagent.selftest.finding import Finding
from tests.selftest.test_checks import unasked

GONE_S = 10.0


def probed(*words: str, timeout_s: float = 10.0) -> str | None:
    return LinuxProbes(LinuxClock()).command(words, timeout_s)


def python(code: str, timeout_s: float = 10.0) -> str | None:
    return probed(sys.executable, "-c", code, timeout_s=timeout_s)


def runs(pid: int) -> bool:
    """Whether the process lives; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_last_words_of_a_talkative_command_are_kept() -> None:
    wrong = python("import sys; print('x' * 10**6); sys.exit('printer: no paper')")
    assert wrong is not None and wrong.startswith("exit 1: x") and wrong.endswith("printer: no paper")
    assert len(wrong) < checks.DETAIL_CHARACTERS_MAX


def test_a_command_that_never_stops_talking_is_ended_with_its_last_words() -> None:
    wrong = probed("yes", "still here", timeout_s=0.3)
    assert wrong is not None and wrong.startswith("no end after") and "still here" in wrong
    assert len(wrong) < checks.DETAIL_CHARACTERS_MAX


def test_a_command_that_closes_its_output_is_still_waited_for() -> None:
    assert python("import os, sys; os.close(1); os.close(2); sys.exit(3)") == "exit 3"
    silent = python("import os, time; os.close(1); os.close(2); time.sleep(60)", timeout_s=0.5)
    assert silent is not None and silent.startswith("no end after")


@pytest.mark.parametrize(("ending", "passes"), [("exit 0", True), ("exit 4", False), ("wait", False)])
def test_what_a_command_leaves_behind_neither_delays_the_test_nor_outlives_it(
    tmp_path: Path, ending: str, passes: bool
) -> None:
    started = time.monotonic()
    wrong = probed("sh", "-c", f"sleep 300 & echo $! > {tmp_path}/pid; {ending}", timeout_s=1.0)
    assert (wrong is None) is passes and time.monotonic() - started < GONE_S
    deadline, pid = time.monotonic() + GONE_S, int((tmp_path / "pid").read_text())
    while runs(pid):
        assert time.monotonic() < deadline, "the command's child outlived its test"
        os.sched_yield()


def test_a_digest_of_something_endless_is_refused_without_reading_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        assert "not a regular file" in str(LinuxProbes(LinuxClock()).digest(path, "0" * 64, 5.0))


def test_a_host_that_cannot_exist_is_a_failure(tmp_path: Path) -> None:
    assert LinuxProbes(LinuxClock()).tcp("x" * 100, 80, 1.0) is not None


class Scripted:
    """Probes and clock in one: a command takes `seconds`, fails `failures` times and says `wrong`."""

    def __init__(self, *, seconds: float = 0.0, failures: int = 0, wrong: str = "not yet") -> None:
        self.now, self._seconds, self._failures, self._wrong = 0.0, seconds, failures, wrong

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def command(self, words: Sequence[str], timeout_s: float) -> str | None:
        self.now += min(self._seconds, timeout_s)
        self._failures -= 1
        return self._wrong if self._failures >= 0 else None

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        raise NotImplementedError

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None:
        raise NotImplementedError

    def free_space(self, path: str, free_bytes_min: int) -> str | None:
        raise NotImplementedError


def outcome(world: Scripted, number: int = 1, deadline_s: int = 60, **changes: Any) -> dict[str, Any]:
    configured = tuple(CheckConfig(name=f"check {n}", kind="command", command=("x",), **changes) for n in range(number))
    config = SelftestConfig(checks=configured, deadline_s=deadline_s)
    *_, last = checks.run(config, world, world, look=unasked)
    result: dict[str, Any] = last["result"]
    return result


def test_a_failing_check_is_tried_again_only_as_long_as_it_may_be() -> None:
    assert outcome(Scripted(failures=20), retry_for_s=10)["passed"] is True
    world = Scripted(failures=10**9)
    assert outcome(world, retry_for_s=10)["passed"] is False and 9.0 < world.now <= 10.0


def test_patience_ends_with_the_deadline() -> None:
    world = Scripted(failures=10**9, seconds=1.0)
    result = outcome(world, number=3, deadline_s=5, retry_for_s=600)
    assert world.now <= 5.5 and [check["passed"] for check in result["checks"]] == [False] * 3


def test_checks_that_end_after_the_deadline_do_not_pass() -> None:
    result = outcome(Scripted(seconds=5.0), deadline_s=5)
    assert (result["passed"], result["deadline"]) == (False, True)
    assert result["checks"][-1]["name"] == "deadline", "the evidence names what was wrong"


def test_nothing_is_hidden_when_checks_remain_at_the_deadline() -> None:
    result = outcome(Scripted(seconds=4.0), number=4, deadline_s=10)
    assert [check["name"] for check in result["checks"]] == [f"check {n}" for n in range(4)]
    assert [check["passed"] for check in result["checks"]] == [True, True, True, False]
    assert "not run" in result["checks"][3]["detail"] and result["deadline"] is True and not result["passed"]


@pytest.mark.parametrize("number", [1, 3, 10, 100])
def test_the_evidence_of_many_failures_fits_into_one_message_and_one_record(number: int) -> None:
    result = outcome(Scripted(failures=number, wrong="\ufffd" * 5000), number=number)
    assert len(result["checks"]) == number and len(result["checks"][0]["detail"]) > 1000
    buffer = wire.LineBuffer()
    try:
        lines = buffer.feed(wire.encode({"result": result}))
    except PosagentError as error:
        raise AssertionError("the agent would not read the result") from error
    assert len(lines) == 1
    failure = {"code": "selftest_failed", "detail": result["checks"][0]["detail"], "checks": result["checks"]}
    line = journal.encode(1, journal.GENESIS, {"event": "tests_failed", "state": "rollback", "failure": failure})
    assert len(line) < journal.RECORD_BYTES_MAX


@pytest.mark.parametrize("number", [1, 10, 100])
def test_long_values_and_limits_fit_as_well(number: int) -> None:
    long = Finding(wrong="\ufffd" * 5000, measure="state", value="\ufffd" * 5000, limit="\ufffd" * 5000)
    configured = tuple(CheckConfig(name=f"check {n}", kind="state", path="/x", expect="x") for n in range(number))
    world = Scripted()
    *_, last = checks.run(SelftestConfig(checks=configured), world, world, look=lambda *_: long)
    result = last["result"]
    assert len(result["checks"][0]["value"]) <= checks.VALUE_CHARACTERS_MAX and result["checks"][0]["value"]
    assert len(wire.LineBuffer().feed(wire.encode(last))) == 1
    failure = {"code": "selftest_failed", "detail": result["checks"][0]["detail"], "checks": result["checks"]}
    line = journal.encode(1, journal.GENESIS, {"event": "tests_failed", "state": "rollback", "failure": failure})
    assert len(line) < journal.RECORD_BYTES_MAX


def suites(world: Scripted, *order: str, **budgets: Any) -> dict[str, Any]:
    """A check of each of these suites, in this order in the configuration."""
    configured = tuple(
        CheckConfig(name=f"{suite} {n}", kind="command", command=("x",), suite=suite) for n, suite in enumerate(order)
    )
    *_, last = checks.run(SelftestConfig(checks=configured, **budgets), world, world, look=unasked)
    result: dict[str, Any] = last["result"]
    return result


def test_suites_run_in_their_order_whatever_that_of_the_configuration() -> None:
    result = suites(Scripted(), "security", "functional", "performance", "functional")
    assert [check["name"] for check in result["checks"]] == [
        "functional 1",
        "functional 3",
        "performance 2",
        "security 0",
    ]


def test_a_suite_that_has_used_up_its_budget_fails_and_the_next_one_has_its_own() -> None:
    order = ("functional", "functional", "security")
    result = suites(Scripted(seconds=6.0), *order, functional_s_max=5, security_s_max=10)
    passed = {check["name"]: check["passed"] for check in result["checks"]}
    assert passed == {"functional 0": True, "functional 1": False, "security 2": True}
    assert result["checks"][1]["detail"] == "not run: the functional tests had used up their 5 s"
    assert not result["passed"] and not result["deadline"]


def test_a_suite_that_passes_too_late_has_not_passed() -> None:
    result = suites(Scripted(seconds=5.0), "functional", "security", functional_s_max=5, security_s_max=60)
    assert [check["name"] for check in result["checks"]] == ["functional 0", "functional budget", "security 1"]
    late = result["checks"][1]
    assert (late["passed"], late["suite"], late["measure"], late["limit"]) == (False, "functional", "duration_s", 5)
    assert not result["passed"] and not result["deadline"]


def test_a_person_may_ask_for_one_suite_or_one_kind() -> None:
    config = SelftestConfig(
        checks=(
            CheckConfig(name="a", kind="command", command=("x",)),
            CheckConfig(name="b", kind="command", command=("x",), suite="security"),
        )
    )
    for suite, names in (("security", ["b"]), ("command", ["a", "b"]), ("", ["a", "b"])):
        *_, last = checks.run(config, Scripted(), Scripted(), suite, look=unasked)
        assert [check["name"] for check in last["result"]["checks"]] == names
    with pytest.raises(PosagentError, match="there are: command, functional, security"):
        next(checks.run(config, Scripted(), Scripted(), "performance", look=unasked))
