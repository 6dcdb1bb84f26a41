"""What typed bytes become: lines, keys, and what is shown of them on a terminal that understands next to nothing."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.console.grammar import HISTORY_LINES_MAX, LINE_BYTES_MAX, PROMPT, Echo, Editor, Item, Key, Line, Stroke
from posagent.console.keys import Press
from tests.console.dumb import DumbTerminal

UP, DOWN, RIGHT, LEFT, HOME, END, DELETE = *(b"\x1b[%c" % key for key in b"ABCDHF"), b"\x1b[3~"


def typed(data: bytes, editor: Editor | None = None) -> list[Item]:
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
    assert echoed(b"ab\x15") == b"ab" + b"\b\b  \b\b"


def test_control_c_throws_the_line_away() -> None:
    assert typed(b"upda\x03te\r") == [Key.INTERRUPT, Line("te")]


def test_control_d_logs_out_on_an_empty_line_only() -> None:
    assert typed(b"\x04") == [Key.LOGOUT]
    assert typed(b"why\x04\r") == [Line("why")]


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


@pytest.mark.parametrize("noise", [b"\x00", b"\xff", b"\x1b[\xff", "升".encode(), b"\x1e"])
def test_noise_makes_the_line_unreadable_and_the_next_is_good_again(noise: bytes) -> None:
    assert typed(b"can" + noise + b"cel\rwhy\r") == [Key.GARBAGE, Line("why")]


@given(st.lists(st.binary(max_size=64)))
def test_how_the_line_cuts_the_bytes_into_pieces_does_not_matter(pieces: list[bytes]) -> None:
    editor, meant = Editor(), list[Item]()
    for piece in pieces:
        meant += typed(piece, editor)
    assert meant == typed(b"".join(pieces))


@given(st.binary(max_size=4 * LINE_BYTES_MAX))
def test_a_line_is_always_short_and_printable(data: bytes) -> None:
    for item in typed(data + b"\r"):
        if isinstance(item, Line):
            assert len(item.text) <= LINE_BYTES_MAX and (item.text.isprintable() or not item.text)


# editing


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"statu" + LEFT * 2 + b"x\r", "staxtu"),
        (b"tatus" + HOME + b"s\r", "status"),
        (b"tatus\x01s" + END + b"!\r", "status!"),
        (b"status" + LEFT * 9 + RIGHT + b"x\r", "sxtatus"),
        (b"status" + RIGHT * 3 + b"x\r", "statusx"),
        (b"sttatus" + HOME + RIGHT * 2 + DELETE + b"\r", "status"),
        (b"status" + DELETE + b"\r", "status"),
        (b"staxtus" + LEFT * 3 + b"\x7f\r", "status"),
        (b"x" + HOME + b"\x7f\r", "x"),
        (b"update a b\x17c\r", "update a c"),
        (b"update a   \x17\r", "update "),
        (b"a b" + LEFT + b"\x17\r", "b"),
        (b"\x17\r", ""),
        (b"update x" + LEFT + b"\x0b\r", "update "),
        (b"garbage update" + LEFT * 6 + b"\x15\r", "update"),
    ],
    ids=repr,
)
def test_a_line_is_edited_wherever_the_cursor_is(keys: bytes, line: str) -> None:
    assert typed(keys) == [Line(line)]


def test_noise_is_forgiven_to_whoever_empties_the_line() -> None:
    assert typed(b"sta\xfftus\x15why\r") == [Line("why")]


def test_lines_come_back_and_what_was_being_typed_too() -> None:
    editor = Editor()
    typed(b"status\rwhy\r", editor)
    assert typed(UP + b"\r", editor) == [Line("why")]
    assert typed(UP + UP + b"\r", editor) == [Line("status")]
    assert typed(b"hel" + UP * 9 + DOWN * 9 + b"p\r", editor) == [Line("help")]


def test_a_line_that_came_back_is_edited_without_changing_the_history() -> None:
    editor = Editor()
    typed(b"status\r", editor)
    assert typed(UP + b"x\r", editor) == [Line("statusx")]
    assert typed(UP + UP + b"\r", editor) == [Line("status")]


def test_the_history_is_short_has_nothing_twice_in_a_row_and_is_forgotten() -> None:
    editor = Editor()
    typed(b"".join(b"%d\r\r%d\r" % (number, number) for number in range(100)), editor)
    assert typed(UP * 99 + b"\r", editor) == [Line(str(100 - HISTORY_LINES_MAX))]
    editor.forget_history()
    assert typed(UP + b"\r", editor) == [Line("")]


def test_what_is_pasted_unseen_is_not_in_the_history() -> None:
    editor = Editor()
    editor.echo = False
    typed(b"secret\r", editor)
    editor.echo = True
    assert typed(UP + b"\r", editor) == [Line("")]


# completion

WORDS = ("status", "slots", "support", "update", "--now")


def complete(before: str) -> list[str]:
    return [word for word in WORDS if word.startswith(before.rpartition(" ")[2])]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"u\t\r", "update "),
        (b"up\t--\t\r", "update --now "),
        (b"st\t\r", "status "),
        (b"s\t\r", "s"),
        (b"su\tx\r", "support x"),
        (b"x\t\r", "x"),
        (b"ux" + LEFT + b"\t\r", "update x"),
    ],
    ids=repr,
)
def test_tab_completes_the_word_before_the_cursor(keys: bytes, line: str) -> None:
    assert typed(keys, Editor(complete)) == [Line(line)]


def test_tab_extends_to_what_all_have_in_common() -> None:
    assert typed(b"a\t\r", Editor(lambda _: ["abcd", "abce"])) == [Line("abc")]


def test_where_several_words_fit_they_are_shown_and_the_line_again() -> None:
    terminal = show(b"s\t", Editor(complete))
    assert terminal.lines == ["posagent> s", "status   slots    support", "posagent> s"]
    assert terminal.column == len("posagent> s")


# what is shown


def show(keys: bytes, editor: Editor | None = None, terminal: DumbTerminal | None = None) -> DumbTerminal:
    terminal = terminal or DumbTerminal()
    terminal.write(PROMPT)
    for item in (editor or Editor()).feed(keys):
        if isinstance(item, Echo):
            terminal.write(item.data)
    return terminal


def test_a_long_line_that_is_only_typed_is_shown_as_it_is() -> None:
    line = "update https://" + "x" * 300
    assert echoed(line.encode()) == line.encode()


def test_a_long_line_that_is_edited_shows_a_window_of_it() -> None:
    keys = b"0123456789" * 10
    assert show(keys + HOME + b"<").line == "posagent> <" + ("0123456789" * 10)[:67]
    shown = show(keys + LEFT).line.removeprefix("posagent> ")
    assert shown and keys.decode().endswith(shown)
    assert show(keys + HOME + END + b">").line.endswith("9>")


def test_keys_at_the_ends_of_the_line_write_nothing() -> None:
    assert echoed(LEFT + RIGHT + HOME + END + UP + DOWN + DELETE[:0] + b"\x0b\x15\x17") == b""


KEYS = st.one_of(
    st.sampled_from([UP, DOWN, RIGHT, LEFT, HOME, END, DELETE, b"\x7f", b"\x17", b"\x15", b"\x0b", b"\x0c", b"\t"]),
    st.sampled_from([b"\r", b"s", b"st", b"status ", b"update https://updates.example/", b"0123456789" * 7]),
    st.binary(max_size=4),
)


@given(st.lists(KEYS, max_size=40))
def test_whatever_is_typed_the_screen_shows_the_line_with_the_cursor_where_it_is(pieces: list[bytes]) -> None:
    """On a terminal that knows no escape sequences."""
    editor, terminal = Editor(complete), DumbTerminal()
    terminal.write(PROMPT)
    for piece in pieces:
        for item in editor.feed(piece):
            if isinstance(item, Echo):
                terminal.write(item.data)
            elif isinstance(item, Line) or item in (Key.INTERRUPT, Key.GARBAGE, Key.TOO_LONG):
                terminal.write((b"" if terminal.column == 0 else b"\r\n") + PROMPT)
        assert terminal.strange == b""
        assert_shown(editor, terminal)


def assert_shown(editor: Editor, terminal: DumbTerminal) -> None:
    line, at = editor._line, editor._at
    if editor._skipping:
        return
    if editor._over:
        rows = -(-(len(PROMPT) + len(line)) // 80)
        whole = "".join("".join(row) for row in terminal.cells[terminal.row + 1 - rows : terminal.row + 1])
        assert whole.rstrip() == f"posagent> {line}".rstrip() and at == len(line)
    else:
        window = line[editor._start : editor._start + 68]
        assert terminal.line == f"posagent> {window}".rstrip()
        assert terminal.column == len(PROMPT) + at - editor._start
        assert 0 <= at - editor._start <= 68 and (editor._start == 0 or len(line) > 68)


def test_single_keys_are_told_one_by_one_and_show_nothing() -> None:
    editor = Editor()
    editor.single = True
    assert list(editor.feed(b"q " + UP + b"\r")) == [Stroke("q"), Stroke(" "), Stroke(Press.UP), Stroke(Press.ENTER)]
    editor.single = False
    assert typed(b"\nwhy\r", editor) == [Line("why")], "the second half of the line end of before"
