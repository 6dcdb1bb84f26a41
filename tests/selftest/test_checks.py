"""A new version is committed only if every configured check passed in time."""

from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path
from typing import Any

from posagent.config import CheckConfig, SelftestConfig
from posagent.platform.health import LinuxProbes
from posagent.platform.host import LinuxClock
from posagent.selftest import checks
from posagent.selftest.finding import Finding, Given


def unasked(check: CheckConfig, given: Given, timeout_s: float) -> Finding:
    raise NotImplementedError(check.kind)


def outcome(*configured: CheckConfig, deadline_s: int = 20) -> dict[str, Any]:
    config = SelftestConfig(checks=configured, deadline_s=deadline_s)
    *_, last = checks.run(config, LinuxProbes(LinuxClock()), LinuxClock(), look=unasked)
    result: dict[str, Any] = last["result"]
    return result


def command(code: str, **more: Any) -> CheckConfig:
    return CheckConfig(name="command", kind="command", command=(sys.executable, "-c", code), **more)


def test_no_configured_check_is_a_failure() -> None:
    assert outcome()["passed"] is False


def test_every_kind_passes_when_all_is_well(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"hello")
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = outcome(
            command("pass"),
            CheckConfig(name="tcp", kind="tcp", port=server.getsockname()[1]),
            CheckConfig(name="digest", kind="digest", path=str(file), sha256=hashlib.sha256(b"hello").hexdigest()),
            CheckConfig(name="space", kind="free_space", path=str(tmp_path), free_bytes_min=1),
        )
    assert result["passed"] is True and [check["passed"] for check in result["checks"]] == [True] * 4


def test_every_kind_fails_with_its_evidence_and_the_rest_still_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = outcome(
        command("import sys; sys.exit('no printer paper')"),
        CheckConfig(name="tcp", kind="tcp", port=port),
        CheckConfig(name="digest", kind="digest", path=str(tmp_path / "none"), sha256="0" * 64),
        CheckConfig(name="space", kind="free_space", path=str(tmp_path), free_bytes_min=1 << 60 >> 20),
        CheckConfig(name="missing", kind="command", command=("/nonexistent",)),
    )
    details = {check["name"]: check["detail"] for check in result["checks"]}
    assert result["passed"] is False and len(details) == 5
    assert "no printer paper" in details["command"] and "refused" in details["tcp"]
    assert "No such file" in details["digest"] and "No such file" in details["missing"]


def test_a_hanging_command_is_ended_with_all_it_started() -> None:
    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    result = outcome(command(hang, timeout_s=1))
    assert result["passed"] is False and "no end after 1 s" in result["checks"][0]["detail"]
    assert result["checks"][0]["seconds"] < 10


def test_a_service_that_starts_late_passes_within_its_patience(tmp_path: Path) -> None:
    flag = tmp_path / "started"
    code = f"import pathlib, sys; p = pathlib.Path({str(flag)!r}); e = p.exists(); p.touch(); sys.exit(not e)"
    assert outcome(command(code, retry_for_s=10))["passed"] is True


class SlowClock:
    """Every look at the clock costs a minute."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 60.0
        return self.now

    def wall(self) -> float:
        return self.now


def test_what_the_deadline_leaves_no_time_for_counts_as_failed() -> None:
    config = SelftestConfig(checks=(command("pass"), command("pass")), deadline_s=100)
    *_, last = checks.run(config, LinuxProbes(LinuxClock()), SlowClock(), look=unasked)
    assert last["result"]["passed"] is False and last["result"]["deadline"] is True
    assert "deadline" in last["result"]["checks"][-1]["detail"]


def test_output_of_a_check_is_bounded() -> None:
    result = outcome(command("print('x' * 10**6); raise SystemExit(1)"))
    assert len(result["checks"][0]["detail"]) <= checks.DETAIL_CHARACTERS_MAX
