"""Engineers' certificates, one a role, made once a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.console.auth import ROLES
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk
from tests.console.engineers import certify, make_key
from tests.console.visit import Visit


@pytest.fixture(scope="session")
def certificates(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By role: a certificate whose key lies beside it; `stranger` is signed by another CA."""
    folder = tmp_path_factory.mktemp("engineers")
    roles = {role: certify(desk.keys / "engineer-ca", make_key(folder / role), role=role) for role in ROLES}
    other = make_key(folder / "other-ca")
    return {**roles, "stranger": certify(other, make_key(folder / "stranger"))}


@pytest.fixture
def visits(in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path]) -> Callable[..., Visit]:
    """Begins visits to fresh terminals, with what Visit takes."""

    def make(**how: Any) -> Visit:
        return Visit(in_process(), certificates, **how)

    return make


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits()
