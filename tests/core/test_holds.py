"""What a payment application holds closes the gate, who is silent keeps it closed, and every refusal has a remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import holds
from posagent.core.holds import ALWAYS, RECONCILE, WORDS, Hold, Reason, Session
from posagent.core.model import Gate, State

NOW = 1000.0

sessions_of = st.lists(
    st.builds(
        lambda name, ago, lease, reasons: Session(
            name=name,
            heard_s=NOW - ago,
            lease_s=lease,
            holds=tuple(Hold(reason=reason, since_s=NOW - 1) for reason in reasons),
        ),
        st.sampled_from(["acme", "fuel"]),
        st.floats(0, 600),
        st.integers(5, 300),
        st.lists(st.sampled_from(Reason), max_size=4),
    ),
    max_size=4,
)


def session(*reasons: Reason, heard_s: float = NOW - 1) -> Session:
    held = tuple(Hold(reason=reason, since_s=NOW - 5) for reason in reasons)
    return Session(name="acme", heard_s=heard_s, lease_s=60, holds=held)


def gate(*sessions: Session, required: bool = False, reconcile_first: bool = False) -> Gate:
    return holds.gate(
        sessions, NOW, required=required, reconcile_first=reconcile_first, needed_for=State.INSTALL, name="payment"
    )


@pytest.mark.parametrize("reason", Reason)
def test_what_a_customer_waits_for_always_stops_and_what_is_stored_only_where_the_bundle_demands_it(
    reason: Reason,
) -> None:
    assert gate(session(reason)).open is (reason in RECONCILE)
    closed = gate(session(reason), reconcile_first=True)
    assert not closed.open and closed.reason == WORDS[reason].reason and closed.remedy


def test_nobody_connected_is_open_only_where_nobody_is_required() -> None:
    assert gate().open
    assert not gate(required=True).open
    assert gate(session(), required=True).open


def test_whether_the_batch_is_settled_is_not_guessed() -> None:
    assert not gate(reconcile_first=True).open
    assert gate(session(), reconcile_first=True).open


def test_who_has_gone_silent_keeps_the_gate_closed_even_without_a_hold() -> None:
    closed = gate(session(), session(heard_s=NOW - 60))
    assert not closed.open
    assert closed.reason == "the payment application acme has said nothing for 60 s"
    assert closed.reason_zh == "支付应用 acme 已 60 秒无响应"


def test_the_most_pressing_reason_is_told() -> None:
    assert gate(session(Reason.PRINTING), session(Reason.TRANSACTION)).reason == "a payment is under way"


def test_every_closed_gate_says_why_and_what_to_do_in_both_languages() -> None:
    assert set(WORDS) >= set(Reason)
    for words in WORDS.values():
        assert words.reason and words.remedy and words.reason.isascii() and words.remedy.isascii()
        assert not words.reason_zh.isascii() and not words.remedy_zh.isascii()


def test_a_payment_may_begin_until_the_restart_is_decided() -> None:
    may = {state for state in State if holds.may_hold(state, waits=False)}
    assert may == {State.IDLE, State.DOWNLOAD, State.VERIFY, State.READY, State.INSTALL}
    assert holds.may_hold(State.ACTIVATE, waits=True), "while the restart waits for a gate the terminal sells"
    assert not holds.may_hold(State.SELFTEST, waits=True)


@given(sessions_of, st.booleans(), st.booleans())
def test_the_gate_is_open_exactly_when_nothing_and_nobody_stands_in_the_way(
    sessions: list[Session], required: bool, reconcile_first: bool
) -> None:
    seen = gate(*sessions, required=required, reconcile_first=reconcile_first)
    stops = ALWAYS | RECONCILE if reconcile_first else ALWAYS
    assert seen.open is (
        all(NOW - one.heard_s < one.lease_s for one in sessions)
        and not any(hold.reason in stops for one in sessions for hold in one.holds)
        and (bool(sessions) or not (required or reconcile_first))
    )
    assert seen.open or (seen.remedy and seen.remedy_zh and "{" not in seen.reason + seen.reason_zh)


@given(sessions_of, st.booleans())
def test_one_more_application_or_condition_never_opens_what_holds_keep_closed(
    sessions: list[Session], reconcile_first: bool
) -> None:
    if sessions and not gate(*sessions, reconcile_first=reconcile_first).open:
        assert not gate(*sessions, session(), reconcile_first=reconcile_first).open
        assert not gate(*sessions, required=True, reconcile_first=True).open
