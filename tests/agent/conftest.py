"""Workers that lie, for the agent's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from posagent.core.ports import Job, Message, Notify
from posagent.sim.virtual import LocalJob, LocalWorker

Lies = dict[str, Message]


@pytest.fixture
def lies(monkeypatch: pytest.MonkeyPatch) -> Lies:
    """Verb -> what its worker says instead of doing it."""
    told: Lies = {}
    real = LocalWorker.start

    def start(self: LocalWorker, verb: str, args: Mapping[str, Any], notify: Notify) -> Job:
        if verb in told:
            return LocalJob(iter([told[verb]]), notify, self._time, self._step_s)
        return real(self, verb, args, notify)

    monkeypatch.setattr(LocalWorker, "start", start)
    return told
