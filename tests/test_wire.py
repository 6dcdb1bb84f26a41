"""Lines from outside are bounded and never crash a process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent import wire
from posagent.core.errors import PosagentError


@given(st.lists(st.binary(max_size=60)), st.integers(1, 40))
def test_lines_come_out_whole_however_the_bytes_arrive(lines: list[bytes], chunk: int) -> None:
    clean = [line.replace(b"\n", b"").replace(b"\r", b"") for line in lines]
    stream = b"".join(line + b"\n" for line in clean)
    buffer, found = wire.LineBuffer(), []
    for start in range(0, len(stream), chunk):
        found += buffer.feed(stream[start : start + chunk])
    assert found == clean


def test_a_line_of_a_megabyte_is_refused_once_and_the_next_line_is_heard() -> None:
    buffer, refusals = wire.LineBuffer(1000), 0
    heard: list[bytes] = []
    for piece in [b"x" * 1000] * 1000 + [b"\nstatus\n"]:
        try:
            heard += buffer.feed(piece)
        except wire.LineTooLong as error:
            refusals += 1
            heard += error.lines
    assert (refusals, heard) == (1, [b"status"])


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_request(line: bytes) -> None:
    try:
        message = wire.decode(line)
    except PosagentError as error:
        assert error.code == "bad_request"
    else:
        assert isinstance(message, dict)


def test_deep_nesting_is_a_bad_request() -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        wire.decode(b"[" * 100_000)


def test_nobody_at_the_socket_is_its_own_code() -> None:
    with pytest.raises(PosagentError, match="agent_unreachable"):
        wire.call("/nonexistent/api.sock", "status", {})
