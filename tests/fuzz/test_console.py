"""The fuzzing of the serial line: it runs, and it would see what it looks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posagent.console.auth import Proof
from posagent.core.errors import PosagentError
from posagent.core.frames import Frame
from posagent.installer import engineer
from posagent.sim.fieldline import SimulatedConsole
from tests.fuzz import console
from tests.fuzz.console import CHALLENGE, TARGETS, Auth, Frames, Machine, Target

COUNT = 3000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SAMPLE", 500)


@pytest.mark.parametrize("name", TARGETS)
def test_some_thousand_inputs_do_no_harm(name: str) -> None:
    found = console.run(name, COUNT)
    assert found["inputs"] == COUNT
    assert found["distinct"] > 0.7 * found["distinct_of"], "inputs differ"


def test_most_inputs_of_ten_million_go_where_they_are_cheap_and_all_are_given() -> None:
    assert sum(share for _, share in TARGETS.values()) == pytest.approx(1.0)


def finds(target: Target, count: int = COUNT) -> bool:
    try:
        for _ in range(count):
            target.take(target.changes.one())
        target.check()
    except AssertionError:
        return True
    finally:
        target.close()
    return False


def everything_permitted(made: SimulatedConsole) -> None:
    made.access.permit = lambda verb: None  # type: ignore[method-assign]


def unlocked_at_once(made: SimulatedConsole) -> None:
    made.access.answer = lambda answer, then: then(made.access._unlock("look", Proof(name="x")))  # type: ignore[method-assign]


@pytest.mark.parametrize("mistake", [everything_permitted, unlocked_at_once])
def test_a_terminal_that_does_too_much_would_be_found(mistake: Callable[[SimulatedConsole], None]) -> None:
    assert finds(Machine(1, mistake))


def test_an_answer_that_unlocks_would_be_found() -> None:
    assert finds(Auth(1, CHALLENGE))


def test_a_reader_of_frames_that_keeps_too_much_or_fails_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Frames(1)
    monkeypatch.setattr("posagent.core.arq.WINDOW", 4000)
    assert finds(target)
    monkeypatch.undo()

    def careless(frame: Frame, key: int = 0) -> bytes:
        return b"\0\0"

    monkeypatch.setattr(console, "encode", careless)
    assert finds(Frames(1))


def test_a_point_on_a_curve_in_a_form_that_the_library_does_not_know_is_refused() -> None:
    """Found by fuzzing: it was a fault of the installer's, and cost whoever tried no delay."""
    target = Auth(1)
    for _, changes in target.changes._kinds[:1]:
        blob = bytearray(changes.seeds[1])
    blob[blob.index(b"nistp256\0\0\0A\x04") + len(b"nistp256\0\0\0A")] = 0xA3
    with pytest.raises(PosagentError, match="unlock_refused"):
        engineer.verify(challenge="x", answer=console._armored(bytes(blob)), role="update", cas=target._cas, now_s=0.0)
