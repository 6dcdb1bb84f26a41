"""What the data worker has on a simulated medium: no databases, a fixed key, a link that a restart forgets."""

from __future__ import annotations

from typing import Any


class NoDatabases:
    """core.ports.Databases where all data is files."""

    def is_database(self, path: str) -> bool:
        return False

    def copy(self, source: str, target: str) -> None:
        raise AssertionError(source)

    def canonical(self, path: str) -> tuple[int, str]:
        raise AssertionError(path)

    def rows(self, path: str, query: str) -> list[tuple[Any, ...]]:
        raise AssertionError(path)

    def execute(self, path: str, sql: str, value: int) -> None:
        raise AssertionError(path)


class Shown:
    """core.ports.Publisher, of one start of the system."""

    def __init__(self) -> None:
        self._path = ""

    def published(self) -> str:
        return self._path

    def publish(self, path: str) -> None:
        self._path = path

    def withhold(self) -> None:
        self._path = ""
