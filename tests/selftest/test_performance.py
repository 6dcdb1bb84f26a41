"""The performance suite: figures against limits and against the old version's; a build that is slower is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from posagent.selftest import performance
from tests.selftest.bench import check, figures, program, result
from tests.selftest.other_side import payment_application, slow
from tests.selftest.test_functional import says


def test_a_build_that_is_half_again_as_slow_is_found_against_its_own_baseline(short_path: Path) -> None:
    one = check(
        "transaction_time",
        name="pay",
        path=str(short_path / "pay"),
        count=5,
        runs=2,
        worse_percent_max=20,
        timeout_s=60,
    )
    with payment_application(short_path / "pay", slow(0.1)):
        baseline = figures(one)["figures"]
        assert result(one, baseline=baseline)["passed"]
    (short_path / "pay").unlink()
    with payment_application(short_path / "pay", slow(0.3)):
        found = result(one, baseline=baseline)
    assert not found["passed"] and found["measure"] == "transaction_p95_ms"
    assert found["value"] > found["limit"] >= baseline["pay"] * 1.2 - 0.1
    assert f"the old version had {baseline['pay']:g}" in found["detail"]


def test_a_missing_figure_of_the_old_version_is_said_and_only_the_absolute_limit_holds() -> None:
    found = result(check("free_memory", kib_min=1, worse_percent_max=10))
    assert found["passed"] and found["detail"] == "no figure of the old version to compare with"
    found = result(check("free_memory", kib_min=1 << 40))
    assert not found["passed"] and found["limit"] == 1 << 40 and "at least" in found["detail"]


@pytest.mark.parametrize(
    ("kind", "limit", "before", "value", "passes"),
    [
        ("transaction_time", {"worse_percent_max": 20}, 100.0, 120.0, True),
        ("transaction_time", {"worse_percent_max": 20}, 100.0, 121.0, False),
        ("transaction_time", {"worse_percent_max": 20}, 1.0, 10.0, True),  # noise
        ("transaction_time", {"worse_percent_max": 20, "ms_max": 90}, 100.0, 95.0, False),
        ("boot_time", {"worse_percent_max": 10}, 20_000.0, 22_100.0, False),
        ("boot_time", {"worse_percent_max": 10}, 20_000.0, 15_000.0, True),
        ("free_memory", {"worse_percent_max": 10}, 100_000.0, 90_000.0, True),
        ("free_memory", {"worse_percent_max": 10}, 100_000.0, 89_000.0, False),
        ("write_rate", {"worse_percent_max": 30}, 1000.0, 699.0, False),
        ("write_rate", {"kib_per_s_min": 500}, None, 499.0, False),
        ("write_rate", {"kib_per_s_min": 500}, None, 500.0, True),
    ],
)
def test_limits_hold_in_percent_and_absolutely(
    kind: str, limit: dict[str, int], before: float | None, value: float, passes: bool
) -> None:
    found = performance.judged(check(kind, path="/x", **limit), value, before)
    assert (not found.wrong) is passes and found.value == value


def test_the_best_of_a_few_runs_counts(short_path: Path) -> None:
    seconds = iter([0.2] * 3 + [0.01] * 100)
    one = check("transaction_time", path=str(short_path / "pay"), count=3, runs=2, ms_max=150, timeout_s=60)
    with payment_application(short_path / "pay", lambda asked: slow(next(seconds))(asked)):
        found = result(one)
    assert found["passed"], found


def test_transactions_that_fail_or_take_too_long_leave_no_figure(short_path: Path) -> None:
    one = check("transaction_time", path=str(short_path / "pay"), count=50, ms_max=5000, timeout_s=1)
    with payment_application(short_path / "pay", slow(0.2)):
        found = result(one)
    assert not found["passed"] and found["value"] == "" and "of 50 transactions within 1 s" in found["detail"]
    (short_path / "pay").unlink()
    with payment_application(short_path / "pay", lambda _: {"outcome": "error"}):
        told = figures(one)
    assert told == {"figures": {}, "missing": {"transaction_time": "a dummy transaction: error, expected approved"}}


def test_boot_and_start_are_taken_from_systemd_or_as_the_terminal_tells(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, monkeypatch, InactiveExitTimestampMonotonic="7000000", ActiveEnterTimestampMonotonic="9500000")
    told = figures(
        check("boot_time", name="boot", unit="multi-user.target", ms_max=1),
        check("start_time", name="start", unit="payment.service", ms_max=1),
    )
    assert told["figures"] == {"boot": 9500.0, "start": 2500.0}
    says(tmp_path, monkeypatch, InactiveExitTimestampMonotonic="7000000", ActiveEnterTimestampMonotonic="0")
    found = result(check("boot_time", unit="multi-user.target", ms_max=1))
    assert not found["passed"] and "not up yet" in found["detail"] and found["measure"] == "boot_time_ms"
    (tmp_path / "ready_s").write_text("12.25\n")
    with payment_application(short_path / "pay"):
        told = figures(
            check("boot_time", name="boot", path=str(tmp_path / "ready_s"), ms_max=1),
            check("start_time", name="start", path=str(short_path / "pay"), ms_max=1),
        )
    assert told["figures"] == {"boot": 12250.0, "start": 120.0}


@pytest.mark.parametrize("text", ["", "soon", "nan", "-1", "inf"])
def test_a_figure_that_is_none_fails(tmp_path: Path, text: str) -> None:
    (tmp_path / "ready_s").write_text(text)
    found = result(check("boot_time", path=str(tmp_path / "ready_s"), ms_max=1000))
    assert not found["passed"] and "is no figure" in found["detail"]


def test_the_medium_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / ".write-rate").write_bytes(b"a power cut has left this")
    told = figures(check("write_rate", name="disk", path=str(tmp_path), write_bytes=1 << 16, kib_per_s_min=1))
    assert told["figures"]["disk"] > 0 and list(tmp_path.iterdir()) == []
    told = figures(check("write_rate", name="disk", path=f"{tmp_path}/none", kib_per_s_min=1))
    assert "No such file" in told["missing"]["disk"]


def test_free_memory_is_the_kernels_word(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 512000 kB\nMemAvailable:  120000 kB\n")
    assert figures(check("free_memory", kib_min=1), root=tmp_path)["figures"] == {"free_memory": 120000.0}
    (tmp_path / "proc/meminfo").write_text("MemTotal: 512000 kB\n")
    assert not result(check("free_memory", kib_min=1), tmp_path)["passed"]


def test_only_what_is_compared_is_measured_before(tmp_path: Path) -> None:
    told = figures(check("command", command=program(tmp_path / "x", "touch $0.ran")), check("free_memory", kib_min=1))
    assert list(told["figures"]) == ["free_memory"] and not (tmp_path / "x.ran").exists()
