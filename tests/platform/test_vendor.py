"""A vendor's boot control program: what it is told, what it may answer, and that it is bounded in time and output."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posagent.core.errors import BootControlError
from posagent.core.ports import BootState
from posagent.platform import vendor as vendor_program
from posagent.platform.vendor import VendorBootControl
from tests.platform.vendor import make_program

NEW = BootState(order=("b", "a"), tries={"b": 2})


def boot_with(directory: Path, program: str, state: str = "") -> VendorBootControl:
    return VendorBootControl(*make_program(directory, state, "#!/bin/sh\nstate={state}\n" + program))


def refusal(boot: VendorBootControl, verb: str, *args: BootState) -> BootControlError:
    with pytest.raises(BootControlError) as caught:
        getattr(boot, verb)(*args)
    return caught.value


def test_it_is_always_told_everything_and_names_that_are_not_ours_stay(tmp_path: Path) -> None:
    state = "model=p400\norder=rescue A  B x\ntries_A=3\ntries_B=0\n"
    boot = VendorBootControl(*make_program(tmp_path, state, a="A", b="B"))
    assert boot.read() == BootState(order=("a", "b"), tries={"a": 3, "b": 0})
    boot.write(NEW)
    assert (tmp_path / "bootstate").read_text() == "order=B A rescue x\ntries_A=3\ntries_B=2\n"


@pytest.mark.parametrize("said", ["", "booted=", "booted=c", "booted=a\nbooted=b", "booted = a", "Booted=a", "a"])
def test_an_answer_that_does_not_name_one_running_slot_is_refused(tmp_path: Path, said: str) -> None:
    boot = boot_with(tmp_path, 'cat "$state"', said + "\norder=a\n")
    assert refusal(boot, "booted").code == "booted_slot_unknown"


def test_its_reason_is_passed_on(tmp_path: Path) -> None:
    boot = boot_with(tmp_path, "echo 'the fuse is blown' >&2; exit 3")
    assert refusal(boot, "booted").code == "booted_slot_unknown"
    error = refusal(boot, "read")
    assert error.code == "boot_env_missing" and "the fuse is blown" in error.detail
    boot = boot_with(tmp_path, '[ "$1" = set ] || exec echo order=a; echo "it is worn out" >&2; exit 1')
    error = refusal(boot, "write", NEW)
    assert error.code == "boot_env_write" and "it is worn out" in error.detail


@pytest.mark.parametrize("verb", ["read", "booted"])
def test_a_program_that_is_not_there_is_reported(tmp_path: Path, verb: str) -> None:
    boot = boot_with(tmp_path, "exec /none/such")
    assert "/none/such" in refusal(boot, verb).detail


def test_a_program_that_only_says_that_it_has_written_is_found_out(tmp_path: Path) -> None:
    boot = boot_with(tmp_path, "echo order=a; echo tries_b=0")
    assert refusal(boot, "write", NEW).code == "boot_env_write"


def test_an_answer_without_an_order_is_refused(tmp_path: Path) -> None:
    assert refusal(boot_with(tmp_path, "echo tries_a=3"), "read").code == "boot_env_missing"


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_program, "TIMEOUT_S", 0.5)
    error = refusal(boot_with(tmp_path, "sleep 60"), "read")
    assert error.code == "boot_env_missing" and "no end after 0.5 s" in error.detail
    boot = boot_with(tmp_path, '[ "$1" = set ] || exec echo order=a; sleep 60')
    assert refusal(boot, "write", NEW).code == "boot_env_write"


def test_a_program_that_says_too_much_is_ended(tmp_path: Path) -> None:
    assert "bytes of output" in refusal(boot_with(tmp_path, "yes order=a"), "read").detail


LINES = st.sampled_from([b"order=a b", b"order=\xff a", b"tries_a=3", b"tries_b=9999999999", b"booted=b", b"\0="])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.lists(LINES | st.binary(max_size=20), max_size=8).map(b"\n".join))
def test_no_answer_makes_more_of_it_than_a_coded_error(tmp_path: Path, answer: bytes) -> None:
    boot = boot_with(tmp_path, 'cat "$state"')
    (tmp_path / "bootstate").write_bytes(answer)
    try:
        state = boot.read()
        assert set(state.order) <= {"a", "b"} and set(state.tries) == {"a", "b"}
        assert all(0 <= count <= 99 for count in state.tries.values())
        assert boot.booted() in ("a", "b")
        boot.write(state)
    except BootControlError as error:
        assert error.code in ("boot_env_missing", "booted_slot_unknown", "boot_env_write")
