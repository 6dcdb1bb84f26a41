"""Records in words: one line an update, all of it, and a ticket that fits the paper, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent import evidence_texts
from posagent.core.update_record import shown
from posagent.evidence_texts import GATES, WIDTHS, WORDS, columns
from tests.records import COMMITTED, ROLLED_BACK, Outcome, any_outcome, outcomes_with_secrets, secrets_in

CHINESE = re.compile("[\u4e00-\u9fff]")
LANGUAGES = ("en", "zh")


@pytest.mark.parametrize(("table", "name"), [(table, name) for table in (WORDS, GATES) for name in table])
def test_every_word_has_both_languages(table: Mapping[str, tuple[str, str]], name: str) -> None:
    english, chinese = table[name]
    assert english and not CHINESE.search(english) and CHINESE.search(chinese)
    assert english.count("{}") == chinese.count("{}")


def test_an_update_is_one_line_for_the_assessor() -> None:
    line = evidence_texts.line(shown(ROLLED_BACK, "pos-0001"), "en")
    start = "2026-11-30 01:05 UTC pos-0001 3f9c2a71d0b4 2.0.3 -> 2.1.0 rolled back INVC selftest_failed 12 min down"
    assert line.startswith(start)
    for told in (
        *("selftest=5.6s", "waited_window=580s", "by=uid 1000", "agreed=acme-pay (uid 999)", "deferrals=1"),
        *("tests=1/2", f"image={'cd' * 32}", "warnings=power_cycles"),
    ):
        assert told in line
    assert "\n" not in line


def test_the_whole_record_tells_every_fact_once() -> None:
    lines = evidence_texts.lines(shown(ROLLED_BACK, "pos-0001"), "en")
    for told in (
        *(
            "result: rolled back INVC",
            "code: selftest_failed",
            "why: closes a security hole",
            "ended by: an orderly restart",
            "phase ready: 610 s",
        ),
        *(
            "waited for the window: 10 min (the maintenance window: it begins at 22:00)",
            "no payments for: 24 s",
        ),
        *("put off: 1 times, last by uid 1000", "failed test: printer: no answer", f"digest of slot: {'cd' * 32}"),
        *("agreed to by: acme-pay (uid 999), 2026-11-30 00:55 UTC", "support code: 7K3M-Q2XA"),
    ):
        assert lines.count(told) == 1, told


def test_a_ticket_in_english() -> None:
    assert evidence_texts.ticket(shown(COMMITTED, "pos-0001"), "en", 32) == [
        "        SOFTWARE UPDATE",
        "--------------------------------",
        "terminal                pos-0001",
        "update              3f9c2a71d0b4",
        "began       2026-11-30 00:53 UTC",
        "ended       2026-11-30 01:05 UTC",
        "from                       2.0.3",
        "to                         2.1.0",
        "result            committed SUCC",
        "no payments for             24 s",
        "asked for by               uid 0",
        "--------------------------------",
    ]


def test_a_ticket_in_chinese_counts_two_columns_a_character() -> None:
    ticket = evidence_texts.ticket(shown(COMMITTED, "pos-0001"), "zh", 24)
    assert ticket[0] == "      软件升级凭证" and "结果         已完成 SUCC" in ticket
    assert {columns(line) for line in ticket[2:-1] if "  " in line.strip()} == {24}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
@given(outcome=outcomes_with_secrets() | any_outcome, terminal=st.text(max_size=80))
def test_a_ticket_fits_its_paper_and_has_no_card_data_whatever_was_said(
    width: int, lang: str, outcome: Outcome, terminal: str
) -> None:
    record = shown(outcome, terminal)
    ticket = evidence_texts.ticket(record, lang, width)
    assert max(map(columns, ticket)) <= width
    assert all(line.isprintable() for line in ticket)
    assert secrets_in("\n".join(ticket)) == []
    assert len(ticket) < 400, "bounded"


@pytest.mark.parametrize("lang", LANGUAGES)
@given(outcome=outcomes_with_secrets() | any_outcome)
def test_lines_have_no_card_data_whatever_was_said(lang: str, outcome: Outcome) -> None:
    record = shown(outcome, "pos-0001")
    lines = [evidence_texts.line(record, lang), *evidence_texts.lines(record, lang)]
    assert secrets_in("\n".join(lines)) == []
    assert all(line.isprintable() for line in lines)


@given(st.text(max_size=300))
def test_nothing_of_a_text_is_lost_on_paper(text: str) -> None:
    said = " ".join("".join(one if one.isprintable() else "?" for one in text).split())
    printed = "".join(evidence_texts.ticket({**shown(COMMITTED, "t"), "id": said}, "en", 24))
    assert said.replace(" ", "") in printed.replace(" ", "")
