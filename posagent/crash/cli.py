"""posagent-crash: explore all cuts, replay one path as a story, check the checker with seeded faults."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from posagent.crash import campaign, replay, report, stage
from posagent.crash.explorer import Bounds, Explorer
from posagent.crash.oracles import ORACLES
from posagent.crash.scenarios import SCENARIOS
from posagent.crash.units import PROFILES

USAGE = 2
FAILED = 4


def _run(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    listed = campaign.quick() if arguments.quick else campaign.every()
    jobs = [(s, p) for s, p in listed if arguments.scenario in (None, s) and arguments.profile in (None, p)]
    bounds = Bounds(executions=arguments.executions, seconds=arguments.seconds, cuts=arguments.cuts)
    result = campaign.write(campaign.run(jobs, bounds), Path(arguments.out) / "crash.json", began)
    report.write(result, Path(arguments.out))
    if arguments.page is not None:
        text = report.page(arguments.page.read_text("utf-8"), result)
        if report.UNEXPLORED in text:  # on a busy machine the time ends before the cuts do: no reason to know less
            print(f"{arguments.page} stays as it is: there was no time to explore every cut of its updates")
        else:
            arguments.page.write_text(text, encoding="utf-8")
    total = result["totals"]
    print(
        f"{total['executions']} executions, {total['cut_points']} cuts, {total['states']} durable states, "
        f"{total['fixpoints']} of {total['explorations']} fixpoints, {total['violations']} violations, "
        f"{total['seconds']} s -> {arguments.out}/crash.json, crash.html, power-loss.svg"
    )
    for one in result["scenarios"].values():
        for found in one["found"]:
            print(f"VIOLATION {found['oracle']}: {found['detail']}\n  {found['replay']}")
    return FAILED if total["violations"] else 0


def _replay(arguments: argparse.Namespace) -> int:
    try:
        path = replay.parse(arguments.path)
        with stage.opened(arguments.stage) as made:
            explorer = Explorer(made, SCENARIOS[arguments.scenario], PROFILES[arguments.profile])
            run = replay.play(explorer, path, (lambda _: None) if arguments.json else print)
            if arguments.json:
                violation = str(run.violation) if run.violation else None
                print(json.dumps({"digest": replay.digest(explorer, run), "violation": violation}))
    except (ValueError, AssertionError) as error:
        print(f"posagent-crash: {error}", file=sys.stderr)
        return USAGE
    return FAILED if run.violation else 0


def _oracles(_: argparse.Namespace) -> int:
    for name, meaning in ORACLES.items():
        print(f"{name:<12}{meaning}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="posagent-crash", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="explore all cuts of all scenarios on all devices")
    run.add_argument("--scenario", choices=SCENARIOS)
    run.add_argument("--profile", choices=PROFILES)
    run.add_argument("--executions", type=int, help="stop each exploration after so many")
    run.add_argument("--seconds", type=float, help="stop each exploration after so long")
    run.add_argument("--cuts", type=int, help="at most so many power cuts in a row")
    run.add_argument("--quick", action="store_true", help="all scenarios on one device, some on all")
    run.add_argument("--page", type=Path, help="write the table of what follows a cut into this page")
    run.add_argument("--out", default="build", help="directory for crash.json, crash.html and power-loss.svg")
    run.set_defaults(do=_run)
    again = commands.add_parser("replay", help="tell the story of one path")
    again.add_argument("path", help="such as 'cut=117 choices=0.2.1 choices=-'")
    again.add_argument("--scenario", choices=SCENARIOS, default="good")
    again.add_argument("--profile", choices=PROFILES, default="emmc-512")
    again.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    again.add_argument("--json", action="store_true", help="only a digest of the end")
    again.set_defaults(do=_replay)
    commands.add_parser("oracles", help="what must hold").set_defaults(do=_oracles)
    arguments = parser.parse_args(argv)
    code: int = arguments.do(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
