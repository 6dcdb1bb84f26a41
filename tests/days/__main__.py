"""`make sim-days`: a campaign of simulated terminal-days -> build/days.json, build/days.html."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tests.days import campaign, report
from tests.days.cast import cast


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.days", description=__doc__)
    parser.add_argument("--days", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", help="one terminal, by its name")
    parser.add_argument("--out", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    roles = [one for one in cast(arguments.days, arguments.seed) if arguments.only in (None, one.name)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    began, lives = time.monotonic(), []
    for one in campaign.lived(roles, arguments.processes):
        lives.append(one)
        found = campaign.together(lives, arguments.seed, time.monotonic() - began)
        (arguments.out / "days.json").write_text(json.dumps(found, indent=1) + "\n")
        for text in one["violations"]:
            print(f"violation: {text}", flush=True)
        (arguments.out / "days-lives.json").write_text(json.dumps(lives))
    print(json.dumps(found, indent=1))
    report.write(found, lives, arguments.out / "days.html")
    wrong = campaign.sound(found)
    for text in wrong:
        print(f"WRONG {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
