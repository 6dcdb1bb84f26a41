"""Outcomes of updates for tests of records, tickets and reports: an ordinary one, and any that a journal may hold.

What outside texts may bring along is planted in every place where one can stand.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.planted import CARDS, card_numbers

Outcome = dict[str, Any]

ROLLED_BACK: Mapping[str, Any] = {
    "outcome": "rolled_back",
    "code": "selftest_failed",
    "detail": "printer: no answer",
    "cause": "reboot",
    "stage": "selftest",
    "id": "3f9c2a71d0b4",
    "version": "2.1.0",
    "from_version": "2.0.3",
    "at": 1_796_000_700.0,
    "started_at": 1_796_000_000.0,
    "restarted": True,
    "checks": [
        {"name": "payment", "kind": "tcp", "passed": True, "detail": "", "seconds": 0.2},
        {"name": "printer", "kind": "serial", "passed": False, "detail": "no answer", "seconds": 5.0},
    ],
    "ticket": {"code": "7K3M-Q2XA"},
    "record": {
        "by": "uid 1000",
        "phases": {"download": 41.2, "verify": 1.4, "ready": 610.0, "install": 20.5, "activate": 18.0, "selftest": 5.6},
        "waited": {"window": {"s": 580.0, "why": "the maintenance window: it begins at 22:00"}},
        "consent": {"by": "acme-pay (uid 999)", "at": 1_796_000_100.0},
        "deferrals": 1,
        "deferred_by": "uid 1000",
        "reason": "security",
        "kind": "delta",
        "power_cycles": 1,
        "bytes": 1_234_567,
        "digests": {"bundle": "ab" * 32, "image": "cd" * 32, "slot": "cd" * 32},
        "measures": [{"name": "payment", "passed": True, "seconds": 0.2}, {"name": "printer", "passed": False}],
    },
}
COMMITTED: Mapping[str, Any] = {
    **{name: value for name, value in ROLLED_BACK.items() if name not in ("cause", "stage", "checks", "ticket")},
    "outcome": "committed",
    "code": "ok",
    "detail": "",
    "record": {"by": "uid 0", "phases": {"download": 3.0, "install": 2.0, "activate": 18.0, "selftest": 6.0}},
}

TRACKS = ("%B4111111111111111^DOE/JOHN^2512101?", ";4111111111111111=25121010000?")
SECRETS = (
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKEYkeyKEY\n-----END PRIVATE KEY-----",
    "password=hunter2secret",
    "https://clerk:hunter2secret@updates.example.com/x?token=hunter2secret",
    "Bearer hunter2secret.hunter2secret",
)
WORDS_OF_SECRETS = ("DOE/JOHN", "KEYkeyKEY", "hunter2secret")
AROUND = " .,:;=ghijxyzß中文\n\t\0\x1b\u200b\ud800\"'<&>]-"
"""No digits and no hexadecimal letters: what they may hide is core.redact's to say."""

planted = st.builds(
    "{}{}{}".format,
    st.text(alphabet=AROUND, max_size=12),
    st.sampled_from((*CARDS, *TRACKS, *(f" {secret} " for secret in SECRETS))),
    st.text(alphabet=AROUND, max_size=12),
)
_PLACES: tuple[tuple[str, ...], ...] = (
    *((name,) for name in ("id", "version", "from_version", "code", "detail", "outcome", "cause", "stage")),
    *(("record", name) for name in ("by", "deferred_by", "reason", "kind", "backup", "migrated")),
    ("record", "consent", "by"),
    ("record", "waited", "window", "why"),
    ("record", "digests", "image"),
    ("ticket", "code"),
)


@st.composite
def outcomes_with_secrets(draw: st.DrawFn) -> Outcome:
    """An ordinary outcome, but for what others said."""
    outcome: Outcome = copy.deepcopy(dict(ROLLED_BACK))
    for place in draw(st.lists(st.sampled_from(_PLACES), min_size=1, unique=True)):
        where = outcome
        for name in place[:-1]:
            where = where[name]
        where[place[-1]] = draw(planted)
    for kept in (outcome["checks"], outcome["record"]["measures"]):
        kept[1] = {**kept[1], "name": draw(planted), "detail": draw(planted)}
    outcome["checks"].append({"name": "x", "passed": True, "value": draw(planted), "limit": draw(planted)})
    outcome["record"]["waited"][draw(planted)] = {"s": 1.0, "why": draw(planted)}
    return outcome


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(sorted({*ROLLED_BACK, *ROLLED_BACK["record"]}))
any_outcome = st.dictionaries(_names, _json | st.dictionaries(_names, _json, max_size=6), max_size=10)
"""Whatever a journal of another release may hold."""


def secrets_in(text: str) -> list[str]:
    """What must not be there; line ends and blanks do not hide it."""
    return [*card_numbers(text), *(word for word in WORDS_OF_SECRETS if word in text)]
