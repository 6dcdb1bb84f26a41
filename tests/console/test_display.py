"""The screen: pages of 24 rows, one line that is redrawn, a prompt that waits; bounded, and only plain characters."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.console.display import HELD_CHARACTERS_MAX, MORE, Display
from posagent.console.keys import Press
from tests.console.dumb import DumbTerminal

PROMPT = b"posagent> "


class Desk:
    """A display and the terminal that shows it."""

    def __init__(self) -> None:
        self.terminal = DumbTerminal()
        self.paging = False
        self.display = Display(self.terminal.write, self._paged)

    def _paged(self, on: bool) -> None:
        self.paging = on

    def say(self, count: int) -> None:
        """So many lines, then the prompt."""
        self.display.text([f"line {number}" for number in range(count)])
        self.display.prompt(PROMPT)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_what_fits_on_a_screen_is_shown_at_once(desk: Desk) -> None:
    desk.say(23)
    assert desk.terminal.screen == [*(f"line {number}" for number in range(23)), "posagent>"]
    assert not desk.paging


def test_what_does_not_fit_waits_and_a_space_shows_the_next_page(desk: Desk) -> None:
    desk.say(60)
    assert desk.paging and desk.terminal.screen == [*(f"line {number}" for number in range(23)), MORE]
    desk.display.key(" ")
    assert desk.terminal.screen == [*(f"line {number}" for number in range(23, 46)), MORE]
    desk.display.key(" ")
    assert desk.terminal.line == "posagent>" and not desk.display.paged
    assert desk.terminal.lines == [*(f"line {number}" for number in range(60)), "posagent>"]


def test_enter_shows_one_line_more_and_q_no_more_at_all(desk: Desk) -> None:
    desk.say(60)
    desk.display.key(Press.ENTER)
    assert desk.terminal.screen[-2:] == ["line 23", MORE]
    desk.display.key("x")
    assert desk.terminal.screen[-2:] == ["line 23", MORE], "any other key is none"
    desk.display.key("q")
    assert desk.terminal.screen[-2:] == ["line 23", "posagent>"] and not desk.paging
    desk.say(3)
    assert desk.terminal.screen[-2:] == ["line 2", "posagent>"]


def test_an_interrupt_ends_a_page_too(desk: Desk) -> None:
    desk.say(60)
    desk.display.key(Press.INTERRUPT)
    assert desk.terminal.line == "posagent>"


def test_what_comes_while_a_page_waits_is_behind_it(desk: Desk) -> None:
    desk.say(30)
    desk.display.text(["locked: idle"])
    desk.display.prompt(PROMPT)
    desk.display.key(" ")
    assert desk.terminal.lines[-3:] == ["line 29", "locked: idle", "posagent>"]


def test_lines_are_counted_as_wide_as_they_are(desk: Desk) -> None:
    desk.display.text(["升级" * 30] * 12)
    assert desk.paging and len(desk.terminal.lines) == 24 and desk.terminal.line == MORE


def test_a_line_to_be_copied_is_neither_wrapped_nor_paged(desk: Desk) -> None:
    sent = list[bytes]()
    Display(sent.append).verbatim("x" * 5000)
    assert sent == [b"x" * 5000 + b"\r\n"]


def test_whoever_goes_takes_what_waited_along(desk: Desk) -> None:
    desk.say(60)
    desk.display.forget()
    assert desk.terminal.line == "" and not desk.paging
    desk.display.text(["locked: logged out"])
    assert desk.terminal.lines[-2] == "locked: logged out"


def test_a_live_line_is_redrawn_in_its_place_whatever_was_longer(desk: Desk) -> None:
    desk.display.prompt(PROMPT)
    desk.display.live("download 升级 10 %", anew=True)
    desk.display.live("download 9 %", anew=False)
    assert desk.terminal.lines == ["posagent>", "download 9 %"]
    desk.display.live("verify", anew=True)
    desk.display.text(["committed"])
    assert desk.terminal.lines == ["posagent>", "download 9 %", "verify", "committed", ""]


def test_a_live_line_never_reaches_the_last_column(desk: Desk) -> None:
    for text in ("x" * 200, "升" * 200):
        desk.display.live(text, anew=False)
        assert len(desk.terminal.lines) == 1 and desk.terminal.column <= 79


def test_an_answer_begins_on_a_line_of_its_own(desk: Desk) -> None:
    desk.display.prompt(PROMPT)
    desk.display.echo(b"sta")
    desk.display.text(["nothing newer"])
    desk.display.prompt(PROMPT + b"sta")
    assert desk.terminal.lines == ["posagent> sta", "nothing newer", "posagent> sta"]


def test_what_waits_is_bounded(desk: Desk) -> None:
    tracemalloc.start()
    try:
        for _ in range(2000):
            desk.display.text(["x" * 70] * 50)
        assert tracemalloc.get_traced_memory()[1] < 8 * HELD_CHARACTERS_MAX
    finally:
        tracemalloc.stop()
    for _ in range(1000):
        desk.display.key(" ")
    assert desk.terminal.lines[-2] == "..." and not desk.paging


ACTS = st.one_of(
    st.tuples(st.just("text"), st.lists(st.text(max_size=200), max_size=30)),
    st.tuples(st.just("verbatim"), st.text(max_size=100)),
    st.tuples(st.just("live"), st.text(max_size=200)),
    st.tuples(st.just("key"), st.sampled_from([" ", "q", "x", Press.ENTER, Press.UP])),
    st.tuples(st.just("prompt"), st.just(PROMPT)),
    st.tuples(st.just("forget"), st.none()),
)


@given(st.lists(ACTS, max_size=20))
def test_whatever_the_agent_says_only_plain_characters_are_sent(acts: list[tuple[str, object]]) -> None:
    """Versions, names and logs come from outside: no escape sequence of theirs reaches the laptop."""
    desk = Desk()
    for name, value in acts:
        act = getattr(desk.display, name)
        if name == "live":
            act(value, anew=False)
        elif value is None:
            act()
        else:
            act(value)
    assert desk.terminal.strange == b""
    assert desk.paging == desk.display.paged
