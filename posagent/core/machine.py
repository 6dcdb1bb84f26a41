"""`decide`: the one door to the table; transitions.Machine finds the row, nothing happens in callbacks.

Rules: synchronous, one cursor that is placed before every question, guards only. The machine never holds state of
its own: the situation is the journal's, and `decide` is a function of its arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transitions import Machine

from posagent.core import ladder, update_record
from posagent.core.model import (
    EVIDENCE,
    Command,
    Decision,
    Event,
    Facts,
    Occurrence,
    OutcomeKind,
    Situation,
    State,
    Update,
    fold,
)
from posagent.core.states import IGNORED, TABLE, Row

COUNTED = frozenset(Command) - {
    Command.WATCH,
    Command.STOP,
    Command.DISCARD,
    Command.REFRESH,
    Command.SETTLE,
    Command.RESTART,
}
"""Commands whose starts are counted as attempts."""

OUTAGE = ("activate", "selftest", "commit")

CARRIED = ("update", "begins", "failure", "measured", "progressed", "ticket")
"""Parts of an event's data that become part of the record."""


FETCHING = (State.DOWNLOAD, State.VERIFY)
"""Where trouble is met with the steps of core.ladder."""


class _Cursor:
    """The machine's model while one question is asked: where it stands and which row fired."""

    state: State = State.IDLE
    row: Row | None = None

    def place(self) -> None:
        self.row = None


class Table:
    """A transitions.Machine built from rows."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._cursor = _Cursor()
        self._machine = Machine(
            model=self._cursor, states=list(State), initial=State.IDLE, auto_transitions=False, send_event=False
        )
        self.pairs: set[tuple[State, Event]] = set()
        for row in rows:
            self.pairs.add((row.source, row.on))
            self._machine.add_transition(row.on.value, row.source, row.to, conditions=[self._condition(row)])

    def _condition(self, row: Row) -> Callable[[Situation, Occurrence, Facts], bool]:
        def holds(situation: Situation, occurrence: Occurrence, facts: Facts) -> bool:
            if row.when is not None and not row.when(situation, occurrence, facts):
                return False
            self._cursor.row = row
            return True

        return holds

    def row(self, situation: Situation, occurrence: Occurrence, facts: Facts) -> Row:
        """The row that applies. A table with a hole is an error of the programmer."""
        self._cursor.place()
        self._machine.set_state(situation.state, self._cursor)
        self._machine.events[occurrence.event.value].trigger(self._cursor, situation, occurrence, facts)
        found = self._cursor.row
        assert found is not None, f"no row holds for {situation.state}, {occurrence.event}"
        assert self._cursor.state is found.to
        return found


_TABLE = Table(TABLE)


def decide(situation: Situation, occurrence: Occurrence, facts: Facts) -> Decision:
    """What follows from the event: a function of its arguments, without effects."""
    if situation.state in IGNORED.get(occurrence.event, ()):
        return Decision(situation=situation)
    row = _TABLE.row(situation, occurrence, facts)
    if row.refuse is not None or not row.durable:
        return Decision(situation=situation, commands=row.do, refusal=row.refuse)
    record = _record(situation, occurrence, facts, row)
    return Decision(situation=fold(situation, record), record=record, commands=row.do)


def _record(situation: Situation, occurrence: Occurrence, facts: Facts, row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"event": row.on.value, "state": row.to.value, "at": round(facts.now, 3)}
    if row.carries:
        record.update({key: occurrence.data[key] for key in CARRIED if key in occurrence.data})
    if situation.state is State.ROLLBACK and situation.failure is not None:
        trouble = record.pop("failure", None)  # on the way back it must not hide why we go back
        if trouble is not None and row.outcome is not None:
            record["failure"] = _unfinished(situation.failure, trouble, row)
    if row.failure is not None and "failure" not in record:
        record["failure"] = _blame(situation, row)
    if row.source in FETCHING and row.to in FETCHING and "failure" in record and situation.update is not None:
        _help(situation, situation.update, record, row)
    counted = [command.value for command in row.do if command in COUNTED]
    if counted:
        record["commands"] = counted
    if row.outcome is not None:
        record["outcome"] = _outcome(situation, record, facts, row.outcome)
        if row.to is State.IDLE:
            record.pop("begins", None)
        elif "begins" in record:
            record.pop("failure", None)  # why the one ended is nothing that the next one met
    elif situation.update is not None and "begins" not in record:
        update = _timed(situation.update, record)
        told = update_record.going_on(update, situation.state, row.to, record["at"], facts)
        if told:
            record["update"] = {**record.get("update", {}), **told}
    if "begins" in record:
        record["begins"] = {**record["begins"], "entered_at": record["at"]}
    return record


def _help(situation: Situation, update: Update, record: dict[str, Any], row: Row) -> None:
    """Which step follows on the trouble; a download that is given up comes twice."""
    changes: dict[str, Any] = dict(record.get("update", {}))
    now = ladder.step(record["failure"]["code"], situation.attempts.get(Command.FETCH, 0), update.downloads)
    if now is not None:
        record["failure"] = {**record["failure"], "step": now.value}
        changes["steps"] = list(ladder.climbed(update.steps, now))
    if Command.DISCARD in row.do:
        changes |= {"downloads": update.downloads + 1, "bytes_lost": update.bytes_lost + update.bytes_fetched}
    if changes:
        record["update"] = changes


def _blame(situation: Situation, row: Row) -> Mapping[str, Any]:
    """When attempts are spent, the last trouble seen is the better answer than the row's general one."""
    if row.on is Event.DUE and situation.failure is not None:
        return situation.failure
    return {"code": row.failure}


