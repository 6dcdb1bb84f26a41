"""Does one job of the campaign in a network of its own, so that several terminals find their updates at one address.

Started by hil.campaign with the job as JSON; prints the result as one line of JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hil import network
from hil.campaign import figures, life, writelog

KEPT = Path("build/campaign")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Start such a process, and wait for its result. Raises RuntimeError where the rig failed, not the terminal."""
    command = [sys.executable, "-m", "hil.campaign.apart", json.dumps(job)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"the rig failed at {job}")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def main() -> None:
    job = json.loads(sys.argv[1])
    bundle = Path(job["bundle"])
    network.enter()
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        if "plan" in job:
            result = life.Life(life.parse(job["plan"]), folder, bundle, job["digests"]).live().to_dict()
            if result["wrong"] or result["lost"]:
                _keep(folder)
        elif "moments" in job:
            result = writelog.examine(folder, bundle, job["digests"], job["moments"], job["seed"], KEPT)
        else:
            result = figures.measure(folder, bundle)
        print(json.dumps(result), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path) -> None:
    """The console's transcript, for whoever looks into a finding."""
    kept = KEPT / f"{folder.name}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "console.log", kept)
    print(f"console: {kept}", file=sys.stderr)


if __name__ == "__main__":
    main()
