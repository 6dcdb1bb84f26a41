"""The functional suite: the payment application answers, its dummy transaction passes, the peripherals greet back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.selftest.bench import check, program, result
from tests.selftest.other_side import payment_application, peripherals

DEVICES = {"printer": ("100401", r"\x12"), "reader": ("02 56 03", r"\x02SIM\w+ [\d.]+\x03"), "pin_pad": ("05", r"\x06")}


def test_a_dummy_transaction_goes_end_to_end_and_is_marked_as_one(short_path: Path) -> None:
    with payment_application(short_path / "pay") as asked:
        assert result(check("payment", path=str(short_path / "pay")))["passed"]
        assert result(check("payment", path=str(short_path / "pay"), expect="declined"))["value"] == "declined"
        assert result(check("payment", path=str(short_path / "pay"), test="host"))["passed"]
    assert asked == [
        {"selftest": 1, "test": "transaction", "expect": "approved"},
        {"selftest": 1, "test": "transaction", "expect": "declined"},
        {"selftest": 1, "test": "host", "expect": "ok"},
    ]


def test_an_outcome_that_was_not_expected_fails_with_both_and_the_reason(short_path: Path) -> None:
    with payment_application(short_path / "pay", lambda _: {"outcome": "declined", "detail": "no EMV keys"}):
        found = result(check("payment", path=str(short_path / "pay")))
    assert not found["passed"]
    assert (found["measure"], found["value"], found["limit"]) == ("transaction_outcome", "declined", "approved")
    assert found["detail"] == "transaction: declined, expected approved: no EMV keys"


@pytest.mark.parametrize("said", [b"READY\n", b"[]\n", b'{"outcome": 1}\n', b"", b"x" * 10_000, b"\xff\n", b"{" * 4000])
def test_an_answer_that_is_none_of_the_protocols_fails_and_is_shown(short_path: Path, said: bytes) -> None:
    with payment_application(short_path / "pay", lambda _: said):
        found = result(check("payment", path=str(short_path / "pay")))
    assert not found["passed"] and "no answer of the protocol" in found["detail"] and len(found["detail"]) < 900


def test_a_payment_application_that_says_nothing_or_is_not_there_fails_in_time(short_path: Path) -> None:
    with payment_application(short_path / "pay", lambda _: None):
        assert "no answer within 1 s" in result(check("payment", path=str(short_path / "pay"), timeout_s=1))["detail"]
    found = result(check("payment", path=str(short_path / "none")))
    assert not found["passed"] and "No such file" in found["detail"]
    assert (found["measure"], found["limit"]) == ("transaction_outcome", "approved"), "also of what cannot be asked"


def test_the_protocol_is_spoken_over_a_port_and_to_a_command_as_well(tmp_path: Path) -> None:
    command = program(tmp_path / "pay", 'read asked; echo "$asked" >"$0.asked"; echo \'{"outcome": "approved"}\'')
    assert result(check("payment", command=command))["passed"]
    assert '"test": "transaction"' in (tmp_path / "pay.asked").read_text()
    failing = program(tmp_path / "broken", "echo no HSM >&2; exit 3")
    assert "ended with 3: no HSM" in result(check("payment", command=failing))["detail"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in result(check("payment", port=port))["detail"]


@pytest.mark.parametrize("name", DEVICES)
def test_each_peripheral_greets_back_over_its_serial_line(tmp_path: Path, name: str) -> None:
    send, expect = DEVICES[name]
    one = check("serial", device=f"{tmp_path}/dev/{name}", send_hex=send, expect=expect)
    with peripherals(tmp_path):
        assert result(one)["passed"]
        assert result(one)["passed"], "and the line was given back"


def test_a_printer_that_is_silent_fails_with_what_it_said(tmp_path: Path) -> None:
    one = check("serial", device=f"{tmp_path}/dev/printer", send_hex="100401", expect=r"\x12", timeout_s=1)
    with peripherals(tmp_path) as devices:
        devices.broken.add("printer")
        found = result(one)
    assert not found["passed"] and (found["measure"], found["value"], found["limit"]) == ("handshake", "''", r"\x12")
    assert "answers '' within 1 s" in found["detail"]


def test_a_peripheral_that_says_something_else_is_shown(tmp_path: Path) -> None:
    with peripherals(tmp_path):
        found = result(check("serial", device=f"{tmp_path}/dev/pin_pad", send_hex="05", expect=r"\x15", timeout_s=1))
    assert not found["passed"] and r"answers '\x06'" in found["detail"]


def test_a_serial_line_that_is_not_there_or_somebody_elses_fails(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"send_hex": "05", "expect": "."}
    assert "No such file" in result(check("serial", device=f"{tmp_path}/none", **keys))["detail"]
    assert not result(check("serial", device="/dev/null", **keys))["passed"]


def test_services_are_asked_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(tmp_path, monkeypatch, ActiveState="active", UnitFileState="enabled")
    assert result(check("unit", unit="payment.service"))["passed"]
    assert result(check("timer", unit="payment.timer"))["passed"]
    says(tmp_path, monkeypatch, ActiveState="failed", UnitFileState="enabled")
    found = result(check("unit", unit="payment.service"))
    assert not found["passed"] and found["detail"] == "payment.service is failed, not active"
    says(tmp_path, monkeypatch, ActiveState="active", UnitFileState="disabled")
    found = result(check("timer", unit="daily.timer"))
    assert not found["passed"] and (found["value"], found["limit"]) == ("disabled", "enabled")
    says(tmp_path, monkeypatch)
    assert not result(check("unit", unit="none.service"))["passed"]


def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **properties: str) -> None:
    """A systemctl that knows these properties of every unit."""
    lines = "\\n".join(f"{name}={value}" for name, value in properties.items())
    program(tmp_path / "systemctl", f"printf '{lines}\\n'")
    monkeypatch.setitem(
        __import__("posagent.platform.commands", fromlist=["x"]).ENVIRONMENT, "PATH", f"{tmp_path}:/bin"
    )
