"""A release desk and bundles that the installer's tests share; nothing changes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.release.desk import Desk


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="session")
def good(desk: Desk) -> bytes:
    """The desk's bundle number 5."""
    return desk.build(5)


@pytest.fixture
def own_desk(desk: Desk, tmp_path: Path) -> Desk:
    """The same desk, copied, for tests that change its keys."""
    copy = Desk.__new__(Desk)
    copy.folder, copy.keys, copy.image = tmp_path, tmp_path / "keys", desk.image
    shutil.copytree(desk.keys, copy.keys)
    return copy
