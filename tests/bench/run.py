"""`make bench`: what the resident costs when idle, how fast it starts, how fast it installs -> build/bench.json.

The resident is the real posagentd of a simulated terminal at rest. RSS and PSS come from /proc/PID/smaps_rollup,
wake-ups from the voluntary and involuntary context switches of the idle process, start-up from exec to the first
answer on its socket. The install figures are those of tests/bench/install.py, in the same run.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from posagent import wire
from posagent.core.errors import PosagentError
from posagent.sim.lab import Lab, SimulatedTerminal

IDLE_S = 60.0
STARTS = 5


def memory_mib(pid: int, kind: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{kind}:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return round(int(found[1]) / 1024, 2)


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


def start_seconds(terminal: SimulatedTerminal) -> float:
    """From exec of posagentd to its first answer, on a terminal whose own agent was stopped."""
    command = [sys.executable, "-m", "posagent.daemon", "--config", str(terminal.layout.config)]
    terminal.layout.api.unlink(missing_ok=True)
    began = time.perf_counter()
    agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                wire.call(str(terminal.layout.api), "status", {})
            except PosagentError:
                time.sleep(0.002)
                continue
            return time.perf_counter() - began
    finally:
        agent.kill()
        agent.wait()


def resident(idle_s: float) -> dict[str, float]:
    """Figures of the idle agent."""
    with tempfile.TemporaryDirectory(prefix="bench-") as base:
        lab = Lab(Path(base))
        try:
            terminal = lab.terminal("t")
            pid = int(terminal.control("state")["pids"]["agent"])
            time.sleep(10)  # workers of the start have ended by then
            before, began = switches(pid), time.monotonic()
            time.sleep(idle_s)
            woken = (switches(pid) - before) / (time.monotonic() - began)
            figures = {
                "idle_rss_mib": memory_mib(pid, "Rss"),
                "idle_pss_mib": memory_mib(pid, "Pss"),
                "wakeups_per_s": round(woken, 3),
            }
            terminal.control("off")
            starts = [start_seconds(terminal) for _ in range(STARTS)]
            return {**figures, "startup_s": round(statistics.median(starts), 3)}
        finally:
            lab.close()


def install(size_mib: int) -> dict[str, object]:
    script = Path(__file__).with_name("install.py")
    done = subprocess.run(
        [sys.executable, str(script), "--size-mib", str(size_mib)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script.name}: {done.stderr[-1000:]}")
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    parser.add_argument("--size-mib", type=int, default=256)
    arguments = parser.parse_args()
    figures: dict[str, object] = {**resident(arguments.idle_s), "install": install(arguments.size_mib)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
