"""The engine's own rules: how often progress is journalled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from posagent.agent.engine import STEPS, Progress
from posagent.core.model import Command, State
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk

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
        fetching._engine.report_progress(Progress(bytes_done=done, bytes_total=total if known else 0), Command.FETCH)
    assert 10 < len(records) <= records_max
    assert fetching.situation.attempts.get("fetch") is None, "who gets further may try again"


def test_what_is_done_again_is_no_progress(fetching: InProcessTerminal) -> None:
    fetching._engine.report_progress(Progress(bytes_done=60, bytes_total=100), Command.FETCH)
    fetching.boot()
    fetching.run_until(lambda one: bool(one.situation.attempts.get("fetch")))
    for total in (100, 90, 0, 110):
        fetching._engine.report_progress(Progress(bytes_done=60, bytes_total=total), Command.FETCH)
        assert fetching.situation.attempts["fetch"] == 1
    fetching._engine.report_progress(Progress(bytes_done=70, bytes_total=100), Command.FETCH)
    assert fetching.situation.attempts.get("fetch") is None


@pytest.mark.parametrize(("expected", "told"), [(2_000_000, 2_000_000), (0, 0)])
def test_the_head_of_a_bundle_is_not_taken_for_all_of_it(
    expected: int, told: int, in_process: Callable[[], InProcessTerminal]
) -> None:
    terminal = in_process()
    terminal.silent.add("fetch")
    offer = {"url": "http://x/y", "length": 9_000_000, "payloads": [{"from": "", "bytes": expected, "image_bytes": 1}]}
    terminal.api._begin(offer if expected else {"url": "http://x/y"}, lambda _: None, "test")
    terminal.run_until(lambda one: bool(one.situation.attempts.get("fetch")))
    head = Progress(bytes_done=16384, bytes_total=65536)
    terminal._engine.report_progress(head, Command.FETCH, whole=False)
    assert terminal._engine.progress.bytes_total == told
    terminal._engine.report_progress(Progress(bytes_done=65536, bytes_total=1_500_000), Command.FETCH)
    assert terminal._engine.progress.bytes_total == 1_500_000, "the plan knows better"


def test_progress_of_work_that_begins_anew_after_a_cut_decides_nothing(
    in_process: Callable[[], InProcessTerminal], desk: Desk
) -> None:
    """Thousands of operations are checked, and each decision asks every gate."""
    terminal = in_process()
    terminal.silent.add("check")
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.VERIFY)
    engine = terminal._engine
    asked: list[str] = []
    engine._facts = lambda: asked.append("facts")  # type: ignore[method-assign, assignment, return-value]
    for done in range(1, 2000):
        engine.report_progress(Progress(bytes_done=done, bytes_total=2000, step="check"), Command.CHECK)
    assert asked == [] and engine.progress.bytes_done == 1999
