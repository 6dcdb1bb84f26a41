"""A release desk's keys once, a healthy fabricated board a test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from posagent.doctor import service
from posagent.release import keys
from tests.doctor import board
from tests.doctor.board import Bench


@pytest.fixture(scope="session")
def desk_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "keys"
    keys.init(made)
    return made


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return board.factory(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def bench(desk_keys: Path, environment: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """In memory where that can be had: a board is a hundred small files, and many tests have one each."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pos-", dir=memory) as base:
        for made in board.bench(Path(base), desk_keys, environment):
            monkeypatch.setattr(service, "load", made.load)
            yield made
