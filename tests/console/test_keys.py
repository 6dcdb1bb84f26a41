"""Which key the bytes of terminal programs mean; what is none is swallowed and holds nothing up."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.console.keys import Keys, Press


def pressed(data: bytes) -> list[Press | str]:
    keys = Keys()
    return [key for byte in data if (key := keys.key(byte)) is not None]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        *((b"\x1b[A", Press.UP), (b"\x1bOA", Press.UP), (b"\x10", Press.UP)),
        *((b"\x1b[B", Press.DOWN), (b"\x1bOB", Press.DOWN), (b"\x0e", Press.DOWN)),
        *((b"\x1b[C", Press.RIGHT), (b"\x1bOC", Press.RIGHT), (b"\x1b[1;5C", Press.RIGHT), (b"\x06", Press.RIGHT)),
        *((b"\x1b[D", Press.LEFT), (b"\x1bOD", Press.LEFT), (b"\x02", Press.LEFT)),
        *((b"\x1b[H", Press.HOME), (b"\x1bOH", Press.HOME), (b"\x1b[1~", Press.HOME), (b"\x1b[7~", Press.HOME)),
        *((b"\x1b[F", Press.END), (b"\x1bOF", Press.END), (b"\x1b[4~", Press.END), (b"\x1b[8~", Press.END)),
        *((b"\x01", Press.HOME), (b"\x05", Press.END), (b"\x0b", Press.KILL_END), (b"\x15", Press.KILL_START)),
        *((b"\x1b[3~", Press.DELETE), (b"\x04", Press.DELETE), (b"\x17", Press.KILL_WORD), (b"\x0c", Press.REDRAW)),
        *((b"\x7f", Press.BACKSPACE), (b"\x08", Press.BACKSPACE), (b"\t", Press.TAB), (b"\x03", Press.INTERRUPT)),
        *((b"\r", Press.ENTER), (b"\n", Press.ENTER), (b"\r\n", Press.ENTER), (b"\x1bOM", Press.ENTER)),
        *((b"a", "a"), (b"~", "~"), (b" ", " ")),
        *((b"\x00", Press.NOISE), (b"\xff", Press.NOISE), (b"\x9b", Press.NOISE), (b"\x1b\xff", Press.NOISE)),
    ],
    ids=repr,
)
def test_a_key_as_vt100_xterm_putty_and_linux_send_it(data: bytes, key: Press | str) -> None:
    assert pressed(data) == [key]
    assert pressed(data + b"x") == [key, "x"], "and nothing of the next one is lost"


@pytest.mark.parametrize(
    "data",
    [
        *(b"\x1b[5~", b"\x1b[6~", b"\x1b[2~", b"\x1b[3;5~", b"\x1b[[A", b"\x1b[[E", b"\x1bOP", b"\x1bOS", b"\x1b[15~"),
        *(b"\x1b[24;80R", b"\x1b[?1;2c", b"\x1b[200~", b"\x1b[I", b"\x1b[Z", b"\x1b[999999999999999999~", b"\x1bx"),
        *(b"\x1b]0;a title\x07", b"\x1b]0;a title\x1b\\", b"\x1bP1$r0m\x1b\\", b"\x11", b"\x13", b"\x18", b"\x1b\x1bx"),
    ],
    ids=repr,
)
def test_a_sequence_that_is_no_key_here_is_swallowed(data: bytes) -> None:
    assert pressed(data + b"ok") == ["o", "k"]


@pytest.mark.parametrize("begun", [b"\x1b", b"\x1b[", b"\x1b[12;", b"\x1bO", b"\x1b]0;", b"\x1bP", b"\x1b[["], ids=repr)
@pytest.mark.parametrize(("always", "key"), [(b"\r", Press.ENTER), (b"\x03", Press.INTERRUPT)])
def test_no_sequence_swallows_the_end_of_a_line_or_an_interrupt(begun: bytes, always: bytes, key: Press) -> None:
    assert pressed(begun + always + b"x") == [key, "x"]


@pytest.mark.parametrize("begin", [b"\x1b[", b"\x1b]", b"\x1b[1"])
def test_a_sequence_without_end_costs_no_memory(begin: bytes) -> None:
    keys = Keys()
    for byte in begin:
        keys.key(byte)
    size = sum(sys.getsizeof(value) for value in vars(keys).values())
    for _ in range(100_000):
        assert keys.key(ord("1")) is None
    assert sum(sys.getsizeof(value) for value in vars(keys).values()) == size


@given(st.binary(max_size=200))
def test_one_byte_is_at_most_one_key_whatever_comes(data: bytes) -> None:
    for key in pressed(data):
        assert isinstance(key, Press) or (len(key) == 1 and key.isascii() and key.isprintable())
