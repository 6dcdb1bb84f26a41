"""What the data worker does for an update: a backup before the slot is written, the take-over on the trial boot, the
switch at the commit, and what is left to clear away afterwards; parameters that come alone take the same way.

Rules: the old data is the way back, so whatever fails here fails before payments are taken on the new version. A
terminal without data of its own to keep has no such worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.agent import answers
from posagent.agent.asking import Asking, Failed
from posagent.agent.engine import Engine, Progress
from posagent.core.errors import CATALOGUE, PosagentError, Retry
from posagent.core.model import Event, Occurrence, Update
from posagent.core.ports import Message, Worker

SEALING = "seal"
"""The step of a backup in which the data is read."""


class MerchantData:
    """`ask` is for the update under way, `worker` is asked directly what belongs to none."""

    def __init__(
        self, engine: Engine, worker: Worker, ask: Asking, on_removed: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._engine, self._worker, self._ask, self._on_removed = engine, worker, ask, on_removed
        self._problem = ""

    def back_up(self, update: Update, then: Callable[[str], None], failed: Failed) -> None:
        """A sealed copy that was opened again; `then` gets its name. No payment may begin while the data is read."""

        def over() -> None:
            self._engine.quiesce(False)

        def made(name: str) -> None:
            over()
            then(name)

        def lost(error: PosagentError) -> None:
            over()
            failed(error)

        def heard(told: Progress) -> None:
            if told.step != SEALING:
                over()

        self._engine.quiesce(True)
        self._ask.data("backup", {"update_id": update.id, "version": update.version}, made, lost, heard)

    def take_over(
        self, update: Update, then: Callable[[Mapping[str, Any]], None], failed: Failed, lost: Failed
    ) -> None:
        """The running version gets a copy in its own format, and the parameters; `then` gets what the update is to know
        of it. `failed` is for what trying again cannot help, `lost` for the rest."""

        def trouble(error: PosagentError) -> None:
            (failed if CATALOGUE[error.code].retry is Retry.NEVER else lost)(error)

        if update.only_parameters:
            self._ask.data("parameters", {"do": "begin", "update_id": update.id}, then, trouble)
        else:
            self._ask.data("migrate", {}, then, trouble)

    def switch(self, update: Update, then: Callable[[object], None], failed: Failed) -> None:
        """From now on payments are taken on the copy, with the parameters."""
        if update.only_parameters:
            self._ask.data("parameters", {"do": "commit", "update_id": update.id}, self._read(then), failed)
        else:
            self._ask.data("switch", {"committed_at": int(self._engine.now())}, then, failed)

    def withdraw(self, update: Update, then: Callable[[object], None], failed: Failed) -> None:
        """The parameters that came alone are dropped."""
        self._ask.data("parameters", {"do": "withdraw", "update_id": update.id}, self._read(then), failed)

    def _read(self, then: Callable[[object], None]) -> Callable[[object], None]:
        """The update ends whatever the application says; one that could not read its parameters does so at a start."""

        def told(reloaded: object) -> None:
            then(reloaded)
            if reloaded is False:
                self._engine.post(Occurrence(event=Event.RESTART_DUE))

        return told

    def tidy(self) -> None:
        """Clear away what belongs to no update any more; the worker says whether the terminal has its data."""

        def heard(message: Message) -> None:
            try:
                told = answers.read("tidy", message)
            except PosagentError as error:
                self._report(error)
                return
            if isinstance(told, answers.Tidied):
                self._report(PosagentError(told.problem) if told.problem else None)
                if told.removed:
                    self._on_removed(told.removed)

        self._worker.start("tidy", {}, heard)

    def _report(self, problem: PosagentError | None) -> None:
        self._engine.problems.pop(self._problem, None)
        self._problem = problem.code if problem is not None else ""
        if problem is not None:
            self._engine.report_problem(problem)
