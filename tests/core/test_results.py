"""Result codes of the industry: every one of our codes has one, and it means what it says."""

from __future__ import annotations

import pytest

from posagent.core.errors import CATALOGUE
from posagent.core.results import RESULT_OF, Result, result_of
from tests.catm import CODES


def test_every_code_of_the_catalogue_has_a_result_code() -> None:
    assert sorted(set(CATALOGUE) - set(RESULT_OF)) == [], "say in core/results.py how the industry calls it"
    assert sorted(set(RESULT_OF) - set(CATALOGUE)) == []


def test_every_result_code_is_one_of_the_messages() -> None:
    assert set(Result) < set(CODES["TerminalManagementActionResult5Code"])
    assert set(Result) - set(RESULT_OF.values()) == {Result.WARN}, "and each is used"


@pytest.mark.parametrize(
    ("outcome", "code", "warnings", "result"),
    [
        ("committed", "ok", (), "SUCC"),
        ("committed", "ok", ("power_cycles",), "WARN"),
        ("rolled_back", "selftest_failed", ("power_cycles",), "INVC"),
        ("failed", "signature_invalid", (), "SIGE"),
        ("failed", "counter_too_low", (), "ACCD"),
        ("failed", "slot_too_small", (), "OVER"),
        ("failed", "fetch_stalled", (), "TIMO"),
        ("failed", "fetch_length", (), "LENE"),
        ("failed", "net_dns", (), "CNTE"),
        ("cancelled", "cancelled", (), "ULER"),
        ("failed", "a_code_of_a_later_release", (), "ULER"),
        ("failed", "ok", (), "ULER"),
        ("failed", "no_update", (), "ULER"),
    ],
)
def test_an_end_is_reported_as_what_it_means(outcome: str, code: str, warnings: tuple[str, ...], result: str) -> None:
    assert result_of(outcome, code, warnings) == result
