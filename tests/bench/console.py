"""`make bench-console`: what the machine mode makes of bad lines, and millions of bad inputs -> build/console.json.

`noise`: 2 MB from the laptop's real link to the real console of a whole terminal, in virtual time, at 115200 baud. A
byte has ten bits, each of which is wrong with `bit_error_rate`; on a line with errors bytes are dropped and doubled as
well, and it stands still for half a second now and then. `efficiency` is the file's bytes by what the line could have
carried in that time. `pty`: the same on a terminal of real processes, in real time, through a bridge between two ptys.
`fuzz`: inputs given to each target, none of which did harm (tests/fuzz/console.py): a failure ends the run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posagent.field.link import Terminal
from posagent.field.ports import open_port
from posagent.release import keys
from posagent.sim import layout
from posagent.sim.bridge import Bridge
from posagent.sim.fieldline import FieldLine, Noise
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.lab import Lab
from posagent.sim.layout import Settings
from tests.bench.run import memory_mib
from tests.console.engineers import certify, make_key, sign
from tests.fuzz import console as fuzz

BYTES = 2_000_000
BAUD = 115_200
BIT_ERROR_RATES = (0.0, 1e-6, 1e-5, 1e-4)
ELSE = {"drops": 1e-5, "doubles": 1e-5, "stalls_per_s": 0.05}
"""What a line with bit errors does besides: a byte in a hundred thousand, half a second in twenty."""
PTY_BAUD = 460_800
PTY_ERRORS = 1e-5


def signer(ca: Path, folder: Path) -> Callable[[str], str]:
    certificate = certify(ca, make_key(folder / "engineer"))
    return lambda challenge: sign(certificate, challenge)


def sent(
    terminal: Terminal, path: Path, line: str, bit_error_rate: float, baud: int, clock: Callable[[], float]
) -> Any:
    """Upload the file; one row."""
    size, repeated = path.stat().st_size, []
    begun = clock()
    result = terminal.upload(path, on_progress=lambda progress: repeated.append(progress["bytes_done"]))
    seconds = clock() - begun
    same = hashlib.sha256(Path(result["path"]).read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()
    row = {
        "line": line,
        "baud": baud,
        "bit_error_rate": bit_error_rate,
        "bytes": size,
        "seconds": round(seconds, 1),
        "efficiency": round(size / seconds / (baud / 10), 3),
        "digest_ok": same,
    }
    print(json.dumps(row), flush=True)
    return row


def in_virtual_time(folder: Path, path: Path, bit_error_rate: float) -> Any:
    keys_dir = folder / "keys"
    if not keys_dir.exists():
        keys.init(keys_dir)
    made = layout.create(folder / f"t{bit_error_rate}", image=None, keys_dir=keys_dir, settings=Settings())
    terminal = InProcessTerminal(made)
    terminal.boot()
    terminal.settle()
    noise = Noise(bit_errors=bit_error_rate, **ELSE) if bit_error_rate else Noise()
    line = FieldLine(terminal, baud=BAUD, noise=noise, seed=1)
    laptop = Terminal(line.open, clock=line, bytes_per_s=line.bytes_per_s)
    laptop.unlock("update", signer(keys_dir / "engineer-ca", Path(tempfile.mkdtemp(dir=folder))))
    row = sent(laptop, path, "virtual", bit_error_rate, BAUD, line.monotonic)
    terminal.time.end()
    return {**row, **{name: ELSE[name] if bit_error_rate else 0 for name in ELSE}}


def on_a_pty(folder: Path, path: Path) -> Any:
    lab = Lab(folder / "lab")
    try:
        terminal = lab.terminal("t")
        pid = terminal.control("state")["pids"]["agent"]
        before = memory_mib(pid, "Rss")
        noise = Noise(bit_errors=PTY_ERRORS, **ELSE)
        bridge = Bridge(terminal.layout.laptop, folder / "port", baud=PTY_BAUD, noise=noise, seed=1)
        laptop = Terminal(lambda: open_port(str(folder / "port"), PTY_BAUD), bytes_per_s=PTY_BAUD / 10)
        laptop.unlock("update", signer(lab.keys / "engineer-ca", folder))
        row = sent(laptop, path, "pty", PTY_ERRORS, PTY_BAUD, time.monotonic)
        after = memory_mib(pid, "Rss")
        laptop.close()
        bridge.end()
        return {**row, **ELSE, "agent_rss_mib_before": before, "agent_rss_mib_after": after}
    finally:
        lab.close()


def fuzzed(count: int) -> dict[str, Any]:
    inputs, distinct, seconds = dict[str, int](), dict[str, float](), dict[str, float]()
    for name, (_, share) in fuzz.TARGETS.items():
        begun = time.monotonic()
        told = fuzz.run(name, max(1, round(count * share)))
        inputs[name], distinct[name] = told["inputs"], round(told["distinct"] / told["distinct_of"], 3)
        seconds[name] = round(time.monotonic() - begun, 1)
        print(name, told, seconds[name], "s", flush=True)
    return {**inputs, "total": sum(inputs.values()), "distinct_share_of_a_sample": distinct, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzz", type=int, default=200_000, metavar="N", help="inputs, of all targets together")
    parser.add_argument("--bytes", type=int, default=BYTES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="line-") as name:
        folder = Path(name)
        path = folder / "x.bundle"
        path.write_bytes(random.Random(1).randbytes(arguments.bytes))
        rows = [in_virtual_time(folder, path, rate) for rate in BIT_ERROR_RATES]
        rows.append(on_a_pty(folder, path))
    report = {"noise": rows, "fuzz": fuzzed(arguments.fuzz)}
    Path("build").mkdir(exist_ok=True)
    Path("build/console.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["digest_ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
