"""What an update will take when everything is there and nothing is left but to begin: kept, to be held against what it
took (core.drift, `posagent history --estimates`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from posagent.core.estimate import Forecast
from posagent.core.model import Event, Occurrence, Situation, State, Update
from posagent.core.spread import Span

PHASES = ("install", "activate", "selftest", "commit")
GOING_BACK = Update(id="", source="", spool="", target="", previous="", goes_back=True)
"""Any return to the other slot's version: what it takes does not depend on which."""

Ahead = Callable[[Situation], Forecast]


def added(occurrence: Occurrence, situation: Situation, ahead: Ahead) -> Occurrence:
    """The event, with what the rest will take where it is the one that leads into `ready`."""
    update, data = situation.update, dict(occurrence.data)
    if occurrence.event is Event.ACCEPTED and update is not None:
        told = "update"
        changes = dict(data.get(told, {}))
        known = dataclasses.replace(
            update, **{k: v for k, v in changes.items() if k in ("kind", "profile", "image_size")}
        )
    elif occurrence.event is Event.ROLLBACK_REQUESTED and update is None:
        told, known = "begins", GOING_BACK
        changes = dict(data.get(told, {}))
    else:
        return occurrence
    forecast = ahead(dataclasses.replace(situation, state=State.READY, update=known))
    spans = {name: span for name, span in forecast.phases.items() if name in PHASES} | {"outage": forecast.outage}
    foretold = {name: rounded({"at": 0.0, "p50": span.p50, "p90": span.p90}) for name, span in spans.items()}
    changes["predicted"] = {**known.predicted, **foretold}
    return Occurrence(event=occurrence.event, data={**data, told: changes})


def download(elapsed_s: float, left: Span) -> dict[str, float]:
    """Of one that has gone on for so long, and has so much before it."""
    return rounded({"at": elapsed_s, "p50": elapsed_s + left.p50, "p90": elapsed_s + left.p90})


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}
