"""What is kept of an update for whoever asks later: one record each, written with its outcome. Pure.

Owns: `record` of an outcome in the journal, and what of the update under way it is made from (`going_on`); and the form
that people and programs get (`shown`), from which tickets, status reports and the line in the audit log are made.
Rules: phases are seconds by the wall clock from one journal record to the next, because they last across restarts, with
what they waited; where the clock was set meanwhile it is what was measured, or nothing. Waits are measured, and what
came after the last journal record before a power cut is lost. The stored form has only what there is, in
RECORD_BYTES_MAX. `shown` never raises, whatever a journal of another release holds, and texts of others leave it
without card numbers, keys and what cannot be printed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from posagent.core.manifest import PARAMETERS
from posagent.core.model import Facts, State, Update
from posagent.core.redact import Redactor
from posagent.core.results import result_of

Record = Mapping[str, Any]

RECORD_BYTES_MAX = 2048
PHASE_S_MAX = 90 * 86400.0
NAMES_MAX = 16
MEASURES_MAX = 24
NAME_CHARACTERS_MAX = 40
WHY_CHARACTERS_MAX = 80
TEXT_CHARACTERS_MAX = 200
LOOKED_AT_MAX = 4000
"""Characters of a text that are looked at: what is behind them is not shown."""
NUMBER_MAX = 10**12 - 1
"""One digit more, and it may be a card's."""
WHOLE_FROM, FINE_TO = 10**10, 10**8
"""So that decimals do not make it as long: from here on a number has none, up to there a figure has three."""
MOMENT_MAX = 253_402_300_799
"""The last second of the year 9999."""
MEASURED = ("measure", "value", "limit")
"""What a self-test may say of what it measured."""
RESTART_GATES = ("power_restart", "payment_restart")
WARNINGS = ("delta_refused", "fetched_again", "power_cycles")


# while it goes on


def going_on(update: Update, state: State, into: State, at: float, facts: Facts) -> dict[str, Any]:
    """What a journal record adds to the update; `state` is where it was, `into` where the record puts it."""
    told: dict[str, Any] = {}
    if into is not state:
        told |= {"phases": _phases(update, state, at), "entered_at": at}
    if facts.waited:
        told["waited"] = _waited(update, facts)
    return told


def _phases(update: Update, state: State, at: float) -> dict[str, float]:
    before, seconds = dict(update.phases), at - update.entered_at
    if not update.entered_at or not 0 <= seconds <= PHASE_S_MAX:
        measured = update.took_s.get(state.value)
        return before if measured is None else {**before, state.value: round(measured, 1)}
    return {**before, state.value: round(before.get(state.value, 0.0) + seconds, 1)}


def _waited(update: Update, facts: Facts) -> dict[str, dict[str, Any]]:
    merged = {name: dict(one) for name, one in update.waited.items()}
    for name, one in facts.waited.items():
        known = merged.get(name)
        if known is not None:
            known["s"] = round(known["s"] + one["s"], 1)
        elif len(merged) < NAMES_MAX:
            merged[name] = {"s": round(one["s"], 1), "why": str(one["why"])[:WHY_CHARACTERS_MAX]}
    return merged


# when it ends


def of(update: Update, state: State, at: float, facts: Facts, failure: Mapping[str, Any]) -> dict[str, Any]:
    """The record to be stored. `failure` may have the checks of the self-test that failed."""
    seen = facts.observation
    slot = seen.slots.get(update.target) if seen is not None else None
    digests = {"bundle": update.sha256, "image": update.digest, "slot": slot.digest if slot is not None else ""}
    if update.only_parameters:
        digests = {"bundle": update.sha256, "parameters": update.digest}
    told = {
        "by": update.requested_by,
        "phases": _phases(update, state, at),
        "waited": _waited(update, facts),
        "consent": {"by": update.consent_by, "at": update.consent_at} if update.consent_by else None,
        "deferrals": update.deferrals,
        "deferred_by": update.deferred_by,
        "at_once": update.at_once,
        "reason": update.reason,
        "kind": update.kind,
        "refused": update.refused,
        "downloads": update.downloads,
        "bytes": update.bytes_fetched + update.bytes_lost,
        "power_cycles": update.power_cycles,
        "digests": {name: digest for name, digest in digests.items() if digest},
        "measures": [_measure(one) for one in (update.measures or failure.get("checks") or ())][:MEASURES_MAX],
        "backup": update.backup,
        "migrated": update.migrated,
        "parameters": update.parameters,
    }
    return _bounded({name: value for name, value in told.items() if value})


def _measure(check: Mapping[str, Any]) -> dict[str, Any]:
    told = {"name": str(check.get("name", ""))[:NAME_CHARACTERS_MAX], "passed": check.get("passed") is True}
    figures = {name: check[name] for name in ("seconds", *MEASURED) if check.get(name) not in (None, "")}
    return told | {name: one[:NAME_CHARACTERS_MAX] if isinstance(one, str) else one for name, one in figures.items()}


def _bounded(record: dict[str, Any]) -> dict[str, Any]:
    """What is least missed goes first: tests that were passed, the gates' reasons, then all that may be long."""
    leaner: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
        lambda one: {**one, "measures": [check for check in one["measures"] if not check["passed"]]},
        lambda one: {**one, "waited": {name: {"s": wait["s"]} for name, wait in one["waited"].items()}},
        lambda one: {
            name: value for name, value in one.items() if name not in ("measures", "backup", "migrated", "parameters")
        },
        lambda one: {name: value for name, value in one.items() if name in ("phases", "digests", "deferrals")},
    )
    filled = {"measures": [], "waited": {}, **record}
    for lean in leaner:
        if len(json.dumps(record)) <= RECORD_BYTES_MAX:
            return record
        filled = lean(filled)
        record = {name: value for name, value in filled.items() if value}
    return record


