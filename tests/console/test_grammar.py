"""What typed bytes become: lines, keys, echo; commands and their words."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.console.grammar import LINE_BYTES_MAX, Command, Echo, Editor, Key, Line, command_of


def typed(data: bytes, editor: Editor | None = None) -> list[Key | Line]:
    """What the bytes mean, without the echo."""
    return [item for item in (editor or Editor()).feed(data) if not isinstance(item, Echo)]


def echoed(data: bytes) -> bytes:
    return b"".join(item.data for item in Editor().feed(data) if isinstance(item, Echo))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"], ids=["CR", "LF", "CRLF"])
def test_every_kind_of_line_end_ends_one_line(end: bytes) -> None:
    assert typed(b"status" + end + b"why" + end) == [Line("status"), Line("why")]


def test_a_line_end_torn_apart_by_the_line_is_still_one() -> None:
    editor = Editor()
    assert typed(b"status\r", editor) + typed(b"\nwhy\r", editor) == [Line("status"), Line("why")]


def test_two_line_ends_are_an_empty_line_between() -> None:
    assert typed(b"\r\r\n\n") == [Line(""), Line(""), Line("")]


@pytest.mark.parametrize("key", [b"\x08", b"\x7f"], ids=["backspace", "delete"])
def test_a_rubbed_out_character_is_gone_from_line_and_screen(key: bytes) -> None:
    assert typed(b"statux" + key + b"s\r") == [Line("status")]
    assert echoed(b"ab" + key) == b"ab\b \b"
    assert echoed(key * 3) == b"", "nothing to rub out"


def test_control_u_empties_the_line() -> None:
    assert typed(b"cancel\x15why\r") == [Line("why")]
    assert echoed(b"ab\x15") == b"ab" + b"\b \b" * 2


def test_control_c_throws_the_line_away() -> None:
    assert typed(b"upda\x03te\r") == [Key.INTERRUPT, Line("te")]


def test_control_d_logs_out_on_an_empty_line_only() -> None:
    assert typed(b"\x04") == [Key.LOGOUT]
    assert typed(b"why\x04\r") == [Key.GARBAGE]


def test_what_is_typed_is_shown_and_a_pasted_answer_is_not() -> None:
    assert echoed(b"why\r") == b"why\r\n"
    editor = Editor()
    editor.echo = False
    assert list(editor.feed(b"why\r")) == [Line("why")]


def test_a_line_of_just_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    editor = Editor()
    assert typed(b"x" * LINE_BYTES_MAX + b"\r", editor) == [Line("x" * LINE_BYTES_MAX)]
    assert typed(b"x" * (LINE_BYTES_MAX + 1) + b"\rwhy\r", editor) == [Key.TOO_LONG, Line("why")]


def test_an_endless_line_costs_no_memory_and_is_answered_once() -> None:
    editor = Editor()
    editor.echo = False
    tracemalloc.start()
    try:
        for _ in range(256):
            assert typed(b"x" * 4096, editor) == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert typed(b"\rwhy\r", editor) == [Key.TOO_LONG, Line("why")]


@pytest.mark.parametrize("noise", [b"\x00", b"\xff", b"\x1b[A", "升".encode(), b"\t"])
def test_noise_makes_the_line_unreadable_and_the_next_is_good_again(noise: bytes) -> None:
    assert typed(b"can" + noise + b"cel\rwhy\r") == [Key.GARBAGE, Line("why")]


@given(st.lists(st.binary(max_size=64)))
def test_how_the_line_cuts_the_bytes_into_pieces_does_not_matter(pieces: list[bytes]) -> None:
    editor, meant = Editor(), list[Key | Line]()
    for piece in pieces:
        meant += typed(piece, editor)
    assert meant == typed(b"".join(pieces))


@given(st.binary(max_size=4 * LINE_BYTES_MAX))
def test_a_line_is_always_short_and_printable(data: bytes) -> None:
    for item in typed(data + b"\r"):
        if isinstance(item, Line):
            assert len(item.text) <= LINE_BYTES_MAX and (item.text.isprintable() or not item.text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("status", Command(verb="status", words=(), json=False)),
        ("  STATUS   --json ", Command(verb="status", words=(), json=True)),
        ("--json why", Command(verb="why", words=(), json=True)),
        ("update '/media/my stick/2.bundle'", Command(verb="update", words=("/media/my stick/2.bundle",), json=False)),
        ('update "a b"c', Command(verb="update", words=("a bc",), json=False)),
        ("update https://x/y#z", Command(verb="update", words=("https://x/y#z",), json=False)),
        ("''", Command(verb="", words=(), json=False)),
    ],
)
def test_words_and_quotes(text: str, command: Command) -> None:
    assert command_of(text) == command


@pytest.mark.parametrize("text", ["", "   ", "--json"])
def test_a_line_without_words_is_no_command(text: str) -> None:
    assert command_of(text) is None


@pytest.mark.parametrize("text", ["update 'a", 'why "', "why \\"])
def test_an_open_quote_is_an_error_of_whoever_typed(text: str) -> None:
    with pytest.raises(ValueError):
        command_of(text)
