"""Ports and terminals: who is asked when, and what happens when cables move."""

from __future__ import annotations

import pytest

from posagent.field.places import SILENT_S, Berth, Places

A, B = "/dev/ttyUSB0", "/dev/ttyUSB1"


class Cable:
    """An open port until it is pulled."""

    def __init__(self) -> None:
        self.pulled = False
        self.closed = False

    def read(self, timeout_s: float) -> bytes:
        if self.pulled:
            raise OSError("gone")
        return b"x"

    def write(self, data: bytes) -> None:
        if self.pulled:
            raise OSError("gone")

    def close(self) -> None:
        self.closed = True


class Desk:
    """A laptop with these ports."""

    def __init__(self, *there: str) -> None:
        self.there = list(there)
        self.cables: dict[str, Cable] = {}
        self.at_work: set[str] = set()
        self.places = Places(lambda: list(self.there), self._open)

    def _open(self, port: str) -> Cable:
        if port not in self.there:
            raise OSError(f"no {port}")
        self.cables[port] = Cable()
        return self.cables[port]

    def to_ask(self, now: float) -> list[str]:
        return self.places.to_ask(now, self.at_work.__contains__)


def test_every_port_is_asked_once_and_the_silent_again_later() -> None:
    desk = Desk(A, B)
    assert desk.to_ask(0.0) == [A, B]
    assert desk.to_ask(1.0) == [], "they are being asked"
    desk.places.silent(A, 2.0)
    assert desk.to_ask(2.0 + SILENT_S - 0.1) == []
    assert desk.to_ask(2.0 + SILENT_S) == [A]


def test_a_port_with_a_terminal_at_work_is_left_alone_until_that_is_done() -> None:
    desk = Desk(A)
    desk.to_ask(0.0)
    desk.at_work.add("pos-1")
    desk.places.found(A, "pos-1", 0.0)
    assert desk.to_ask(100.0) == []
    desk.at_work.clear()
    assert desk.to_ask(101.0) == [A], "the cable may be in the next terminal by now"


def test_a_cable_that_comes_back_elsewhere_is_found_by_who_answers() -> None:
    desk, told = Desk(A), list[str]()
    desk.to_ask(0.0)
    desk.at_work.add("pos-1")
    desk.places.found(A, "pos-1", 0.0)
    open_line = Berth(desk.places, "pos-1", on_open=told.append, on_gone=lambda: told.append("pulled")).open_line
    line = open_line()
    assert line.read(0.0) == b"x"
    desk.cables[A].pulled, desk.there = True, []
    with pytest.raises(OSError, match="gone"):
        line.write(b"")
    with pytest.raises(OSError, match="no port leads to pos-1"):
        open_line()
    desk.there = [B]
    assert desk.to_ask(1.0) == [B]
    with pytest.raises(OSError, match="no port leads"):
        open_line()  # it is not known yet who that is
    desk.places.found(B, "pos-1", 2.0)
    open_line().close()
    assert desk.cables[B].closed
    assert told == [A, "pulled", B]


def test_two_cables_that_were_swapped_are_both_asked() -> None:
    desk = Desk(A, B)
    desk.at_work |= {"pos-1", "pos-2"}
    for port, terminal in zip(desk.to_ask(0.0), ("pos-1", "pos-2"), strict=True):
        desk.places.found(port, terminal, 0.0)
    for port in (A, B):
        desk.places.wrong(port)
    assert desk.to_ask(0.1) == [A, B]
    desk.places.found(A, "pos-2", 1.0)
    desk.places.found(B, "pos-1", 1.0)
    assert (desk.places.leads_to("pos-1"), desk.places.leads_to("pos-2")) == (B, A)


def test_a_port_that_does_not_open_is_a_pulled_cable() -> None:
    desk, told = Desk(A), list[str]()
    desk.to_ask(0.0)
    desk.places.found(A, "pos-1", 0.0)
    open_line = Berth(desk.places, "pos-1", on_open=told.append, on_gone=lambda: told.append("pulled")).open_line
    desk.there = []
    with pytest.raises(OSError, match="no /dev/ttyUSB0"):
        open_line()
    assert told == ["pulled"]


def test_nothing_goes_to_another_terminal_that_is_at_the_cable_now() -> None:
    desk, told = Desk(A), list[str]()
    desk.to_ask(0.0)
    desk.at_work.add("pos-1")
    desk.places.found(A, "pos-1", 0.0)
    berth = Berth(desk.places, "pos-1", on_open=told.append, on_gone=lambda: told.append("pulled"))
    line = berth.open_line()
    berth.reached("pos-1")
    line.write(b"for pos-1")
    berth.reached("pos-2")
    with pytest.raises(OSError, match="another terminal"):
        line.write(b"for pos-1")
    assert told == [A, "pulled"]
    assert desk.to_ask(1.0) == [A], "so that pos-2 gets a visit of its own"
