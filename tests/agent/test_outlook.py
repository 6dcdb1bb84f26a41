"""What payment applications are told, and what an answer of theirs changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.agent import outlook
from posagent.agent.payment import Answer
from posagent.core.model import State
from posagent.release import bundle
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import HARDWARE, Desk

Make = Callable[[], InProcessTerminal]


@pytest.fixture(scope="module")
def made(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("conditions")

    def make(condition: str) -> Path:
        terms: dict[str, Any] = {"conditions": [condition]}
        out, image = folder / f"{condition}.bundle", desk.images["2.0.0"]
        return bundle.build(
            image, version="2.0.0", compatible=[HARDWARE], keys_dir=desk.keys, out=out, terms=terms, level=1
        )

    return make


def told(terminal: InProcessTerminal) -> Any:
    return outlook.of(terminal._engine, terminal.time.monotonic())


def answered(terminal: InProcessTerminal) -> tuple[int, str]:
    """How often it was put off, and who agreed."""
    update = terminal.situation.update
    assert update is not None
    return update.deferrals, update.consent_by


def test_after_the_batch_was_settled_for_an_update_no_payment_begins(
    in_process: Make, made: Callable[[str], Path], desk: Desk
) -> None:
    for source, may in ((made("reconcile"), False), (desk.bundles["2.0.0"], True)):
        terminal = in_process()
        terminal.ask("update", source=str(source))
        terminal.run_until(lambda one: one.state is State.READY)
        assert told(terminal).may_hold
        terminal.run_until(lambda one: one.state is State.INSTALL)
        assert told(terminal).may_hold is may


def test_the_merchant_is_asked_once_and_the_answer_counts_for_that_question_alone(
    in_process: Make, made: Callable[[str], Path]
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(made("confirm")))
    terminal.run_until(lambda one: one.state is State.READY)
    question = told(terminal).question
    assert question is not None and "2.0.0" in question.text and "2.0.0" in question.text_zh
    terminal.step()
    assert told(terminal).question.id == question.id
    other = Answer(question="another", yes=True, by="app")
    outlook.answered(terminal._engine, terminal.api, other)
    assert answered(terminal) == (0, "")
    outlook.answered(terminal._engine, terminal.api, Answer(question=question.id, yes=False, by="app"))
    assert answered(terminal) == (1, "")
    outlook.answered(terminal._engine, terminal.api, Answer(question=question.id, yes=True, by="app (uid 990)"))
    assert answered(terminal) == (1, "app (uid 990)")
    assert told(terminal).question is None
