"""Seconds and memory of a backup of the merchant's data -> one line of JSON. `python -m tests.bench.backup [MB]`

Half of it is a database of payments, half are parameters as hexadecimal digits and noise, which hardly compress. Runs
in a process of its own, because the peak of memory is the process's.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.data.shop import ABOUT, Shop

MB = 20


def filled(base: Path, megabytes: int) -> Shop:
    shop = Shop(base).open()
    noise = random.Random(5)
    while sum(path.stat().st_size for path in shop.data.glob("ledger.db")) < megabytes * 500_000:
        shop.take(10_000)
    for number in range(megabytes):
        data = noise.randbytes(250_000)
        (shop.data / f"params/{number}").write_bytes(data if number % 2 else data.hex().encode()[:250_000] + data)
    return shop


def measured(base: Path) -> dict[str, float]:
    """Of a backup that is made, then verified."""
    shop = Shop(base)
    backups = shop.backups
    idle = _peak_mib()
    began = time.monotonic()
    ends: dict[str, float] = {}
    made: dict[str, float] = {}
    for message in backups.make(str(shop.data), name="u-1", **ABOUT):
        made = message.get("result", made)
        ends[message["progress"]["phase"] if "progress" in message else "test"] = time.monotonic() - began
    began = time.monotonic()
    list(backups.verify("u-1"))
    return {
        "seal_s": round(ends["seal"], 2),
        "test_s": round(ends["test"] - ends["seal"], 2),
        "verify_s": round(time.monotonic() - began, 2),
        "idle_mib": idle,
        "peak_mib": _peak_mib(),
        "sealed_bytes": made["bytes"],
        "rows": made["rows"],
        "cpu_s": round(time.process_time(), 2),
    }


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> int:
    if len(sys.argv) == 3:
        print(json.dumps(measured(Path(sys.argv[2]))))
        return 0
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else MB
    with tempfile.TemporaryDirectory() as base:
        filled(Path(base), megabytes)
        return subprocess.run([sys.executable, "-m", "tests.bench.backup", "-", base], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
