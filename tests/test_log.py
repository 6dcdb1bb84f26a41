"""What is logged is bounded, listed and kept for whoever asks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from posagent import log

CARD = "4111111111111111"


@pytest.fixture(autouse=True)
def lines() -> Iterator[io.StringIO]:
    """Where the lines go; afterwards all is as before."""
    import structlog

    log._lines.clear()
    out = io.StringIO()
    log.configure(out)
    yield out
    structlog.reset_defaults()
    log._lines.clear()


def test_the_last_lines_are_kept_newest_last(lines: io.StringIO) -> None:
    logger = log.get("posagentd")
    for number in range(log.LINES_MAX + 50):
        logger.info("decided", state="idle", line=number)
    kept = log.recent(log.LINES_MAX)
    assert [one["line"] for one in kept] == list(range(50, log.LINES_MAX + 50))
    assert [one["line"] for one in log.recent(3)] == [one["line"] for one in kept[-3:]]
    assert (kept[-1]["event"], kept[-1]["level"]) == ("decided", "info") and kept[-1]["at"] > 1_700_000_000
    assert len(lines.getvalue().splitlines()) == log.LINES_MAX + 50


def test_what_is_not_listed_is_not_kept_and_card_numbers_are_masked(lines: io.StringIO) -> None:
    log.get("posagentd").error("journal_io", detail=f"card {CARD}", password="x", pin=1234)
    (kept,) = log.recent(10)
    assert CARD not in json.dumps(kept) and "password" not in kept and "pin" not in kept
    assert kept["dropped"] == ["password", "pin"]


@pytest.mark.parametrize("detail", ["x" * 100_000, "\n" * 100_000, "升" * 100_000])
def test_a_long_line_is_kept_short_and_says_so(detail: str) -> None:
    log.get("posagentd").warning("observe_failed", code="slot_io", detail=detail, records=5)
    (kept,) = log.recent(10)
    assert kept["cut"] and (kept["event"], kept["code"]) == ("observe_failed", "slot_io")
    assert sum(map(len, log._lines)) < 1000
