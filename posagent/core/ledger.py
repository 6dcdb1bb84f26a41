"""The money in a payment application's data, in one form for all of them, and whether anything of it is missing.

Owns: what a payment is, what is counted and summed, and which differences between before and after count.
Rules: a migration loses nothing and invents nothing: all measures are the same, whatever the format, and counters never
go back. Amounts are whole numbers of minor units; what is no whole number is refused, not rounded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

COLUMNS = ("stan", "type", "currency", "amount", "batch", "reversal")
"""Of a payment, in the order in which a query gives them."""
WORD_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSource:
    """How the money in the data is read: `lines` are JSON objects, one a line, with the columns stan, type, currency,
    amount, batch, reversal; `sqlite` is a query for them, oldest payment first. `amount` is in minor units, `reversal`
    the place in the queue of reversals, or null."""

    kind: str = field(default="none", metadata={"values": ("none", "sqlite", "lines")})
    path: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSource:
    """A number that never goes back. Without `read` and `write` it stands alone, in decimal, in the file `path`; with
    them the file is an SQLite database, and `write` has the parameter `:value`. After `last` comes 1; 0: no end."""

    name: str
    path: str
    read: str = ""
    write: str = ""
    last: int = field(default=0, metadata={"range": (0, 2**53)})

    def ahead(self, one: int, other: int) -> bool:
        """Whether `one` comes after `other`; of a counter that begins again, within half of its range."""
        return one > other if not self.last else 0 < (one - other) % self.last < self.last / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    stan: int
    type: str
    currency: str
    amount: int
    batch: str
    reversal: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What must be the same afterwards. `totals` are (type, currency, number, sum), sorted; digests are over every
    payment in order, and over those in the queue of reversals in the queue's order. `batch` is that of the last."""

    payments: int
    totals: tuple[tuple[str, str, int, int], ...]
    stan_first: int | None
    stan_last: int | None
    batch: str
    reversals: int
    payments_sha256: str
    reversals_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "totals": [list(one) for one in self.totals]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A measure that is not what it was."""

    measure: str
    before: Any
    after: Any


def payment(row: Sequence[Any]) -> Payment:
    """One row of COLUMNS. Raises ValueError."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} columns instead of {', '.join(COLUMNS)}")
    stan, kind, currency, amount, batch, reversal = row
    return Payment(
        stan=_whole("stan", stan),
        type=_word("type", kind),
        currency=_word("currency", currency),
        amount=_whole("amount", amount),
        batch="" if batch is None else _word("batch", batch),
        reversal=None if reversal is None else _whole("reversal", reversal),
    )


def summary(payments: Iterable[Payment]) -> Summary:
    """Of payments, oldest first."""
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    queue: list[tuple[int, int, str]] = []
    every = hashlib.sha256()
    first: Payment | None = None
    last: Payment | None = None
    count = 0
    for one in payments:
        number, amount = totals.get((one.type, one.currency), (0, 0))
        totals[one.type, one.currency] = (number + 1, amount + one.amount)
        text = json.dumps([one.stan, one.type, one.currency, one.amount, one.batch], separators=(",", ":"))
        every.update(f"{text}\n".encode())
        if one.reversal is not None:
            queue.append((one.reversal, count, text))
        first, last, count = first or one, one, count + 1
    waiting = "".join(f"{text}\n" for _, _, text in sorted(queue))
    return Summary(
        payments=count,
        totals=tuple(sorted((kind, currency, *sums) for (kind, currency), sums in totals.items())),
        stan_first=first.stan if first else None,
        stan_last=last.stan if last else None,
        batch=last.batch if last else "",
        reversals=len(queue),
        payments_sha256=every.hexdigest(),
        reversals_sha256=hashlib.sha256(waiting.encode()).hexdigest(),
    )


def compare(before: Summary | None, after: Summary | None) -> list[Difference]:
    """What of the money is not as it was; None: nobody said how it is read, and then nothing can be missed."""
    if before is None:
        return []
    if after is None:
        return [Difference(measure="ledger", before=before.payments, after=None)]
    old, new = _measures(before), _measures(after)
    return [
        Difference(measure=name, before=old.get(name, 0), after=new.get(name, 0))
        for name in sorted(old.keys() | new.keys())
        if old.get(name, 0) != new.get(name, 0)
    ]


def lost(now: Iterable[Payment], then: Iterable[Payment]) -> list[Difference]:
    """Payments of `now` that are not in `then`, by type and currency: what would be lost by going back to that. A
    reversal that is still to be sent, or no longer, makes another payment of it."""
    there = Counter(map(_identity, then))
    count: Counter[tuple[str, str]] = Counter()
    gone: Counter[tuple[str, str]] = Counter()
    for one in now:
        key = _identity(one)
        count[one.type, one.currency] += 1
        if there[key]:
            there[key] -= 1
        else:
            gone[one.type, one.currency] += 1
    return [
        Difference(
            measure=f"number of {kind} {currency}", before=count[kind, currency], after=count[kind, currency] - n
        )
        for (kind, currency), n in sorted(gone.items())
    ]


def compare_counters(
    sources: Iterable[CounterSource], before: Mapping[str, int], after: Mapping[str, int]
) -> list[Difference]:
    """Counters that went back or are gone; `sources` are those of before."""
    return [
        Difference(measure=f"counter {source.name}", before=before[source.name], after=after.get(source.name))
        for source in sources
        if source.name in before and (source.name not in after or source.ahead(before[source.name], after[source.name]))
    ]


def _identity(one: Payment) -> tuple[int, str, str, int, str, bool]:
    return (one.stan, one.type, one.currency, one.amount, one.batch, one.reversal is not None)


def _measures(one: Summary) -> dict[str, Any]:
    found: dict[str, Any] = {
        "first STAN": one.stan_first,
        "last STAN": one.stan_last,
        "batch": one.batch,
        "reversals waiting": one.reversals,
        "order of reversals": one.reversals_sha256,
        "every payment": one.payments_sha256,
    }
    for kind, currency, number, amount in one.totals:
        found[f"number of {kind} {currency}"] = number
        found[f"sum of {kind} {currency}"] = amount
    return found


def _whole(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdecimal() and len(value) < 20:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is no whole number")
    return value


def _word(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > WORD_CHARACTERS_MAX:
        raise ValueError(f"{name} is no word or whole number")
    return str(value)
