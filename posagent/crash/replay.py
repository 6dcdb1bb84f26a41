"""One path through cuts and fates, again: as a line of text, as a story, as a digest to compare.

A path is written as its legs: `cut=117 choices=0.2.1 cut=5 choices=- choices=1`: the first execution is cut before
operation 117 after it was told 0, 2 and 1, the next before operation 5, the last runs to its end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from posagent.crash.explorer import Execution, Explorer, Leg, Path, State
from posagent.crash.medium import Crashed
from posagent.crash.oracles import World

_LEG = re.compile(r"(?:cut=(\d{1,7}) )?choices=(-|\d{1,4}(?:\.\d{1,4}){0,4000})")


def text(path: Path) -> str:
    """The path as one line."""
    return " ".join(
        (f"cut={leg.cut_at} " if leg.cut_at is not None else "") + "choices=" + (".".join(map(str, leg.choices)) or "-")
        for leg in path
    )


def parse(line: str) -> Path:
    """The path in a line. Raises ValueError."""
    legs, rest = [], line.strip()
    while rest:
        found = _LEG.match(rest)
        if found is None:
            raise ValueError(f"not a path from here on: {rest[:40]!r}")
        choices = () if found[2] == "-" else tuple(map(int, found[2].split(".")))
        legs.append(Leg(choices, int(found[1]) if found[1] else None))
        rest = rest[found.end() :].lstrip()
    if not legs:
        raise ValueError("a path has at least one leg, such as choices=-")
    return tuple(legs)


def play(explorer: Explorer, path: Path, tell: Callable[[str], None] = lambda _: None) -> Execution:
    """Run all legs; the last execution. Raises ValueError where a cut of the path does not happen."""
    state = explorer.factory()
    for number, leg in enumerate(path):
        tell(f"--- start {number + 1}: power on")
        run = explorer.execute(state, leg.choices, cut_at=leg.cut_at, collect=False, tell=tell)
        if leg.cut_at is not None and not run.was_cut:
            raise ValueError(f"there is no operation {leg.cut_at} in start {number + 1}")
        if leg.cut_at is None:
            break
        state = State(run.medium.crashed(), run.life.world, (*state.path, leg))
        tell(f"*** power cut before operation {leg.cut_at}")
        for line in undetermined(state.crashed):
            tell(f"    not durable: {line}")
    for name, kind, version in run.life.world.outcomes:
        tell(f"=== {name}: {version or '?'} {kind}")
    tell(f"=== {'violation of ' + str(run.violation) if run.violation else 'all oracles hold'}")
    return run


def undetermined(crashed: Crashed) -> list[str]:
    """What a cut has left open, for people."""
    found = [f"names in {path}: {len(some)} possibilities" for path, some in crashed.dirs if len(some) > 1]
    for path, listings in crashed.dirs:
        for name, fates in listings[-1]:
            if len(fates.sizes) > 1:
                found.append(f"size of {path}/{name}: {' or '.join(map(str, fates.sizes))} bytes")
            found += [f"{path}/{name}, block {at}: {len(some)} contents" for at, some in fates.blocks if len(some) > 1]
    for name, _, blocks in crashed.slots:
        found += [f"slot {name}, block {at}: {len(some)} contents" for at, some in blocks if len(some) > 1]
    found += [f"environment copy {at}: old, new or torn" for at, some in enumerate(crashed.boot) if len(some) > 1]
    return found


def digest(explorer: Explorer, run: Execution) -> str:
    """Of everything durable at the end of an execution, what is known, and what was violated."""
    world: World = run.life.world
    known = [sorted(value) if isinstance(value, frozenset) else value for value in map(world.__getattribute__, _FIELDS)]
    durable = explorer.key(run.medium.crashed(), World())
    return hashlib.sha256(repr((durable, known, str(run.violation), run.medium.done)).encode()).hexdigest()


_FIELDS = tuple(World.__dataclass_fields__)
