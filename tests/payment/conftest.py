"""An agent's payment side, switched on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.payment.process import AgentProcess


@pytest.fixture
def agent(short_path: Path) -> Iterator[AgentProcess]:
    made = AgentProcess(short_path / "api.sock")
    made.up()
    yield made
    made.down()
