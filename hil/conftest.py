"""The fixture `terminal`: one on the rig that `--rig` names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.rigs.sim import SimulatedRig
from hil.terminal import Terminal

RIGS = {"sim": SimulatedRig}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rig", default="sim", choices=sorted(RIGS), help="which rig to run the scenarios on")


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    base = Path(tempfile.mkdtemp(prefix="rig-"))
    rig = RIGS[request.config.getoption("--rig")](base)
    yield rig
    rig.close()
    shutil.rmtree(base, ignore_errors=True)
