"""A lab for tests on real processes: one release desk and web server a session, a fresh terminal a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.sim.lab import Lab, SimulatedTerminal

NOISE_MIB = 3
"""Bytes that do not compress, so that download and install take a moment."""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    base = Path(tempfile.mkdtemp(prefix="lab-"))
    made = Lab(base, rate_limit="6m")
    yield made
    made.close()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def terminal(lab: Lab, request: pytest.FixtureRequest) -> Iterator[SimulatedTerminal]:
    made = lab.terminal(f"t{abs(hash(request.node.nodeid)) % 10**8}")
    yield made
    made.down()


def noisy(lab: Lab, version: str, **how: Any) -> Path:
    """An image of `version` with some megabytes of noise in it."""
    tree = lab.base / f"tree-{version}"
    tree.mkdir(exist_ok=True)
    (tree / "noise").write_bytes(os.urandom(NOISE_MIB << 20))
    return lab.image(version, tree=tree, **how)