def _unfinished(why: Mapping[str, Any], trouble: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
    """Why we went back, and why that could not be finished."""
    details = "; ".join(str(one.get("detail") or one["code"]) for one in (why, trouble))
    return {**why, "code": row.failure or why["code"], "detail": details}


def _outcome(situation: Situation, record: Mapping[str, Any], facts: Facts, kind: OutcomeKind) -> dict[str, Any]:
    update = situation.update
    assert update is not None, "an outcome without an update"
    update = _timed(update, record)
    failure = record.get("failure") or (situation.failure if kind is not OutcomeKind.COMMITTED else None) or {}
    if kind is OutcomeKind.ROLLED_BACK and not update.tried:
        kind = OutcomeKind.FAILED  # the new version was never started: there was nothing to go back from
    return {
        "outcome": kind.value,
        "code": failure.get("code", "ok"),
        "detail": failure.get("detail", ""),
        **{key: failure[key] for key in ("cause", "stage", *EVIDENCE) if failure.get(key)},
        "id": update.id,
        "version": update.version,
        "from_version": update.from_version,
        "at": round(facts.now, 3),
        "started_at": update.requested_at,
        **({"kind": "rollback"} if update.goes_back else {}),
        **({"action": update.action} if update.action else {}),
        **({"migrated": migrated} if kind is OutcomeKind.COMMITTED and (migrated := update.migrated) else {}),
        **({"kind": update.kind} if update.only_parameters else {}),
        **({"restarted": True} if (update.armed or update.tried) and not update.only_parameters else {}),
        **({"estimates": estimates} if (estimates := _held_against(update)) else {}),
        **({"steps": list(update.steps)} if update.steps and kind is OutcomeKind.FAILED else {}),
        "record": update_record.of(update, situation.state, round(facts.now, 3), facts, failure),
    }


def _timed(update: Update, record: Mapping[str, Any]) -> Update:
    """With what the phase that ends took."""
    took_s = record.get("update", {}).get("took_s")
    return update if took_s is None else dataclasses.replace(update, took_s=took_s)


def _held_against(update: Update) -> dict[str, dict[str, float]]:
    """What was foretold of each phase beside the seconds it took."""
    took_s = dict(update.took_s)
    outage = [took_s[name] for name in OUTAGE if name in took_s]
    if len(outage) == len(OUTAGE):
        took_s["outage"] = sum(outage)
    return {
        name: {"p50": told["p50"], "p90": told["p90"], "took_s": round(took_s[name], 1)}
        for name, told in update.predicted.items()
        if name in took_s
    }
