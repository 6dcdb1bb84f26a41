"""Batches as payment terminals have them: payments, refunds, reversals that wait, offline transactions, currencies."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TYPES = ("sale", "sale", "sale", "refund", "reversal", "offline")
CURRENCIES = ("EUR", "USD", "JPY", "CNY")
STAN_LAST = 999_999
PAYMENTS_MAX = 24
COLUMNS = ("stan", "type", "currency", "amount", "batch", "reversal")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the order of COLUMNS, oldest first; `counters` as the application would go on."""

    rows: tuple[tuple[Any, ...], ...]
    counters: dict[str, int]


def after(stan: int) -> int:
    """The trace number that follows."""
    return stan % STAN_LAST + 1


def batch(seed: int) -> Batch:
    """The same for the same seed."""
    dice = random.Random(seed)
    currencies = dice.sample(CURRENCIES, dice.randint(1, 3))
    stan = dice.choice((1, dice.randint(1, STAN_LAST), STAN_LAST - dice.randint(0, 10)))
    number, invoice = dice.randint(1, 999), dice.randint(1, 100_000)
    rows: list[tuple[Any, ...]] = []
    for _ in range(dice.randint(0, PAYMENTS_MAX)):
        if dice.random() < 0.05:
            number += 1
        kind = dice.choice(TYPES)
        amount = dice.choice((1, dice.randint(1, 10_000), dice.randint(1, 10**9)))
        rows.append(
            (stan, kind, dice.choice(currencies), -amount if kind == "refund" else amount, f"{number:03d}", None)
        )
        stan, invoice = after(stan), invoice + 1
        if dice.random() < 0.1:
            stan = after(stan)  # one that was declined: its number is gone
    waiting = [at for at, row in enumerate(rows) if row[1] == "reversal" and dice.random() < 0.7]
    for place, at in enumerate(dice.sample(waiting, len(waiting))):
        rows[at] = (*rows[at][:-1], place)
    return Batch(tuple(rows), {"stan": stan, "invoice": invoice, "batch": number})


def payment(seed: int, stan: int) -> tuple[Any, ...]:
    """One more."""
    dice = random.Random(f"{seed} {stan}")
    return (stan, dice.choice(TYPES[:4]), dice.choice(CURRENCIES), dice.randint(1, 100_000), "777", None)


def lines(rows: Iterable[tuple[Any, ...]], form: int) -> bytes:
    """The ledger file in the format of that number."""
    told = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if form > 1:
        told = [{"v": form, **dict(reversed(one.items()))} for one in told]
    return b"".join(json.dumps(one).encode() + b"\n" for one in told)


def rows(data: bytes) -> tuple[tuple[Any, ...], ...]:
    """Of a ledger file in any format."""
    return tuple(tuple(json.loads(line)[name] for name in COLUMNS) for line in data.splitlines())