# for people and programs


def shown(outcome: Record, terminal: str) -> dict[str, Any]:
    """One update in one record: who, what, when, each phase, each gate, each digest, and its result."""
    kept = _mapping(outcome.get("record"))
    kind, code = _text(outcome.get("outcome"), 16), _text(outcome.get("code"), NAME_CHARACTERS_MAX)
    troubles = (kept.get("refused"), kept.get("downloads"), kept.get("power_cycles"))
    warnings = [name for name, trouble in zip(WARNINGS, troubles, strict=True) if trouble]
    consent, ticket = _mapping(kept.get("consent")), _mapping(outcome.get("ticket"))
    began, ended = (_number(outcome.get(name), MOMENT_MAX) for name in ("started_at", "at"))
    return {
        "terminal": _text(terminal),
        "id": _text(outcome.get("id"), NAME_CHARACTERS_MAX),
        "from_version": _text(outcome.get("from_version")),
        "version": _text(outcome.get("version")),
        "kind": "rollback" if outcome.get("kind") == "rollback" else _text(kept.get("kind"), 16),
        "outcome": kind,
        "code": code,
        "result": str(result_of(kind, code, warnings)),
        "detail": _text(outcome.get("detail")),
        "cause": _text(outcome.get("cause"), 16),
        "stage": _text(outcome.get("stage"), NAME_CHARACTERS_MAX),
        "warnings": warnings,
        "began": began,
        "ended": ended,
        "reason": _text(kept.get("reason"), NAME_CHARACTERS_MAX),
        "by": _text(kept.get("by")),
        "at_once": kept.get("at_once") is True,
        "consent": {"by": _text(consent.get("by")), "at": _number(consent.get("at"), MOMENT_MAX)} if consent else None,
        "deferrals": _number(kept.get("deferrals")),
        "deferred_by": _text(kept.get("deferred_by")),
        "phases": {name: _number(seconds) for name, seconds in _named(kept.get("phases"))},
        "gates": [
            {"gate": name, "seconds": _number(_mapping(one).get("s")), "why": _text(_mapping(one).get("why"))}
            for name, one in _named(kept.get("waited"))
        ],
        "measures": list(_measures(outcome.get("checks") or kept.get("measures"))),
        "digests": {name: _text(digest, 128) for name, digest in _named(kept.get("digests"))},
        "bytes": _number(kept.get("bytes")),
        "power_cycles": _number(kept.get("power_cycles")),
        "backup": _text(kept.get("backup")),
        "migrated": _text(kept.get("migrated"), 16),
        "parameters": _text(kept.get("parameters"), 64),
        "support_code": _text(ticket.get("code"), 16),
    }


def outage_s(record: Record) -> float | None:
    """For how long no payment could be taken; None where the terminal was not restarted. While the restart waited for a
    gate, payments went on."""
    if record["kind"] == PARAMETERS:
        return None
    phases = record["phases"]
    whole = sum(phases.get(name, 0.0) for name in ("activate", "selftest", "commit", "rollback"))
    held = max((gate["seconds"] for gate in record["gates"] if gate["gate"] in RESTART_GATES), default=0.0)
    return max(round(whole - held, 1), 0.0) if whole else None


def for_audit(outcome: Record) -> dict[str, Any]:
    """What the line in the audit log says beside how it ended."""
    told = shown(outcome, "")
    kept = {
        "result": told["result"],
        "by": told["by"],
        "phases": told["phases"],
        "waited": {gate["gate"]: gate["seconds"] for gate in told["gates"]},
        "consent": told["consent"]["by"] if told["consent"] else "",
        "deferrals": told["deferrals"],
        "failed": ",".join(one["name"] for one in told["measures"] if not one["passed"]),
        "digests": told["digests"],
    }
    return {name: value for name, value in kept.items() if value}


def _measures(checks: Any) -> Iterable[dict[str, Any]]:
    for check in list(checks)[:MEASURES_MAX] if isinstance(checks, list | tuple) else ():
        one = _mapping(check)
        name = _text(one.get("name"), NAME_CHARACTERS_MAX)
        told = {"name": name, "passed": one.get("passed") is True, "seconds": _number(one.get("seconds"))}
        figures = {part: _figure(one[part]) for part in MEASURED if one.get(part) not in (None, "")}
        yield {**told, **figures, "detail": _text(one.get("detail")) if not told["passed"] else ""}


def _figure(value: Any) -> Any:
    """Of a measure: a number or a few words."""
    if type(value) not in (int, float):
        return _text(value, NAME_CHARACTERS_MAX)
    return round(value, 3) if abs(value) < FINE_TO else _number(value)


def _mapping(value: Any) -> Record:
    return value if isinstance(value, Mapping) else {}


def _named(value: Any) -> list[tuple[str, Any]]:
    return [(_text(str(name), NAME_CHARACTERS_MAX), one) for name, one in list(_mapping(value).items())[:NAMES_MAX]]


def _text(value: Any, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """On one line; gaps become one blank first, so that nothing hides in them."""
    if not isinstance(value, str):
        return ""
    text = Redactor().text(" ".join(value[:LOOKED_AT_MAX].split()))
    return "".join(one if one.isprintable() else "?" for one in text)[:characters_max]


def _number(value: Any, most: int = NUMBER_MAX) -> float:
    sound = type(value) in (int, float) and 0 <= value <= most
    return 0 if not sound else round(value, 1) if value < WHOLE_FROM else round(value)
