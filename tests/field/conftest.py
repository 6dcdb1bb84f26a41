"""An engineer with a certificate, and a bundle with a delta; and the console's terminals and engineers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from posagent.field.signing import Engineer
from posagent.release import bundle
from posagent.sim.lab import Lab
from tests.conftest import HARDWARE, Desk
from tests.console.conftest import certificates, visit, visits
from tests.console.engineers import certify, make_key

__all__ = ["certificates", "visit", "visits"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A release desk, a web server and its terminals, as real processes."""
    base = Path(tempfile.mkdtemp(prefix="field-"))
    made = Lab(base)
    yield made
    made.close()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def certificate(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the roles update and support."""
    key = make_key(tmp_path_factory.mktemp("engineer") / "engineer")
    return certify(desk.keys / "engineer-ca", key, "-n", "posagent-update,posagent-support")


@pytest.fixture(scope="session")
def engineer(certificate: Path) -> Engineer:
    return Engineer(certificate)


@pytest.fixture(scope="session")
def delta_bundle(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2.0.0, whole and as a delta from 1.0.0."""
    return bundle.build(
        desk.images["2.0.0"],
        version="2.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[desk.images["1.0.0"]],
        out=tmp_path_factory.mktemp("delta") / "2.0.0-delta.bundle",
    )
