"""`make hil-campaign`: power cuts of virtual terminals -> build/campaign.json and campaign.html.

Three parts: lives of terminals until enough cuts have fallen; the card at many moments between the writes of an update;
figures of an update without cuts. `--life PLAN` lives one plan again, `--moment LOG:N` examines the card before a write
again, as it is printed beside each finding.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hil.campaign import apart, life, report, writelog
from hil.image import variant
from hil.image.start import BUILT
from posagent.release import bundle

OUT = Path("build")
PARTS = ("lives", "writes", "figures")
MOMENTS = 400


class Campaign:
    """Does the parts, and writes the report after every step, so that it may be interrupted."""

    def __init__(self, seed: int, old: dict[str, Any]) -> None:
        self._seed, self._result = seed, old
        self._bundles, self._digests = prepare()
        self._lock = threading.Lock()

    def lives(self, cuts: int, jobs: int, earlier: Sequence[dict[str, Any]] = ()) -> None:
        """Lives on several machines at once, until so many cuts have fallen, those of `earlier` lives counted."""
        lives, known = list(earlier), {one["plan"] for one in earlier}
        took_s = float(self._result.get("seconds", 0.0)) if earlier else 0.0
        plans, began = (one for one in life.plans(self._seed) if str(one) not in known), time.monotonic()

        def work() -> None:
            while True:
                with self._lock:
                    if sum(len(one["fired"]) for one in lives) >= cuts:
                        return
                    plan = next(plans)
                record = self.live(plan)
                with self._lock:
                    lives.append(record)
                    report.tell(lives, sys.stdout)
                    self._keep(report.summary(lives, seconds=took_s + time.monotonic() - began))

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(work) for _ in range(jobs)]:
                done.result()

    def live(self, plan: life.Plan) -> dict[str, Any]:
        job = {"plan": str(plan), "bundle": str(self._bundles[plan.fault]), "digests": self._digests}
        return apart.run(job)

    def writes(self) -> None:
        job = {
            "moments": MOMENTS,
            "seed": self._seed,
            "bundle": str(self._bundles["migrates"]),
            "digests": self._digests,
        }
        self._keep({"writes": apart.run(job)})

    def figures(self) -> None:
        self._keep(apart.run({"bundle": str(self._bundles["none"])}))

    def _keep(self, more: dict[str, Any]) -> None:
        self._result |= more
        report.write(self._result, OUT)
        self.clean = report.is_clean(self._result)


def prepare() -> tuple[dict[str, Path], dict[str, str]]:
    """Bundles to offer, and digests of the images that must run."""
    with (BUILT / "rootfs.ext4").open("rb") as image:
        digests = {"factory": hashlib.file_digest(image, "sha256").hexdigest()}
    bundles = {}
    for fault, version in life.VERSIONS.items():
        bundles[fault] = variant.build(
            BUILT / f"bundles/{version}-{fault}.bundle", version, fault, delta=fault not in life.WHOLE
        )
        digests[fault] = bundle.show(bundles[fault])["manifests"][0]["image_sha256"]
    return bundles, digests


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power of virtual terminals.")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="machines at once")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; the others stay as last reported")
    parser.add_argument("--more", action="store_true", help="add to the lives that were last reported")
    parser.add_argument("--life", type=life.parse, help="live this plan only, and print what came of it")
    parser.add_argument("--moment", metavar="LOG:N", help="examine the card before write N of a log that was kept")
    given = parser.parse_args()
    if given.life:
        record = Campaign(given.seed, {}).live(given.life)
        print(json.dumps(record, indent=1))
        return 1 if record["wrong"] or record["lost"] else 0
    if given.moment:
        log, _, number = given.moment.rpartition(":")
        with tempfile.TemporaryDirectory(prefix="moment-") as folder:
            found = writelog.again(Path(log), int(number), Path(folder))
        print("\n".join(found) or "nothing is wrong at this moment")
        return 1 if found else 0
    last = OUT / "campaign.json"
    old = json.loads(last.read_text()) if (given.part or given.more) and last.exists() else {}
    campaign = Campaign(given.seed, old)
    parts = given.part or PARTS
    if "lives" in parts:
        campaign.lives(given.cuts, given.jobs, old.get("lives", ()) if given.more else ())
    if "writes" in parts:
        campaign.writes()
    if "figures" in parts:
        campaign.figures()
    print(report.totals(json.loads(last.read_text())))
    return 0 if campaign.clean else 1


if __name__ == "__main__":
    sys.exit(main())
