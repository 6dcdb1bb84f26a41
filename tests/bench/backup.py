"""Seconds and memory of a backup of the merchant's data -> one line of JSON. `python -m tests.bench.backup [MB]`

A quarter of it is a database of payments; the rest are parameters as hexadecimal digits and noise, which hardly
compress. Runs in a process of its own, because the peak of memory is the process's.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from posagent.data.generations import result_of
from tests.data.shop import ABOUT, Shop

MB = 20


def filled(base: Path, megabytes: int) -> Shop:
    shop = Shop(base).open()
    noise = random.Random(5)
    while (shop.data / "ledger.db").stat().st_size < megabytes * 250_000:
        shop.take(2_000)
    for number in range(megabytes):
        data = noise.randbytes(250_000)
        (shop.data / f"params/{number}").write_bytes((data if number % 2 else data.hex().encode()[:250_000]) * 3)
    return shop


def measured(base: Path) -> dict[str, float]:
    """Of a backup that is made, verified and restored. Payments wait while it is sealed: `quiesce_s`."""
    shop = Shop(base)
    idle = _peak_mib()
    began = time.monotonic()
    ends: dict[str, float] = {}
    made: dict[str, float] = {}
    for message in shop.backups.make(str(shop.data), name="u-1", **ABOUT):
        made = message.get("result", made)
        ends[message["progress"]["phase"] if "progress" in message else "end"] = time.monotonic() - began
    times = [time.monotonic()]
    list(shop.backups.verify("u-1"))
    times.append(time.monotonic())
    result_of(shop.backups.restore("u-1", str(shop.root / "g-2/data")))
    times.append(time.monotonic())
    return {
        "data_mb": round(sum(one.stat().st_size for one in shop.data.rglob("*") if one.is_file()) / 1e6, 1),
        "database_mb": round((shop.data / "ledger.db").stat().st_size / 1e6, 1),
        "quiesce_s": round(ends["seal"], 2),
        "snapshot_s": round(ends["end"], 2),
        "snapshot_bytes": made["bytes"],
        "verify_s": round(times[1] - times[0], 2),
        "restore_s": round(times[2] - times[1], 2),
        "rows": made["rows"],
        "idle_mib": idle,
        "peak_mib": _peak_mib(),
        "cpu_s": round(time.process_time(), 2),
    }


def figures(megabytes: int = MB) -> dict[str, float]:
    """The same of so many megabytes, in a process of its own."""
    with tempfile.TemporaryDirectory() as base:
        filled(Path(base), megabytes)
        command = [sys.executable, "-m", "tests.bench.backup", "-", base]
        told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return told


def _peak_mib() -> float:
    """Not getrusage's, in which there is that of whoever started this."""
    told = Path("/proc/self/status").read_text()
    return round(int(told.partition("VmHWM:")[2].split()[0]) / 1024, 1)


def main() -> int:
    if len(sys.argv) == 3:
        print(json.dumps(measured(Path(sys.argv[2]))))
    else:
        print(json.dumps(figures(int(sys.argv[1]) if len(sys.argv) > 1 else MB)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
