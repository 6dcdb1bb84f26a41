"""Reads the money and the counters out of a data directory, as the generation's declaration says, and raises counters.

Rules: what is not there yet is no money and no counter: a new terminal has taken no payment. What is there and is not
understood is trouble. A counter is raised so that a power cut leaves the old or the new number, even on a full medium.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from posagent.core import ledger
from posagent.core.durable import parent
from posagent.core.errors import PosagentError
from posagent.core.ledger import CounterSource, LedgerSource, Payment, Summary
from posagent.core.ports import Databases, Trees
from posagent.data.reserve import FULL, spending

PIECE_BYTES = 1 << 16
LINE_BYTES_MAX = 4096
COUNTER_BYTES_MAX = 32
NUMBER_MAX = 2**53
"""Of a counter without a last number."""
PAYMENTS_MAX = 100_000
TEMPORARY = "counter.new"
"""Beside the data, not in it: what a power cut leaves there is nothing that the payment application meets."""


class Money:
    """Raises PosagentError `data_unreadable`, and where it writes what that says."""

    def __init__(self, trees: Trees, databases: Databases) -> None:
        self._trees, self._databases = trees, databases

    def summary(self, directory: str, source: LedgerSource) -> Summary | None:
        """Of the payments in the directory; None where it is not declared how they are read."""
        return None if source.kind == "none" else ledger.summary(self.payments(directory, source))

    def payments(self, directory: str, source: LedgerSource) -> Iterator[Payment]:
        """Oldest first."""
        try:
            for number, row in enumerate(self._rows(f"{directory}/{source.path}", source), 1):
                if number > PAYMENTS_MAX:
                    raise ValueError(f"more than {PAYMENTS_MAX} payments: the ledger is what is not settled yet")
                yield ledger.payment(row)
        except (ValueError, OSError) as error:
            raise PosagentError("data_unreadable", f"{source.path}: {error}") from None

    def counters(self, directory: str, sources: Sequence[CounterSource]) -> dict[str, int]:
        """Those that are there."""
        found, trouble = self.legible(directory, sources)
        if trouble is not None:
            raise trouble
        return found

    def legible(self, directory: str, sources: Sequence[CounterSource]) -> tuple[dict[str, int], PosagentError | None]:
        """Those that are there and can be read, and the trouble with the first that cannot: it hides no other."""
        found: dict[str, int] = {}
        trouble: PosagentError | None = None
        for source in sources:
            try:
                number = self._counter(directory, source)
            except PosagentError as error:
                trouble = trouble or error
                continue
            if number is not None:
                found[source.name] = number
        return found, trouble

    def raise_counters(self, directory: str, sources: Sequence[CounterSource], wanted: Mapping[str, int]) -> list[str]:
        """Durably, those that are behind what is `wanted`; their names. One that cannot be raised keeps no other from
        it: then PosagentError `data_unreadable` or `data_no_space` of the first such is raised last."""
        raised: list[str] = []
        trouble: PosagentError | None = None
        for source in sources:
            try:
                if self._is_raised(directory, source, wanted.get(source.name)):
                    raised.append(source.name)
            except PosagentError as error:
                trouble = trouble or error
            except OSError as error:
                code = "data_no_space" if error.errno in FULL else "data_unreadable"
                trouble = trouble or _trouble(source, error.strerror or error, code)
        if trouble is not None:
            raise trouble
        return raised

    def _is_raised(self, directory: str, source: CounterSource, number: int | None) -> bool:
        if number is None:
            return False
        present = self._counter(directory, source)
        if present is not None and not source.ahead(number, present):
            return False
        spending(self._trees, parent(parent(directory)), lambda: self._write(directory, source, number))
        if self._counter(directory, source) != number:
            raise _trouble(source, f"it did not take {number}")
        return True

    def _rows(self, path: str, source: LedgerSource) -> Iterator[Sequence[Any]]:
        if source.kind == "none" or self._trees.size(path) is None:
            return
        if source.kind == "sqlite":
            yield from self._databases.rows(path, source.query)
            return
        for number, line in enumerate(self._lines(path), 1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise ValueError(f"line {number} is no JSON") from None
            if not isinstance(value, dict):
                raise ValueError(f"line {number} is no object")
            yield [value.get(name) for name in ledger.COLUMNS]

    def _lines(self, path: str) -> Iterator[bytes]:
        at, rest = 0, b""
        while piece := self._trees.read(path, at, PIECE_BYTES):
            at += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                raise ValueError("a line is too long")
            yield from filter(None, lines)
        if rest:
            yield rest

    def _counter(self, directory: str, source: CounterSource) -> int | None:
        """What a version on trial left is not believed: no counter gets beyond its last number."""
        try:
            found = self._stored(f"{directory}/{source.path}", source)
        except OSError as error:
            raise _trouble(source, error.strerror or error) from None
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool):
            raise _trouble(source, "it is no whole number")
        if not 0 <= found <= (source.last or NUMBER_MAX):
            raise _trouble(source, f"it cannot be {found}")
        return found

    def _stored(self, path: str, source: CounterSource) -> Any:
        if self._trees.size(path) is None:
            return None
        if source.read:
            row = next(self._databases.rows(path, source.read), None)
            return row[0] if row else None
        text = self._trees.read(path, 0, COUNTER_BYTES_MAX).decode("ascii", "replace").strip()
        return int(text) if text.isascii() and text.isdecimal() else text

    def _write(self, directory: str, source: CounterSource, number: int) -> None:
        path = f"{directory}/{source.path}"
        if source.read:
            self._databases.execute(path, source.write, number)
            return
        temporary = f"{parent(directory)}/{TEMPORARY}"
        self._trees.unlink(temporary)
        self._trees.write(temporary, 0, f"{number}\n".encode())
        if self._trees.size(path) is None:
            self._trees.adopt(temporary)
        else:
            self._trees.like(path, temporary)
        self._trees.sync(temporary)
        self._trees.rename(temporary, path)
        self._trees.sync_dir(parent(path))
        self._trees.sync_dir(parent(directory))


def _trouble(source: CounterSource, what: object, code: str = "data_unreadable") -> PosagentError:
    return PosagentError(code, f"{source.path}: counter {source.name}: {what}")
