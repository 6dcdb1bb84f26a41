"""The engine's own rules: how often progress is journalled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from posagent.agent.engine import STEPS
from posagent.core.model import Command
from posagent.sim.inprocess import InProcessTerminal

CHUNK_BYTES = 256 * 1024


@pytest.fixture
def fetching(in_process: Callable[[], InProcessTerminal]) -> InProcessTerminal:
    terminal = in_process()
    terminal.silent.add("fetch")
    terminal.ask("update", source="http://x/y")
    terminal.run_until(lambda one: bool(one.situation.attempts.get("fetch")))
    return terminal


@pytest.mark.parametrize(("known", "records_max"), [(True, STEPS + 1), (False, 32)])
def test_progress_is_journalled_in_steps_whether_the_length_is_known_or_not(
    known: bool, records_max: int, fetching: InProcessTerminal
) -> None:
    journal, records = fetching._engine._journal, list[Mapping[str, Any]]()
    append = journal.append

    def appended(record: Mapping[str, Any]) -> None:
        records.append(record)
        append(record)

    journal.append = appended  # type: ignore[method-assign]
    total = 2000 * CHUNK_BYTES
    for done in range(CHUNK_BYTES, total + 1, CHUNK_BYTES):
        fetching._engine.report_progress(done, total if known else 0, "", Command.FETCH)
    assert 10 < len(records) <= records_max
    assert fetching.situation.attempts.get("fetch") is None, "who gets further may try again"


def test_what_is_done_again_is_no_progress(fetching: InProcessTerminal) -> None:
    fetching._engine.report_progress(60, 100, "", Command.FETCH)
    fetching.boot()
    fetching.run_until(lambda one: bool(one.situation.attempts.get("fetch")))
    for total in (100, 90, 0, 110):
        fetching._engine.report_progress(60, total, "", Command.FETCH)
        assert fetching.situation.attempts["fetch"] == 1
    fetching._engine.report_progress(70, 100, "", Command.FETCH)
    assert fetching.situation.attempts.get("fetch") is None
