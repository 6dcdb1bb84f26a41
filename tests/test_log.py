"""What is logged is bounded, listed and kept for whoever asks."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import posagent
from posagent import log

PACKAGE = Path(posagent.__file__).parent
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


def test_a_line_can_be_dated_whatever_the_clock_says() -> None:
    log.configure(io.StringIO(), up_s=lambda: 12.3456)
    log.get("posagentd").info("decided", state="idle")
    assert log.recent(1)[0]["up_s"] == 12.346


def test_every_event_that_is_logged_has_a_name_that_is_documented() -> None:
    named = re.compile(r'(?:_log|log\.get\("[^"]*"\))\.(?:info|warning|error)\(\s*"(\w+)"|\breport\("(\w+)"')
    sources = [path.read_text() for path in PACKAGE.rglob("*.py") if "sim" not in path.parts]
    found = {a or b for text in sources for a, b in named.findall(text)}
    assert found == log.EVENTS.keys()


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
