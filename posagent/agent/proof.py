"""The self-test worker with evidence of the installer's: before each run the installer proves the running slot.

The tests' own process may not read slots, and the installer runs no tests (docs/adr/0002); so the agent carries what
the one has seen to the other. Rules: for whoever asks it is one verb of one worker, and hanging up ends whatever is
under way. An installer in trouble is the trouble of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posagent.core.ports import Job, Message, Notify, Worker


class ProvingTester:
    """core.ports.Worker."""

    def __init__(self, installer: Worker, tester: Worker) -> None:
        self._installer = installer
        self._tester = tester

    def start(self, verb: str, args: Mapping[str, Any], notify: Notify) -> Job:
        if verb != "run":
            return self._tester.start(verb, args, notify)
        return _Chain(self._installer, self._tester, args, notify)


class _Chain:
    """core.ports.Job: first the proof, then the run."""

    def __init__(self, installer: Worker, tester: Worker, args: Mapping[str, Any], notify: Notify) -> None:
        self._tester, self._args, self._notify = tester, args, notify
        self._open = True
        self._job: Job | None = None
        self._begin(installer, "prove_slot", {}, self._proved)

    def cancel(self) -> None:
        self._open = False
        if self._job is not None:
            self._job.cancel()

    def _begin(self, worker: Worker, verb: str, args: Mapping[str, Any], notify: Notify) -> None:
        before = self._job
        job = worker.start(verb, args, notify)
        if self._job is before:  # else it has answered at once, and the next one is under way
            self._job = job

    def _proved(self, message: Message) -> None:
        if not self._open or "progress" in message:
            return
        if "result" not in message:
            self._notify(message)
            return
        self._begin(self._tester, "run", {**self._args, "slot": message["result"]}, self._notify)
