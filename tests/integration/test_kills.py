"""SIGKILL of any process at any time: a short set of the campaign that `make kills` runs in full."""

from __future__ import annotations

import pytest

from tests.integration import kills


@pytest.mark.real
def test_a_killed_process_never_stops_an_update() -> None:
    result = kills.run(2, seed=7)
    for process in kills.PROCESSES:
        assert result[process]["bad"] == [], process
        assert result[process]["kills"] == 2
