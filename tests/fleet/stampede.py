"""What a fleet does to its server after an outage, or when all of it is switched on at once: in virtual time.

Each terminal's requests are drawn by the scheduler that terminals use (core.polling); terminals do not know of each
other, so each is followed on its own. Result in build/fleet.json: `stampede` `{terminals, peak_over_mean}`, and a plot.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from posagent.core import polling

SLEEP_S = 300.0
BEFORE_S, OUTAGE_S, AFTER_S = 900.0, 3600.0, 3600.0
BUCKET_S = 10
OUT = Path("build")


def requests(dice: random.Random, *, began_s: float, until_s: float, down: tuple[float, float]) -> Iterator[float]:
    """The moments at which one terminal asks, from the start of its agent on; no answer while the server is down."""
    at, failures = began_s + polling.first_s(SLEEP_S, dice.random()), 0
    while at < until_s:
        yield at
        failures = failures + 1 if down[0] <= at < down[1] else 0
        at += polling.next_s(SLEEP_S, dice.random(), failures=failures)


def rates(terminals: int, *, seed: int = 1, together: bool = False) -> list[float]:
    """Requests a second, in steps of BUCKET_S. `together`: all are switched on when the outage ends, as after a power
    cut of a whole country."""
    end_s, dice = BEFORE_S + OUTAGE_S + AFTER_S, random.Random(seed)
    counts = [0] * int(end_s // BUCKET_S)
    down = (BEFORE_S, BEFORE_S + OUTAGE_S)
    for _ in range(terminals):
        began_s = down[1] if together else -2 * SLEEP_S * dice.random() - SLEEP_S
        for at in requests(dice, began_s=began_s, until_s=end_s, down=down):
            if at >= 0:
                counts[int(at // BUCKET_S)] += 1
    return [count / BUCKET_S for count in counts]


def peak_over_mean(terminals: int, found: Sequence[float]) -> float:
    """From the end of the outage on, of what the fleet asks on an ordinary day."""
    after = found[int((BEFORE_S + OUTAGE_S) // BUCKET_S) :]
    return max(after) / (terminals / SLEEP_S)


def plot(found: dict[str, list[float]], terminals: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 3.5))
    for name, values in found.items():
        axes.plot([at * BUCKET_S / 60 for at in range(len(values))], values, label=name, linewidth=1)
    axes.axvspan(BEFORE_S / 60, (BEFORE_S + OUTAGE_S) / 60, color="0.9", label="server down")
    axes.axhline(terminals / SLEEP_S, color="0.5", linewidth=0.7, linestyle="--", label="mean of an ordinary day")
    axes.set(xlabel="minutes", ylabel="requests a second", title=f"{terminals:,} terminals, polls every {SLEEP_S:g} s")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--terminals", type=int, default=1_000_000)
    count = parser.parse_args().terminals
    found = {"after an outage": rates(count), "switched on together": rates(count, together=True)}
    worst = {name: round(peak_over_mean(count, values), 3) for name, values in found.items()}
    OUT.mkdir(exist_ok=True)
    path = OUT / "fleet.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    told["stampede"] = {"terminals": count, "peak_over_mean": max(worst.values()), "cases": worst}
    path.write_text(json.dumps(told, indent=1, sort_keys=True))
    plot(found, count, OUT / "stampede.svg")
    print(json.dumps(told["stampede"]))
    return 0 if max(worst.values()) <= 1.2 else 1


if __name__ == "__main__":
    sys.exit(main())
