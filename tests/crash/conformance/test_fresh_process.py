"""A path of the explorer ends the same in a process that has done nothing before: no state survives in globals.

The explorer runs thousands of executions in one process, with caches. Paths it took are walked again, each in a
process of its own and with another order of sets, and must leave the same durable state, operation for operation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from posagent.crash import replay, stage
from posagent.crash.explorer import Bounds, Execution, Explorer, Leg, State
from posagent.crash.explorer import Path as Legs
from posagent.crash.scenarios import SCENARIOS
from posagent.crash.stage import Stage
from posagent.crash.units import PROFILES

EXPLORATIONS = (("good", "emmc-512"), ("panic", "emmc-4k"), ("resumed-download", "raw"), ("cancel", "emmc-512"))
EXECUTIONS = 8
PATHS_EACH = 3
REPLAY_S = 60.0


class Walk(NamedTuple):
    """A path, as posagent-crash replay takes it."""

    scenario: str
    profile: str
    line: str


class Remembering(Explorer):
    """Keeps the path to every state that a cut has left, and of every execution."""

    def __init__(self, made: Stage, scenario: str, profile: str) -> None:
        super().__init__(made, SCENARIOS[scenario], PROFILES[profile])
        self.paths: list[Legs] = []

    def execute(
        self,
        start: State,
        prescribed: tuple[int, ...] = (),
        *,
        cut_at: int | None = None,
        collect: bool = True,
        join: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Execution:
        run = super().execute(start, prescribed, cut_at=cut_at, collect=collect, join=join, tell=tell)
        if collect:
            taken = tuple(run.choices.taken)
            self.paths += [(*start.path, Leg(taken, number)) for number, _, _ in run.cuts]
            self.paths.append((*start.path, Leg(taken, None)))
        return run


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The directory of one stage for all processes: bundles are signed once."""
    with tempfile.TemporaryDirectory(prefix="stage-") as folder, stage.opened(Path(folder)):
        yield Path(folder)


def sample(made: Stage, scenario: str, profile: str) -> list[Legs]:
    """Paths from the whole length of a short exploration: the shortest, some in between, the longest."""
    explorer = Remembering(made, scenario, profile)
    explorer.explore(Bounds(executions=EXECUTIONS))
    ordered = sorted(set(explorer.paths), key=lambda path: (len(path), len(replay.text(path)), replay.text(path)))
    return [ordered[part * (len(ordered) - 1) // (PATHS_EACH - 1)] for part in range(PATHS_EACH)]


def played(made: Stage, walk: Walk) -> Any:
    """What this process says of the path, after all that it has explored. The explorer is a new one, because one that
    remembers quiet ends does not switch those terminals off and on again, which is part of the trace."""
    explorer = Explorer(made, SCENARIOS[walk.scenario], PROFILES[walk.profile])
    try:
        run = replay.play(explorer, replay.parse(walk.line))
    except ValueError as error:
        return {"refused": str(error)}
    return {"digest": replay.digest(explorer, run), "violation": str(run.violation) if run.violation else None}


def replayed(root: Path, walk: Walk, hash_seed: int) -> Any:
    """What a fresh process says of the path."""
    words = ["--stage", str(root), "--scenario", walk.scenario, "--profile", walk.profile, "--json", walk.line]
    done = subprocess.run(
        [sys.executable, "-m", "posagent.crash.cli", "replay", *words],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=REPLAY_S,
        check=False,
    )
    return json.loads(done.stdout) if done.stdout else {"refused": done.stderr.removeprefix("posagent-crash: ").strip()}


@pytest.fixture(scope="module")
def here(root: Path) -> dict[Walk, Any]:
    """Paths of some explorations, and how they end in this process."""
    with stage.opened(root) as made:
        walks = [Walk(*one, replay.text(path)) for one in EXPLORATIONS for path in sample(made, *one)]
        return {walk: played(made, walk) for walk in walks}


def test_every_cut_that_was_explored_can_be_made_again(here: dict[Walk, Any]) -> None:
    refused = [f"{walk}: {end['refused']}" for walk, end in here.items() if "refused" in end]
    assert refused == [], "\n".join(refused)


def test_a_path_ends_the_same_in_a_fresh_process(root: Path, here: dict[Walk, Any]) -> None:
    assert len(here) == PATHS_EACH * len(EXPLORATIONS), "the same path twice"
    assert len({str(end) for end in here.values()}) > len(here) // 2, "the digests tell nothing apart"
    with ThreadPoolExecutor(2) as pool:
        fresh = list(pool.map(lambda numbered: replayed(root, numbered[1], numbered[0]), enumerate(here, 1)))
    differing = [
        f"{walk}\n  here  {here[walk]}\n  fresh {end}"
        for walk, end in zip(here, fresh, strict=True)
        if end != here[walk]
    ]
    assert differing == [], "\n".join(differing)
