"""`make bench-money`: the merchant's money through updates -> build/money.json.

Three parts: generated batches through updates whose power is cut (`crash_points`); seconds of a backup of 20 MB; and
what a whole simulated terminal tells, in which card numbers are looked for.

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
from tests.bench import backup
from tests.money import cards
from tests.money.batches import batch
from tests.money.life import FATES, Life, Touched, Wrong

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
    wrong, touched = "", False
    try:
        life.live()
        if cuts and not life.seen.cuts:
            raise Wrong("the planned cut did not come")
    except Wrong as found:
        wrong, touched = str(found), isinstance(found, Touched)
    except Exception as error:  # whatever the code under test raises in a life is a finding
        wrong = f"{type(error).__name__}: {error}"
    return {
        "batch": number,
        "fate": fate,
        "profile": profile,
        "cuts": cuts,
        "operations": life.seen.operations,
        "fell": life.seen.cuts,
        "wrong": wrong,
        "touched": touched,
    }


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


def campaign(batches: int) -> dict[str, Any]:
    """Lives of so many batches, on all cores; a power cut that fell is a crash point."""
    began = time.monotonic()
    shares = [range(at, min(at + AT_ONCE, batches)) for at in range(0, batches, AT_ONCE)]
    lives, points, operations, found = Counter[str](), 0, 0, list[dict[str, Any]]()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(_some, shares), 1):
            lives.update(one["lives"])
            points += one["cuts"]
            operations = max(operations, one["operations"])
            found += one["found"]
            print(f"\r{done * AT_ONCE} batches, {points} power cuts, {len(found)} wrong", end="", flush=True)
    print()
    touched = sum(one["touched"] for one in found)
    return {
        "batches": batches,
        "crash_points": points,
        "mismatches": len(found) - touched,
        "old_data_touched": touched,
        "lives": lives,
        "operations_max": operations,
        "found": found,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--batch", type=int, help="only this one, cut at every operation")
    given = parser.parse_args()
    if given.batch is not None:
        wrong = [one for one in lives(given.batch, True) if one["wrong"]]
        print(json.dumps(wrong, indent=1))
        return 1 if wrong else 0
    result = {**backup.figures(), **cards.scanned(), **campaign(given.batches)}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{sum(result['lives'].values())} lives of {given.batches} batches, {result['crash_points']} power cuts: ",
        end="",
    )
    print(f"{result['mismatches']} with wrong money, {result['old_data_touched']} with old data touched")
    for one in result["found"][:5]:
        print(
            f"  {one['fate']} on {one['profile']}: {one['wrong']}; again: python -m tests.money --batch {one['batch']}"
        )
    places = ", ".join(f"{count} {place}" for place, count in result["scanned"].items())
    print(f"{result['card_numbers_found']} card numbers in {places}, of {result['cards_kept']} in the data")
    print(
        f"backup of {result['data_mb']} MB with a database of {result['database_mb']} MB: payments wait "
        f"{result['quiesce_s']} s, made and tried in {result['snapshot_s']} s, {result['snapshot_bytes']} bytes, "
        f"restored in {result['restore_s']} s -> {OUT}"
    )
    return 1 if result["found"] or result["card_numbers_found"] else 0


if __name__ == "__main__":
    sys.exit(main())
