"""Two traces of one update side by side: the same operations at every place, and nothing written before its flush.

Owns: what may happen in either order, because different processes do it and neither waits for the other (`_Model`).
Everything else that the model does after a flush, reality must begin after that flush has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tests.crash.conformance.operations import JOURNAL, PLACES, Operation

CONTEXT = 8
WIDTH = 66
PROGRESS = "record progressed>"
LAST = "record marked_good>idle"


@dataclass(frozen=True, slots=True)
class Order:
    """`flush` ended before `then` began, on the model; both by their numbers there."""

    flush: int
    then: int


def told(done: Sequence[Operation]) -> list[str]:
    """The operations in words that say which journal record is written and synced: `record due>install synced`."""
    found, last = list[str](), ""
    for one in done:
        words = one.text.split()
        if words[:2] == ["write", JOURNAL]:
            last = f"record {words[3]}"
            found.append(last)
        else:
            found.append(f"{last} synced" if words == ["sync", JOURNAL] else one.text)
    return found


def at(place: str, done: Sequence[Operation]) -> list[Operation]:
    return [one for one in done if one.place == place]


def difference(model: Sequence[Operation], real: Sequence[Operation]) -> str | None:
    """The first place at which the two sequences differ, with what is around it; None where they are equal."""
    pairs = list(zip_longest(model, real))
    first = next((n for n, (one, other) in enumerate(pairs) if _text(one) != _text(other)), None)
    if first is None:
        return None
    lines = [f"{'':5}{'model':<{WIDTH}}  reality (line of the trace, process)"]
    for number in range(max(0, first - CONTEXT), min(len(pairs), first + CONTEXT + 1)):
        one, other = pairs[number]
        mark = "  " if _text(one) == _text(other) else "!="
        where = f"  ({other.begin}, {other.who})" if other else ""
        lines.append(f"{number:4} {_text(one):<{WIDTH}}{mark}{_text(other)}{where}")
    return "\n".join(lines)


def _text(one: Operation | None) -> str:
    return "-" if one is None else one.text


def orders(model: Sequence[Operation]) -> list[Order]:
    """For each flush and each other place the first operation there that must wait for it; the rest follows."""
    waits = _Model(model)
    found = []
    for flush in (n for n, one in enumerate(model) if one.flush):
        for place in PLACES:
            later = (n for n in range(flush + 1, len(model)) if model[n].place == place != model[flush].place)
            first = next((n for n in later if not waits.independent(flush, n)), None)
            if first is not None:
                found.append(Order(flush, first))
    return found


class _Model:
    """Which operations of the model are independent of each other although it does them one after the other.

    * The agent notes a worker's progress while the worker goes on.
    * After the last record of an update the agent compacts its journal while the fetcher empties the spool and the
      installer looks after the running slot.
    """

    def __init__(self, done: Sequence[Operation]) -> None:
        self._places = [one.place for one in done]
        words = told(done)
        self._notes = {number for number, text in enumerate(words) if text.startswith(PROGRESS)}
        self._end = words.index(f"{LAST} synced") if f"{LAST} synced" in words else len(done)

    def independent(self, one: int, other: int) -> bool:
        places = {self._places[one], self._places[other]}
        alone = places != {"installer", "environment"}
        return bool({one, other} & self._notes) or (min(one, other) > self._end and alone)


def matched(model: Sequence[Operation], real: Sequence[Operation]) -> list[Operation]:
    """The real operation for each of the model's; the sequences at every place must be equal."""
    for place in PLACES:
        assert difference(at(place, model), at(place, real)) is None, (
            f"{place}: the operations differ, see their own test"
        )
    places = {place: iter(at(place, real)) for place in PLACES}
    return [next(places[one.place]) for one in model]


def broken(model: Sequence[Operation], real: Sequence[Operation], checked: Sequence[Order]) -> list[str]:
    """The orders of the model that reality did not keep."""
    words, pairs = told(model), matched(model, real)
    return [
        f"{words[one.flush]} (line {pairs[one.flush].begin} to {pairs[one.flush].end}, {pairs[one.flush].who}) "
        f"did not end before {words[one.then]} (line {pairs[one.then].begin}, {pairs[one.then].who})"
        for one in checked
        if pairs[one.flush].end >= pairs[one.then].begin
    ]
