"""Engineers' certificates, one a role, made once a session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from posagent.console.auth import ROLES
from tests.conftest import Desk
from tests.console.engineers import certify, make_key


@pytest.fixture(scope="session")
def certificates(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By role: a certificate whose key lies beside it; `stranger` is signed by another CA."""
    folder = tmp_path_factory.mktemp("engineers")
    roles = {role: certify(desk.keys / "engineer-ca", make_key(folder / role), role=role) for role in ROLES}
    other = make_key(folder / "other-ca")
    return {**roles, "stranger": certify(other, make_key(folder / "stranger"))}
