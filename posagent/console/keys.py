"""Bytes become keys: control characters, and the escape sequences of VT100, xterm, PuTTY and Linux' own screen.

Rules: one byte is at most one key. An unknown sequence is swallowed, an endless one costs no memory; line ends and ^C
always count, so that no sequence can swallow the line.
"""

from __future__ import annotations

from enum import Enum, auto


class Press(Enum):
    """A key that is no character."""

    ENTER = auto()
    INTERRUPT = auto()
    TAB = auto()
    LEFT = auto()
    RIGHT = auto()
    HOME = auto()
    END = auto()
    UP = auto()
    DOWN = auto()
    BACKSPACE = auto()
    DELETE = auto()  # ^D: on an empty line the wish to leave
    KILL_WORD = auto()
    KILL_START = auto()
    KILL_END = auto()
    REDRAW = auto()
    NOISE = auto()  # no key at all: is the speed right?


class _In(Enum):
    """Where in an escape sequence."""

    NOTHING = auto()
    ESCAPE = auto()
    SEQUENCE = auto()  # behind ESC [
    SINGLE = auto()  # behind ESC O
    SWALLOW = auto()  # one character is left that means nothing: of F1 to F5 on Linux' own screen
    STRING = auto()  # until BEL or ESC \


_ESC, _BEL = 0x1B, 0x07
_CONTROL = {
    0x01: Press.HOME,
    0x02: Press.LEFT,
    0x04: Press.DELETE,
    0x05: Press.END,
    0x06: Press.RIGHT,
    0x09: Press.TAB,
    0x08: Press.BACKSPACE,
    0x7F: Press.BACKSPACE,
    0x0B: Press.KILL_END,
    0x0C: Press.REDRAW,
    0x0E: Press.DOWN,
    0x10: Press.UP,
    0x15: Press.KILL_START,
    0x17: Press.KILL_WORD,
}
_ALWAYS = {0x03: Press.INTERRUPT, 0x0A: Press.ENTER, 0x0D: Press.ENTER}
_UNHEARD = frozenset({0x11, 0x13, 0x18})
"""XON and XOFF of a terminal program with software flow control, and CAN, by which a file transfer is broken off."""
_FINAL = {
    ord("A"): Press.UP,
    ord("B"): Press.DOWN,
    ord("C"): Press.RIGHT,
    ord("D"): Press.LEFT,
    ord("H"): Press.HOME,
    ord("F"): Press.END,
}
_SINGLE = {**_FINAL, ord("M"): Press.ENTER}
_NUMBERED = {1: Press.HOME, 7: Press.HOME, 4: Press.END, 8: Press.END, 3: Press.DELETE}
_NUMBER_MAX = 99


class Keys:
    """Of one line; knows where in a sequence it is."""

    def __init__(self) -> None:
        self._in = _In.NOTHING
        self._number = 0
        self._fresh = False
        self._after_return = False

    def forget(self) -> None:
        self._in = _In.NOTHING

    def key(self, byte: int) -> Press | str | None:
        """The key that this byte ends: a character, or another key; None where it ends none."""
        after_return, self._after_return = self._after_return, byte == 0x0D
        if byte == 0x0A and after_return:
            return None  # the second half of a line end
        if always := _ALWAYS.get(byte):
            self._in = _In.NOTHING
            return always
        match self._in:
            case _In.NOTHING:
                return self._plain(byte)
            case _In.ESCAPE:
                return self._escape(byte)
            case _In.SEQUENCE:
                return self._sequence(byte)
            case _In.SINGLE | _In.SWALLOW:
                known = _SINGLE.get(byte) if self._in is _In.SINGLE else None
                self._in = _In.NOTHING
                return known
            case _In.STRING:
                if byte in (_BEL, _ESC):
                    self._in = _In.NOTHING if byte == _BEL else _In.SWALLOW
                return None

    def _plain(self, byte: int) -> Press | str | None:
        if byte == _ESC:
            self._in = _In.ESCAPE
            return None
        if 0x20 <= byte < 0x7F:
            return chr(byte)
        return None if byte in _UNHEARD else _CONTROL.get(byte, Press.NOISE)

    def _escape(self, byte: int) -> Press | None:
        self._number, self._fresh = 0, True
        if byte == _ESC:
            return None
        if byte >= 0x80:
            self._in = _In.NOTHING
            return Press.NOISE
        self._in = {"[": _In.SEQUENCE, "O": _In.SINGLE, "]": _In.STRING, "P": _In.STRING}.get(chr(byte), _In.NOTHING)
        return None

    def _sequence(self, byte: int) -> Press | None:
        fresh, self._fresh = self._fresh, False
        if fresh and byte == ord("["):
            self._in = _In.SWALLOW
        elif 0x20 <= byte < 0x40:
            if 0x30 <= byte < 0x3A:
                self._number = min(10 * self._number + byte - 0x30, _NUMBER_MAX)
            elif byte == ord(";"):
                self._number = 0  # of what follows only the last letter counts
        else:
            self._in = _In.NOTHING
            if byte >= 0x80:
                return Press.NOISE
            return _NUMBERED.get(self._number) if byte == ord("~") else _FINAL.get(byte)
        return None
