"""Columns: Chinese takes two, lines are broken where they may be, and nothing unprintable gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.console.columns import COLUMNS, clean, fit, table, width, wrap
from tests.console.dumb import DumbTerminal


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("slot a", 6), ("升级", 4), ("升级 2.0.0（2 MB）", 18), ("°C", 2)]
)
def test_chinese_characters_take_two_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_a_line_is_broken_at_spaces_and_what_follows_is_indented() -> None:
    text = "  next step: " + "word " * 20
    lines = wrap(text)
    assert lines[0].startswith("  next step: word") and all(line.startswith("    word") for line in lines[1:])
    assert " ".join(text.split()) == " ".join(" ".join(lines).split())


def test_chinese_is_broken_between_characters() -> None:
    lines = wrap("请" * 100)
    assert lines[0] == "请" * 39 and "".join(line.strip() for line in lines) == "请" * 100


def test_a_word_that_is_longer_than_a_line_is_cut_into_pieces() -> None:
    assert "".join(line.strip() for line in wrap("x" * 300)) == "x" * 300
    assert wrap("see https://updates.example/" + "x" * 60)[0] == "see https://updates.example/"


TEXTS = st.text(
    st.one_of(st.sampled_from(" /ab"), st.characters(codec="utf-8"), st.sampled_from("升级请，（")), max_size=300
)


@given(TEXTS)
def test_every_line_fits_and_no_character_is_lost(text: str) -> None:
    text = clean(text)
    lines = wrap(text)
    assert all(width(line) <= COLUMNS for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(TEXTS)
def test_what_is_shown_is_printable_and_as_wide_as_a_terminal_has_it(text: str) -> None:
    for line in wrap(clean(text)):
        terminal = DumbTerminal()
        terminal.write(line.encode())
        assert terminal.strange == b"" and len(terminal.lines) == 1 and terminal.column == width(line)


@given(TEXTS)
def test_what_does_not_fit_ends_in_dots(text: str) -> None:
    text = clean(text)
    assert width(fit(text, 20)) <= 20
    assert fit(text, 20) == text or fit(text, 20).endswith("...")


@pytest.mark.parametrize("evil", ["\x1b[2J", "a\rb", "\x9b31m", "\u202e", "\x07", "\ud800", "\x00"], ids=repr)
def test_control_characters_do_not_get_through(evil: str) -> None:
    assert (clean(f"1.0{evil}").isprintable() and clean(f"1.0{evil}").startswith("1.0")) or evil.startswith("a")


def test_words_stand_side_by_side() -> None:
    assert table(["a", "bcd"] * 40, 12) == ["a    bcd"] * 40
    assert table([]) == [] and table(["x" * 200]) == ["x" * 200]
