"""The explorer itself: planned cuts fire, paths replay, and states that count as one behave as one."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from posagent.crash import replay, stage
from posagent.crash.explorer import Bounds, Choices, Explorer, Leg, Report, State
from posagent.crash.oracles import ORACLES, Violated, need
from posagent.crash.scenarios import SCENARIOS
from posagent.crash.stage import Stage
from posagent.crash.units import PROFILES, Unit
from tests.crash import mutants

WALKS = 40
CUTS_MAX = 6


@pytest.fixture(scope="module")
def made() -> Iterator[Stage]:
    with stage.opened() as opened:
        yield opened


def explorer(made: Stage, scenario: str = "good", profile: str = "emmc-512") -> Explorer:
    return Explorer(made, SCENARIOS[scenario], PROFILES[profile])


@pytest.fixture(scope="module")
def explored(made: Stage) -> tuple[Explorer, Report]:
    one = explorer(made, "panic-one-try", "raw")
    return one, one.explore(Bounds())


def test_a_planned_cut_fires_where_it_was_planned(made: Stage) -> None:
    start = explorer(made).factory()
    whole = explorer(made).execute(start)
    assert whole.violation is None and not whole.was_cut
    for number in range(1, len(whole.medium.done) + 1, 23):
        run = explorer(made).execute(start, cut_at=number)
        assert run.was_cut and run.medium.done == whole.medium.done[: number - 1]


def test_a_cut_after_the_end_never_fires(made: Stage) -> None:
    with pytest.raises(ValueError, match="there is no operation 9999"):
        replay.play(explorer(made), replay.parse("cut=9999 choices=- choices=-"))


def test_every_operation_of_an_execution_is_a_cut(made: Stage) -> None:
    one = explorer(made)
    run = one.execute(one.factory())
    assert [number for number, _, _ in run.cuts] == list(range(1, len(run.medium.done) + 1))


def test_an_exploration_reaches_its_fixpoint_without_a_violation(explored: tuple[Explorer, Report]) -> None:
    _, report = explored
    assert report.found == [] and report.fixpoint
    assert report.executions > report.states > report.operations
    assert report.cuts_deep > 2
    assert set(report.after) == set(range(1, report.operations + 1)), "an operation that was never cut"
    assert all(report.after.values()), "a cut from which nobody went on"


def test_bounds_end_an_exploration_that_then_claims_no_fixpoint(made: Stage) -> None:
    for bounds in (Bounds(executions=3), Bounds(cuts=1), Bounds(seconds=0.0)):
        report = explorer(made).explore(bounds)
        assert not report.fixpoint
        assert report.cuts_deep <= 1


def test_no_walk_leaves_what_was_explored(explored: tuple[Explorer, Report]) -> None:
    """Random paths, whose states are not merged with any other on the way, end in states that the exploration has."""
    one, _ = explored
    known = frozenset().union(*one.cuts.values())
    chance = random.Random(20261123)
    depths = set()
    for _ in range(WALKS):
        state = one.factory()
        for _ in range(CUTS_MAX):
            run = one.execute(state, prescribed(one, state, chance))
            assert run.violation is None
            if not run.cuts:
                break
            number, crashed, world = chance.choice(run.cuts)
            state = State(crashed, world, (*state.path, Leg(tuple(run.choices.taken), number)))
            assert known >= {found.key for found in one.states(state)}, replay.text(state.path)
        depths.add(len(state.path))
    assert CUTS_MAX in depths


def prescribed(one: Explorer, state: State, chance: random.Random) -> tuple[int, ...]:
    """Choices at random, one after the other, because each decides what is asked next; then the first ones."""
    chosen: tuple[int, ...] = ()
    while len(asked := one.execute(state, chosen, collect=False).choices.asked) > len(chosen):
        chosen = (*chosen, chance.randrange(asked[len(chosen)][1]))
    return chosen[: chance.randint(0, len(chosen))]


def test_a_path_survives_being_written_down() -> None:
    path = (Leg((0, 2, 1), 117), Leg((), 5), Leg((1,), None))
    assert replay.text(path) == "cut=117 choices=0.2.1 cut=5 choices=- choices=1"
    assert replay.parse(replay.text(path)) == path


@pytest.mark.parametrize(
    "line", ["", "cut= choices=-", "choices", "cut=1", "cut=1 choices=1..2", "cut=99999999 choices=-"]
)
def test_what_is_no_path_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        replay.parse(line)


def test_the_story_of_a_path_tells_cuts_decisions_and_the_end(made: Stage) -> None:
    told: list[str] = []
    replay.play(explorer(made), replay.parse("cut=31 choices=- choices=-"), told.append)
    story = "\n".join(told)
    for words in ("power cut before operation 31", "not durable", "boot 1: slot a", "agent: ", "u1: 2.0.0 committed"):
        assert words in story
    assert told[-1] == "=== all oracles hold"


def test_choices_list_every_other_way_once() -> None:
    choices = Choices((1,))
    assert [choices.choose("x", 3), choices.choose("y", 3), choices.choose("z", 2)] == [1, 0, 0]
    assert list(choices.others()) == [(1, 1), (1, 2), (1, 0, 1)]


def test_a_unit_that_is_written_may_be_old_new_or_torn() -> None:
    unit = Unit((b"old!",))
    unit.write(b"new!")
    assert unit.fates(PROFILES["emmc-4k"].spoiled) == (b"old!", b"ned!", b"olw!", b"new!")
    unit.flush()
    assert unit.fates() == (b"new!",)


def test_oracles_have_names() -> None:
    with pytest.raises(Violated):
        need(False, "once", "twice")
    with pytest.raises(AssertionError):
        need(False, "no such oracle", "")
    assert len(ORACLES) >= 15


def test_there_are_seeded_faults_enough() -> None:
    assert len(mutants.MUTANTS) >= 20
