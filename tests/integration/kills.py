"""`make kills`: SIGKILL of the agent, the fetcher and the installer at random moments of real updates.

One simulated terminal is updated again and again; in each run one process is killed once. A run counts when the
process was alive and the update not over; it must end committed, with the right image in the right slot.
Writes build/kills.json: per process `kills`, `committed`, and the phases in which the kills fell.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from posagent.core.errors import PosagentError
from posagent.sim.lab import Lab, SimulatedTerminal

PROCESSES = ("agent", "fetcher", "installer")
NOISE_MIB = 4
RATE = "8m"
LONGEST_S = {"agent": 3.0, "fetcher": 0.8, "installer": 0.5}
"""How long after the request the moment is drawn from, so that it falls into the process' life."""


class Campaign:
    """Kills and their outcomes on one terminal."""

    def __init__(self, base: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._lab = Lab(base, rate_limit=RATE)
        self._terminal: SimulatedTerminal = self._lab.terminal("t", self._image("1.0.0"))
        self._number = 0

    def close(self) -> None:
        self._lab.close()

    def _image(self, version: str) -> Path:
        tree = self._lab.base / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "noise").write_bytes(self._random.randbytes(NOISE_MIB << 20))
        return self._lab.image(version, tree=tree, size_mib=16)

    def run(self, process: str) -> dict[str, Any] | None:
        """One update with one kill; None when the moment fell beside the process' life."""
        self._number += 1
        version = f"1.{self._number}.0"
        image = self._image(version)
        update = self._terminal.ask("update", source=self._lab.publish(version, image))["id"]
        if process == "installer":  # it also lives for a moment before; the moments that matter come now
            self._terminal.wait(lambda status: status["state"] not in ("download",), 60)
        time.sleep(self._random.uniform(0, LONGEST_S[process]))
        phase = self._kill(process, update)
        outcome = self._terminal.wait_outcome(update, 90)
        status = self._terminal.wait(lambda status: status["booted"] is not None, 10)
        booted = str(status["booted"])
        with self._terminal.layout.slot(booted).open("rb") as stream:
            held = hashlib.sha256(stream.read(image.stat().st_size)).hexdigest()
        right = held == hashlib.sha256(image.read_bytes()).hexdigest() == status["slots"][booted]["digest"]
        image.unlink()
        if phase is None:
            return None
        return {"phase": phase, "outcome": outcome["outcome"], "code": outcome["code"], "right_image": right}

    def _kill(self, process: str, update: str) -> str | None:
        try:
            status = self._terminal.ask("status")
            pid = self._terminal.control("state")["pids"].get(process)
        except PosagentError:
            return None  # the terminal is restarting: nothing is alive
        if pid is None or status["update"] is None or status["update"]["id"] != update:
            return None
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return str(status["state"])


def run(kills: int, seed: int) -> dict[str, Any]:
    """`kills` of each process. The seed makes the moments repeatable, not the scheduling."""
    base = Path(tempfile.mkdtemp(prefix="kills-"))
    result: dict[str, Any] = {"seed": seed}
    campaign = Campaign(base, seed)
    try:
        for process in PROCESSES:
            done: list[dict[str, Any]] = []
            while len(done) < kills:
                one = campaign.run(process)
                if one is not None:
                    done.append(one)
            good = [one for one in done if one["outcome"] == "committed" and one["right_image"]]
            phases = Counter(str(one["phase"]) for one in done)
            bad = [one for one in done if one not in good]
            result[process] = {"kills": len(done), "committed": len(good), "phases": dict(phases), "bad": bad}
    finally:
        campaign.close()
        shutil.rmtree(base, ignore_errors=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/kills.json"))
    arguments = parser.parse_args()
    result = run(arguments.kills, arguments.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if all(result[process]["committed"] == result[process]["kills"] for process in PROCESSES) else 1


if __name__ == "__main__":
    sys.exit(main())
