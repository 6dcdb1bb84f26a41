"""The money in the data, in one form: what is counted, and which differences are found."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.ledger import (
    CounterSource,
    Difference,
    Payment,
    compare,
    compare_counters,
    lost,
    payment,
    summary,
)

ROWS = [
    (1, "sale", "978", 1000, 7, None),
    (2, "sale", "978", 250, 7, 2),
    (3, "refund", "978", 99, 7, None),
    (4, "sale", "840", 5, 8, 1),
]
STAN = CounterSource(name="stan", path="stan", last=999_999)
payments = st.builds(
    Payment,
    stan=st.integers(1, 99),
    type=st.sampled_from(["sale", "refund"]),
    currency=st.sampled_from(["978", "840"]),
    amount=st.integers(0, 9999),
    batch=st.just("7"),
    reversal=st.none() | st.integers(1, 9),
)


def of(rows: list[tuple[Any, ...]]) -> list[Payment]:
    return [payment(row) for row in rows]


def test_a_summary_counts_and_sums_by_type_and_currency() -> None:
    found = summary(of(ROWS))
    assert found.totals == (("refund", "978", 1, 99), ("sale", "840", 1, 5), ("sale", "978", 2, 1250))
    assert (found.payments, found.stan_first, found.stan_last, found.batch, found.reversals) == (4, 1, 4, "8", 2)


def test_no_payments_have_a_summary_too() -> None:
    found = summary([])
    assert (found.payments, found.stan_first, found.stan_last, found.batch, found.totals) == (0, None, None, "", ())
    assert compare(found, summary([])) == []


@pytest.mark.parametrize(
    ("change", "measures"),
    [
        (lambda rows: rows[:-1], {"last STAN", "batch", "number of sale 840", "sum of sale 840", "reversals waiting"}),
        (lambda rows: rows[1:], {"first STAN", "number of sale 978", "sum of sale 978"}),
        (lambda rows: [(*rows[0][:3], 999, *rows[0][4:]), *rows[1:]], {"sum of sale 978"}),
        (lambda rows: [rows[1], rows[0], *rows[2:]], {"first STAN"}),
        (lambda rows: [(*row[:5], {1: 2, 2: 1}.get(row[5])) for row in rows], {"order of reversals"}),
        (lambda rows: [*rows, (5, "sale", "978", 0, 8, None)], {"last STAN", "number of sale 978"}),
        (lambda rows: [(1, "sale", "978", 250, 7, None), (2, "sale", "978", 1000, 7, 2), *rows[2:]], set[str]()),
    ],
    ids=[
        "the last is gone",
        "the first is gone",
        "a cent is gone",
        "order",
        "reversals",
        "one more",
        "amounts swapped",
    ],
)
def test_every_difference_is_found_by_its_measure(change: Any, measures: set[str]) -> None:
    found = compare(summary(of(ROWS)), summary(of(change(ROWS))))
    assert measures <= {one.measure for one in found} and found


def test_the_queue_of_reversals_may_be_numbered_anew() -> None:
    renumbered = [(*row[:5], row[5] and row[5] * 10) for row in ROWS]
    assert compare(summary(of(ROWS)), summary(of(renumbered))) == []


def test_who_stops_declaring_the_money_is_found_and_who_begins_is_not() -> None:
    assert compare(summary(of(ROWS)), None) == [Difference(measure="ledger", before=4, after=None)]
    assert compare(None, summary(of(ROWS))) == []


@pytest.mark.parametrize(
    "row",
    [
        (1, "sale", "978", 10.0, 7, None),
        (1, "sale", "978", "10.00", 7, None),
        (1, "sale", "978", True, 7, None),
        (None, "sale", "978", 10, 7, None),
        (1, None, "978", 10, 7, None),
        (1, "sale", "978", 10, 7),
        (1, "x" * 65, "978", 10, 7, None),
        (1, "sale", "978", "9" * 30, 7, None),
    ],
)
def test_what_is_no_payment_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        payment(row)


def test_numbers_that_an_application_keeps_as_text_are_numbers() -> None:
    assert payment(("000123", "sale", 978, "-250", 7, "1")) == Payment(
        stan=123, type="sale", currency="978", amount=-250, batch="7", reversal=1
    )


def test_counters_that_went_back_or_are_gone_are_found() -> None:
    batch = CounterSource(name="batch", path="batch")
    assert compare_counters([STAN, batch], {"stan": 7, "batch": 3}, {"stan": 7, "batch": 4}) == []
    assert compare_counters([STAN, batch], {"stan": 7, "batch": 3}, {"stan": 6}) == [
        Difference(measure="counter stan", before=7, after=6),
        Difference(measure="counter batch", before=3, after=None),
    ]
    assert compare_counters([STAN], {}, {}) == []


def test_a_counter_begins_again_after_its_last_number() -> None:
    assert STAN.ahead(1, 999_999) and STAN.ahead(3, 999_990) and not STAN.ahead(999_999, 1)
    assert not STAN.ahead(5, 5)


@given(st.lists(payments, max_size=8), st.lists(payments, max_size=8))
def test_nothing_is_lost_by_going_back_to_what_has_it_all(now: list[Payment], more: list[Payment]) -> None:
    assert lost(now, [*more, *now]) == []
    assert compare(summary(now), summary(list(now))) == []


@given(st.lists(payments, min_size=1, max_size=8), st.data())
def test_every_payment_that_is_missing_is_found(now: list[Payment], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(now) - 1))
    then = [*now[:at], *now[at + 1 :]]
    (found,) = lost(now, then)
    assert found.before - found.after == 1 and found.measure == f"number of {now[at].type} {now[at].currency}"
    assert compare(summary(now), summary(then))


def test_a_reversal_that_was_sent_since_is_not_sent_again() -> None:
    (pending,) = of([ROWS[1]])
    assert lost([dataclasses.replace(pending, reversal=None)], [pending])
