"""A terminal that understands nothing but characters, carriage return, line feed and backspace: 24 rows, 80 columns."""

from __future__ import annotations

import codecs
import unicodedata

ROWS, COLUMNS = 24, 80


class DumbTerminal:
    """Shows what is written. Like a VT100 it wraps only when a character follows the one in the last column."""

    def __init__(self) -> None:
        self.cells: list[list[str]] = [[" "] * COLUMNS]
        self.row = self.column = 0
        self.strange = b""
        """Bytes that it does not understand."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def lines(self) -> list[str]:
        """All lines since the beginning, those that have scrolled away too."""
        return ["".join(row).rstrip() for row in self.cells]

    @property
    def screen(self) -> list[str]:
        return self.lines[-ROWS:]

    @property
    def line(self) -> str:
        """That of the cursor."""
        return self.lines[self.row]

    def write(self, data: bytes) -> None:
        for one in self._decoder.decode(data):
            self._write(one)

    def _write(self, one: str) -> None:
        if one == "\r":
            self.column = 0
        elif one == "\n":
            self._down()
        elif one == "\b":
            self.column = max(0, min(self.column, COLUMNS - 1) - 1)
        elif one.isprintable():
            wide = 2 if unicodedata.east_asian_width(one) in "WF" else 1
            if self.column + wide > COLUMNS:
                self.column = 0
                self._down()
            self.cells[self.row][self.column : self.column + wide] = [one] + [""] * (wide - 1)
            self.column += wide
        else:
            self.strange += one.encode()

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.cells):
            self.cells.append([" "] * COLUMNS)
