"""`make money`: generated batches through updates whose power is cut at every operation -> build/money.json.

Every batch lives its update once without a cut; then again and again, cut before another of its operations, and
sometimes a second time. Which operations a batch is cut at goes round, so that all of them are cut with thousands of
batches; of the first batches every single one is. `--batch N` lives one batch again, cut at each operation.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from posagent.crash.units import PROFILES
from tests.money.batches import batch
from tests.money.life import FATES, Life, Wrong

OUT = Path("build/money.json")
WHOLLY = 100
"""So many batches are cut at every operation."""
EACH = 8
"""The others at so many."""
AT_ONCE = 50


def lives(number: int, wholly: bool) -> Iterator[dict[str, Any]]:
    """What came of one batch: a record for each life."""
    fate = FATES[number % len(FATES)]
    profile = list(PROFILES.values())[number // len(FATES) % len(PROFILES)]
    first = _live(number, fate, profile.name, ())
    yield first
    operations = first["operations"]
    dice = random.Random(number)
    step = max(1, operations // EACH)
    chosen = range(1, operations + 1) if wholly else range(1 + number % step, operations + 1, step)
    for cut_at in chosen:
        more = (dice.randint(1, operations),) if dice.random() < 0.3 else ()
        yield _live(number, fate, profile.name, (cut_at, *more))


def _live(number: int, fate: str, profile: str, cuts: tuple[int, ...]) -> dict[str, Any]:
    life = Life(batch(number), fate, PROFILES[profile], number, cuts)
    told: dict[str, Any] = {"batch": number, "fate": fate, "profile": profile, "cuts": cuts}
    try:
        seen = life.live()
        if cuts and not seen.cuts:
            raise Wrong("the planned cut did not come")
    except Wrong as wrong:
        return {**told, "operations": life.seen.operations, "fell": life.seen.cuts, "wrong": str(wrong)}
    except Exception as error:  # whatever the code under test raises in a life is a finding
        return {**told, "operations": 0, "fell": life.seen.cuts, "wrong": f"{type(error).__name__}: {error}"}
    return {**told, "operations": seen.operations, "fell": seen.cuts, "wrong": ""}


def _some(numbers: range) -> dict[str, Any]:
    """A share of the work, in a process of its own."""
    count, cuts, operations, found = Counter[str](), 0, 0, []
    for number in numbers:
        for one in lives(number, number < WHOLLY):
            count[one["fate"]] += 1
            cuts += one["fell"]
            operations = max(operations, one["operations"])
            found += [one] if one["wrong"] else []
    return {"lives": dict(count), "cuts": cuts, "operations": operations, "found": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--batch", type=int, help="only this one, cut at every operation")
    given = parser.parse_args()
    if given.batch is not None:
        wrong = [one for one in lives(given.batch, True) if one["wrong"]]
        print(json.dumps(wrong, indent=1))
        return 1 if wrong else 0
    began = time.monotonic()
    shares = [range(at, min(at + AT_ONCE, given.batches)) for at in range(0, given.batches, AT_ONCE)]
    total: dict[str, Any] = {"batches": given.batches, "lives": Counter(), "cuts": 0, "operations": 0, "found": []}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(_some, shares), 1):
            total["lives"].update(one["lives"])
            total["cuts"] += one["cuts"]
            total["operations"] = max(total["operations"], one["operations"])
            total["found"] += one["found"]
            told = f"{done * AT_ONCE} batches, {total['cuts']} power cuts, {len(total['found'])} wrong"
            print(f"\r{told}", end="", flush=True)
    total["seconds"] = round(time.monotonic() - began, 1)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(total, indent=1) + "\n")
    print(f"\n{sum(total['lives'].values())} lives of {given.batches} batches, {total['cuts']} power cuts: ", end="")
    print(f"{len(total['found'])} with wrong money -> {OUT}")
    for one in total["found"][:5]:
        print(
            f"  {one['fate']} on {one['profile']}: {one['wrong']}; again: python -m tests.money --batch {one['batch']}"
        )
    return 1 if total["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
