"""Many explorations: which scenarios on which devices, on all cores, live on the screen, and as JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from posagent.crash import replay, stage
from posagent.crash.explorer import Bounds, Explorer, Report
from posagent.crash.report import PAGE_SCENARIOS
from posagent.crash.scenarios import SCENARIOS
from posagent.crash.units import PROFILES, RAW

FOUND_SHOWN_MAX = 20
Job = tuple[str, str]
"""Scenario and profile."""


def every() -> list[Job]:
    return [(scenario, profile) for scenario in SCENARIOS for profile in PROFILES]


def quick() -> list[Job]:
    """Every scenario on the harshest device, and on every device those that docs/power-loss.md shows."""
    return [job for job in every() if job[1] == RAW.name or job[0] in PAGE_SCENARIOS]


def explore(job: Job, bounds: Bounds) -> Report:
    """One exploration, in a process of its own."""
    scenario, profile = job
    with stage.opened() as made:
        return Explorer(made, SCENARIOS[scenario], PROFILES[profile]).explore(bounds)


def run(jobs: Iterable[Job], bounds: Bounds, *, cores: int | None = None) -> list[Report]:
    """All jobs; a line is printed for each when it is done."""
    waiting = list(jobs)
    print(
        f"{'scenario':<18}{'device':<10}{'operations':>11}{'cuts':>10}{'executions':>11}{'states':>8}"
        f"{'depth':>6}{'fixpoint':>9}{'violations':>11}{'seconds':>9}"
    )
    reports = []
    with ProcessPoolExecutor(cores or os.cpu_count()) as pool:
        longest_first = sorted(waiting, key=lambda job: -len(SCENARIOS[job[0]].goals))
        for future in as_completed([pool.submit(explore, job, bounds) for job in longest_first]):
            report = future.result()
            reports.append(report)
            print(
                f"{report.scenario:<18}{report.profile:<10}{report.operations:>11}{report.cut_points:>10}"
                f"{report.executions:>11}{report.states:>8}{report.cuts_deep:>6}"
                f"{'yes' if report.fixpoint else 'no':>9}{len(report.found):>11}{report.seconds:>9.1f}",
                flush=True,
            )
    return sorted(reports, key=lambda one: waiting.index((one.scenario, one.profile)))


def numbers(report: Report) -> dict[str, Any]:
    return {
        "operations": report.operations,
        "cut_points": report.cut_points,
        "executions": report.executions,
        "joined": report.joined,
        "states": report.states,
        "cuts_deep": report.cuts_deep,
        "fixpoint": report.fixpoint,
        "violations": len(report.found),
        "seconds": round(report.seconds, 1),
        "coverage": [
            {
                "operation": what,
                "stage": where,
                "after": [{"outcomes": kinds, "boots": boots} for kinds, boots in sorted(report.after.get(at, ()))],
            }
            for at, (what, where) in enumerate(report.trace, 1)
        ],
        "found": [
            {
                "oracle": found.violation.oracle,
                "detail": found.violation.detail,
                "replay": f"posagent-crash replay --scenario {report.scenario} --profile {report.profile} "
                f"'{replay.text(found.path)}'",
            }
            for found in report.found[:FOUND_SHOWN_MAX]
        ],
    }


def totals(reports: Iterable[Report], wall_s: float) -> dict[str, Any]:
    listed = list(reports)
    sums = {name: sum(getattr(one, name) for one in listed) for name in ("cut_points", "executions", "states")}
    return {
        **sums,
        "explorations": len(listed),
        "fixpoints": sum(one.fixpoint for one in listed),
        "violations": sum(len(one.found) for one in listed),
        "seconds": round(wall_s, 1),
    }


def write(reports: list[Report], path: Path, began: float) -> Mapping[str, Any]:
    """`{"scenarios": {"NAME/DEVICE": {…}}, "totals": {…}}`."""
    result = {
        "scenarios": {f"{one.scenario}/{one.profile}": numbers(one) for one in reports},
        "totals": totals(reports, time.monotonic() - began),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result
