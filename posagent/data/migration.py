"""Makes the copy of the merchant's data that a version on trial works on: copied, migrated, compared, durable.

Rules: the generation it is made from is only read. The steps are the image's and run as the data's owner; before they
do, nobody but root gets into the old data any more. Whatever they do, the money and the counters in the copy are read
by the new version's own declaration and must be what they were: a step's word counts for nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import TypeVar

from posagent.core.errors import PosagentError
from posagent.core.ledger import Difference, Summary, compare, compare_counters, lost
from posagent.core.ports import Message, Steps
from posagent.data import copying
from posagent.data.money import Money
from posagent.data.place import Place
from posagent.data.record import Generation

APPLIED, NOT_APPLICABLE, ABORT = 0, 1, 2
"""Exit codes of a step."""
DIFFERENCES_MAX = 8
T = TypeVar("T")
Working = Generator[Message, None, T]
"""Yields progress `{phase, at}`."""


class Migration:
    """Raises PosagentError `data_step_failed`, `data_money_differs`, `data_unreadable`, `data_io`; OSError."""

    def __init__(self, place: Place, money: Money, steps: Steps) -> None:
        self._place, self._money, self._steps = place, money, steps

    def make(self, current: Generation, new: Generation) -> Working[str]:
        """The generation `new`, out of the current one; ends with the digest of that. Raising leaves a leftover."""
        place = self._place
        place.begin(new.name)
        old, inside = place.inside(current.name), place.inside(new.name)
        source = yield from _told("copy", copying.copy(place.trees, place.databases, old, inside))
        if current.format != new.format:
            place.only_into(new.name)
            yield from self._migrate(inside, current.format, new.format)
        self._compare(current, new)
        if source != (yield from self.digest(current)):
            raise PosagentError("data_io", f"{old} changed while it was copied")
        for path in place.settle(new.name):
            yield progress("sync", path)
        return source

    def digest(self, generation: Generation) -> Working[str]:
        """Of everything in it."""
        place = self._place
        work = copying.digest(place.trees, place.databases, place.inside(generation.name))
        return (yield from _told("compare", work))

    def _migrate(self, directory: str, format_from: int, format_to: int) -> Working[None]:
        """All steps of the image; the first that fails ends it."""
        applied = False
        for run in self._steps.run(directory, format_from, format_to):
            yield progress("step", run.name)
            if not run.ended:
                continue
            if run.trouble or run.code not in (APPLIED, NOT_APPLICABLE):
                why = run.trouble or ("gave up" if run.code == ABORT else f"ended with {run.code}")
                detail = f"{run.name}: {why}" + (f": {run.said}" if run.said else "")
                raise PosagentError("data_step_failed", detail, step=run.name)
            applied = applied or run.code == APPLIED
        if not applied:
            raise PosagentError("data_step_failed", f"no step leads from format {format_from} to {format_to}")

    def need_all_of(self, current: Generation, copy: Generation) -> None:
        """Raises PosagentError `data_money_differs` where the version on trial has lost payments of its copy."""
        place, money = self._place, self._money
        if "none" in (current.ledger.kind, copy.ledger.kind):
            return
        gone = lost(
            money.payments(place.inside(current.name), current.ledger),
            money.payments(place.inside(copy.name), copy.ledger),
        )
        if gone:
            raise _differ(gone)

    def _compare(self, current: Generation, new: Generation) -> None:
        """Raises PosagentError `data_money_differs` where the copy has not the same money, `data_step_failed` where it
        cannot be read any more."""
        summary, numbers = self._read(current)
        try:
            summary_after, numbers_after = self._read(new)
        except PosagentError as error:
            if current.format == new.format:
                raise
            raise PosagentError("data_step_failed", f"what the steps made cannot be read: {error.detail}") from None
        found = compare(summary, summary_after) + compare_counters(current.counters, numbers, numbers_after)
        if found:
            raise _differ(found)

    def _read(self, one: Generation) -> tuple[Summary | None, dict[str, int]]:
        """Money and counters, by the generation's own declaration."""
        inside = self._place.inside(one.name)
        return self._money.summary(inside, one.ledger), self._money.counters(inside, one.counters)


def _differ(found: list[Difference]) -> PosagentError:
    first = found[0]
    detail = f"{first.measure}: {first.after}, before {first.before}" + ", and more" * (len(found) > 1)
    shown = [dataclasses.asdict(one) for one in found[:DIFFERENCES_MAX]]
    facts = {"measure": first.measure, "measured": first.after, "limit": first.before, "differences": shown}
    return PosagentError("data_money_differs", detail, **facts)


def progress(phase: str, path: str) -> Message:
    return {"progress": {"phase": phase, "at": path}}


def _told(phase: str, work: Generator[str, None, str]) -> Working[str]:
    """What the work ends with, and a message for each of its steps."""
    while True:
        try:
            path = next(work)
        except StopIteration as end:
            return str(end.value)
        yield progress(phase, path)
