"""What an update costs: bytes, time, memory and wear, with posagent and with the other ways to do it. Needs root.

    sudo .venv/bin/python tests/bench/payload.py [--pairs os,app,os_squashfs] [--out build/payload.json] [--runs 3]

For each pair of images (pairs.py) and each method (peers.py) slot b of a disk in a file gets the old image, memory is
dropped, and the method makes the new one of it; what is not byte for byte the new image says WRONG. Seconds are medians
of the runs, memory is that of the largest process. posagent is a fresh process each time, of an environment in which
nothing is installed but what a terminal has, and reads back; it stands here four times, each with what was fetched for
it in the spool: with a delta; without one on a terminal that has nothing of the image in the running slot, by the
fewest bytes, and as it is installed soonest from a stick or a fast link; and without one on a terminal that runs the
old image. Then the quick ways to install a full image by turns, ours as a fresh process and of the worker that has just
checked the bundle, and ours on a disk throttled like an eMMC against `dd`.
-> build/payload.json and payload.svg.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from posagent import wire
from posagent.core.packing import FEWEST
from posagent.core.pieces import Piece, joined
from posagent.fetcher.wanted import GAP_BYTES, HEAD_BYTES
from posagent.release import keys
from posagent.sim import layout
from posagent.sim.layout import Settings

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT))  # this is run as a script, too
from tests.bench import pairs  # noqa: E402
from tests.bench.install import cpu_of  # noqa: E402
from tests.bench.pairs import Pair, Unavailable, sha256  # noqa: E402
from tests.bench.peers import MAKERS, Disk, Taken, copy, measured, terminal_python  # noqa: E402

EMMC = {"write": 40_000_000, "read": 120_000_000}
"""Bytes per second."""
UNIT_ENV = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
"""As the installer's unit has them."""
NO_DIGEST = "0" * 64
"""In the record of a running slot that no delta was made for."""
QUICK = ("rauc", "swupdate")
SOONEST = 1e9
"""The price (core.packing) at which no byte that is saved is worth more unpacking."""
ROW = "{:28}{:>11}{:>7}{:>8}{:>8}{:>8}{:>9}{:>9}  {}"
BUILD = """
import json, sys, time
from pathlib import Path
from posagent.release import bundle
image, old, keys, out = map(Path, sys.argv[1:5])
figures, encode = {}, bundle.encode
def timed(*args, **options):
    start, cpu = time.perf_counter(), time.process_time()
    made = encode(*args, **options)
    took = {"build_s": time.perf_counter() - start, "build_cpu_s": time.process_time() - cpu}
    kind = "delta" if options.get("source") else "whole" if options.get("whole") else "full"
    figures[kind] = {"payload_bytes": made.length, **took}
    return made
bundle.encode = timed
bundle.build(image, version="9", compatible=[sys.argv[5]], keys_dir=keys, out=out, sources=[old])
print(json.dumps(figures))
"""
VERB = """
import json, sys
from posagent import config
from posagent.installer.service import Installer, linux_ports
loaded = config.load(sys.argv[1])
verb = Installer(loaded, linux_ports(loaded)).verbs[sys.argv[2]]
for message in verb({"bundle": sys.argv[3], "slot": "b", "update_id": "bench", "price": float(sys.argv[4])}):
    pass
counts = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
print(json.dumps({**message["result"], "storage_bytes_read": int(counts["read_bytes"])}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A bundle with both payloads (the delta only where it is smaller). `figures` are of the build by kind."""

    bundle: Path
    figures: dict[str, dict[str, float]]
    peak_mib: float

    @property
    def has_delta(self) -> bool:
        with tarfile.open(self.bundle, "r:") as tar:
            return any(".from-" in name for name in tar.getnames())


def built(pair: Pair) -> Built:
    """Kept as long as neither the images nor the code that makes payloads change."""
    core = [
        PROJECT / f"posagent/core/{name}.py" for name in ("codec", "dense", "manifest", "patch", "payload", "repack")
    ]
    sources = [*(PROJECT / "posagent/release").glob("*.py"), *core]
    parts = [*(path.read_bytes() for path in sorted(sources)), sha256(pair.old).encode(), sha256(pair.new).encode()]
    bundle = pair.folder / f"ours-{hashlib.sha256(b''.join(parts)).hexdigest()[:12]}.bundle"
    notes = bundle.with_suffix(".json")
    keys_dir = pair.folder.parent / "keys"
    if not keys_dir.exists():
        keys.init(keys_dir)
    if not notes.exists():
        places = map(str, (pair.new, pair.old, keys_dir, bundle))
        taken = measured(sys.executable, "-c", BUILD, *places, Settings().hardware)
        notes.write_text(json.dumps({"figures": json.loads(taken.said), "peak_mib": taken.rss_mib}))
    return Built(bundle=bundle, **json.loads(notes.read_text()))


class Posagent:
    """Our installer on a simulated terminal whose slot b is the disk's."""

    def __init__(self, pair: Pair, disk: Disk, stack: ExitStack) -> None:
        self.built = built(pair)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pos-bench-")))
        keys_dir = pair.folder.parent / "keys"
        self._terminal = layout.create(folder / "t", image=None, keys_dir=keys_dir, settings=Settings())
        self._terminal.cmdline.write_text("posagent.slot=a\n")
        self._bundle = self._terminal.spool / "bench.bundle"
        self._config, self._disk = self._terminal.config.read_text(), disk
        self._pair, self._digest = pair, sha256(pair.old)
        self.nothing = folder / "nothing.img"
        with self.nothing.open("wb") as stream:
            stream.truncate(pair.size)

    def verb(self, verb: str, running: str, *, known: bool, price: float = FEWEST) -> Taken:
        """One verb in a fresh process, with slot a at `running`; `known`: its record says that it is the old image."""
        self._settle(running, known)
        arguments = (str(self._terminal.config), verb, str(self._bundle), str(price))
        return measured(*terminal_python(), VERB, *arguments, env={**os.environ, **UNIT_ENV})

    def write_after_check(self, running: str, *, known: bool) -> Taken:
        """`write`, asked as the agent asks it, of a worker that has checked the bundle just before, as on a terminal:
        as with a service that is running already, nothing has to be started. The memory is of both."""
        self._settle(running, known)
        python, isolated, _ = terminal_python()
        program = (python, isolated, "-m", "posagent.installer.service", "--config", str(self._terminal.config))
        with socket.socket(socket.AF_UNIX) as listener:
            path = self._terminal.spool / "bench.sock"
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen()
            activated = ("sh", "-c", f'exec "$@" 3<&{listener.fileno()}', "sh", *program)
            env = {**os.environ, **UNIT_ENV, "LISTEN_FDS": "1"}
            with subprocess.Popen(activated, pass_fds=[listener.fileno()], env=env) as worker:
                try:
                    self._ask(path, "check")
                    with self._bundle.open("rb") as stream:  # on a terminal its pages would be gone until then
                        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    before, start = cpu_of(worker.pid), time.perf_counter()
                    said = self._ask(path, "write")
                    wall_s, cpu_s = time.perf_counter() - start, cpu_of(worker.pid) - before
                    status = Path(f"/proc/{worker.pid}/status").read_text()
                finally:
                    worker.terminate()
        return Taken(wall_s=wall_s, cpu_s=cpu_s, rss_mib=int(status.split("VmHWM:")[1].split()[0]) / 1024, said=said)

    def _ask(self, path: Path, verb: str) -> str:
        """The worker's last message."""
        args = {"bundle": str(self._bundle), "slot": "b", "update_id": "bench"}
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(path))
            line.sendall(wire.encode({"verb": verb, "args": args}))
            with line.makefile("rb") as answers:
                last = list(answers)[-1]
        if "result" not in wire.decode(last):
            raise RuntimeError(f"{verb}: {last.decode()}")
        return last.decode()

    def _settle(self, running: str, known: bool) -> None:
        text = self._config.replace(str(self._terminal.slot("b")), self._disk.b)
        self._terminal.config.write_text(text.replace(str(self._terminal.slot("a")), running))
        digest = self._digest if known else NO_DIGEST
        slot = {"state": "good", "version": "1", "digest": digest, "size": self._pair.size, "counter": 0}
        records = {"a": {**slot, "update_id": ""}, "b": {**slot, "update_id": "", "state": "bad", "digest": ""}}
        self._terminal.installer.mkdir(exist_ok=True)
        (self._terminal.installer / "slots.json").write_text(json.dumps({"format": 1, "slots": records}))

    def fetch(self, running: str, *, known: bool, price: float = FEWEST) -> tuple[Taken, int]:
        """Have in the spool what the installer asks for, as the fetcher would: the last plan, and how many bytes."""
        parts: list[Piece] = [(0, HEAD_BYTES)]
        while True:
            self._spool(parts)
            plan = self.verb("plan", running, known=known, price=price)
            said = json.loads(plan.said)
            parts = joined([*parts, *map(tuple, said["wanted"] + said["tables"])], GAP_BYTES)
            if said["complete"]:
                self._spool(parts)
                return plan, sum(length for _, length in parts)

    def _spool(self, parts: list[Piece]) -> None:
        size = self.built.bundle.stat().st_size
        with self.built.bundle.open("rb") as whole, self._bundle.open("wb") as spool:
            for at, length in parts:
                whole.seek(at)
                spool.write(whole.read(length))
        record = {"pieces": [(at, min(length, size - at)) for at, length in parts], "length": size}
        self._bundle.with_suffix(".json").write_text(json.dumps(record))

    def row(self, runs: int, running: str, *, known: bool, price: float = FEWEST) -> dict[str, Any]:
        """All figures of an update with slot a at `running`."""
        self._disk.prepare(self._pair)
        plan, fetched = self.fetch(running, known=known, price=price)
        check = self.verb("check", running, known=known)
        kind = json.loads(check.said)["kind"]
        said = {"plan": plan, "check": check}

        def write() -> Taken:
            said["write"] = self.verb("write", running, known=known)
            return said["write"]

        measures = measure(self._pair, self._disk, runs, write)
        before = {
            f"{verb}_{name}": round(value, 3)
            for verb, taken in (("plan", plan), ("check", check))
            for name, value in (("s", taken.wall_s), ("cpu_s", taken.cpu_s), ("rss_mib", taken.rss_mib))
        }
        built = {**self.built.figures[kind], "build_peak_mib": self.built.peak_mib}
        read = {f"{verb}_bytes_read": json.loads(one.said)["storage_bytes_read"] for verb, one in said.items()}
        return {"kind": kind, "bytes": fetched, **measures, **before, **read, **built}


def measure(pair: Pair, disk: Disk, runs: int, apply: Callable[[], Taken]) -> dict[str, Any]:
    """Apply it `runs` times, each time over the old image."""
    return by_turns(pair, disk, runs, {"": apply})[""]


def by_turns(pair: Pair, disk: Disk, runs: int, ways: Mapping[str, Callable[[], Taken]]) -> dict[str, dict[str, Any]]:
    """Each way `runs` times, one after the other, each time over the old image."""
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    written: dict[str, list[int]] = {name: [] for name in ways}
    right = dict.fromkeys(ways, True)
    for _ in range(runs):
        for name, apply in ways.items():
            disk.prepare(pair)
            before = disk.written()
            taken[name].append(apply())
            written[name].append(disk.written() - before)
            right[name] = right[name] and disk.holds(pair.new)
    return {
        name: {
            "apply_s": round(statistics.median(one.wall_s for one in taken[name]), 3),
            "apply_cpu_s": round(statistics.median(one.cpu_s for one in taken[name]), 3),
            "peak_rss_mib": round(max(one.rss_mib for one in taken[name]), 1),
            "bytes_written": int(statistics.median(written[name])),
            "right": right[name],
        }
        for name in ways
    }


def quickest(pair: Pair, disk: Disk, ours: Posagent, runs: int) -> dict[str, dict[str, Any]]:
    """The quick ways to install a full image, by turns: minutes apart, this machine is not equally fast."""
    with ExitStack() as own:
        ways = {}
        for name in QUICK:
            try:
                apply = MAKERS[name](pair, disk, own).apply
            except (Unavailable, RuntimeError):
                continue  # the table says why
            if apply is not None:
                ways[name] = apply
        disk.prepare(pair)
        ours.fetch(str(ours.nothing), known=False, price=SOONEST)
        ways["posagent_full_soonest"] = partial(ours.verb, "write", str(ours.nothing), known=False)
        ways["posagent_after_check"] = partial(ours.write_after_check, str(ours.nothing), known=False)
        return by_turns(pair, disk, runs, ways)


def sha256_cpu_s(image: Path) -> float:
    """Seconds to digest the image once from memory, the median of three."""
    taken = []
    for _ in range(4):
        before = time.process_time()
        sha256(image)
        taken.append(time.process_time() - before)
    return round(statistics.median(taken[1:]), 3)


def throttled(pair: Pair, disk: Disk, ours: Posagent, runs: int) -> dict[str, Any]:
    """Against `dd` on a slow disk; posagent with the running slot on the same disk, and on a fast one."""

    def slowly(apply: Callable[[], Taken]) -> Callable[[], Taken]:
        def go() -> Taken:
            with disk.throttled(**EMMC):
                return apply()

        return go

    read = ("dd", f"if={disk.a}", "of=/dev/null", "bs=1M", "iflag=direct", "status=none")
    read_s = slowly(lambda: measured(*read))().wall_s
    nothing = str(ours.nothing)
    ways = {"posagent_full": (nothing, False, FEWEST), "posagent_full_soonest": (nothing, False, SOONEST)}
    ways["posagent_no_delta"] = disk.a, False, FEWEST
    if ours.built.has_delta:
        ways["posagent_delta"] = disk.a, True, FEWEST
        ways["posagent_delta_fast_source"] = str(pair.old), True, FEWEST
    rows: dict[str, Any] = {"dd": measure(pair, disk, runs, slowly(lambda: copy(pair.new, disk.b)))}
    for name, (running, known, price) in ways.items():
        disk.prepare(pair)
        ours.fetch(running, known=known, price=price)
        write = slowly(partial(ours.verb, "write", running, known=known))
        rows[name] = measure(pair, disk, runs, write)
    for row in rows.values():
        row["ratio_dd"] = round(row["apply_s"] / rows["dd"]["apply_s"], 2)
    rates = {"write_mb_s": pair.size / 1e6 / rows["dd"]["apply_s"], "read_mb_s": pair.size / 1e6 / read_s}
    return {**{name: round(rate, 1) for name, rate in rates.items()}, **rows}


def compare(pair: Pair, runs: int) -> dict[str, Any]:
    """Every method on one pair: `{methods, skipped, images, by_turns, throttled}`."""
    changed = pair.bytes_changed()
    rows: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=pair.folder, prefix="disk-")))
        disk = Disk(folder / "disk.img", pair.size, stack)
        copy(pair.old, disk.a)
        rows["dd"] = {"bytes": pair.size, **measure(pair, disk, runs, lambda: copy(pair.new, disk.b))}
        for name, maker in MAKERS.items():
            try:
                with ExitStack() as own:
                    method = maker(pair, disk, own)
                    figures = {} if method.apply is None else measure(pair, disk, runs, method.apply)
                    rows[name] = {"bytes": method.bytes, **figures, "name": method.name, "note": method.note}
            except (Unavailable, RuntimeError) as error:
                skipped[name] = str(error)
            progress(f"{pair.name} {name}: {rows.get(name, skipped.get(name))}")
        ours = Posagent(pair, disk, stack)
        if ours.built.has_delta:
            rows["posagent_delta"] = ours.row(runs, disk.a, known=True)
        else:
            skipped["posagent_delta"] = "the bundle left the delta out: it is no smaller than the full payload"
        rows["posagent_full"] = ours.row(runs, str(ours.nothing), known=False)
        rows["posagent_full_soonest"] = ours.row(runs, str(ours.nothing), known=False, price=SOONEST)
        rows["posagent_no_delta"] = ours.row(runs, disk.a, known=False)
        progress(f"{pair.name}: by turns")
        turns = quickest(pair, disk, ours, runs)
        progress(f"{pair.name}: throttled")
        try:
            slow: dict[str, Any] = throttled(pair, disk, ours, runs)
        except Unavailable as error:
            slow = {"skipped": str(error)}
        images: dict[str, Any] = {"bytes": pair.size, "sha256_cpu_s": sha256_cpu_s(pair.new), "direct_io": disk.direct}
        payloads = {kind: figures["payload_bytes"] for kind, figures in ours.built.figures.items()}
    for row in rows.values():
        row["bytes_changed"] = changed
    images |= {"bytes_changed": changed, "delta_kept": ours.built.has_delta, "payload_bytes": payloads}
    return {"methods": rows, "skipped": skipped, "images": images, "by_turns": turns, "throttled": slow}


def progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# the report


def table(name: str, found: dict[str, Any]) -> str:
    """One pair, the fewest bytes first."""
    rows, images = found["methods"], found["images"]
    least = min(row["bytes"] for row in rows.values())
    lines = [
        f"{name}: image {images['bytes'] / 1e6:.1f} MB, {images['bytes_changed'] / 1e6:.1f} MB of it differ in place",
        ROW.format("method", "bytes", "ratio", "wall s", "CPU s", "RSS MiB", "written", "/changed", ""),
    ]
    for key, row in sorted(rows.items(), key=lambda item: int(item[1]["bytes"])):
        share = row["bytes"] / least
        cells: list[str] = ["-"] * 5
        if "apply_s" in row:
            written = row["bytes_written"]
            cells = [f"{row['apply_s']:.2f}", f"{row['apply_cpu_s']:.2f}", f"{row['peak_rss_mib']:.1f}"]
            cells += [f"{written / 1e6:.1f}", f"{written / max(1, row['bytes_changed']):.3f}"]
        verdict = "" if row.get("right", True) else "WRONG"
        lines.append(ROW.format(row.get("name", key), row["bytes"], f"{share:.2f}", *cells, verdict).rstrip())
    lines += [f"not measured: {key}: {why}" for key, why in found["skipped"].items()]
    digest = images["sha256_cpu_s"]
    lines.append(f"SHA-256 of the new image once: {digest:.2f} s of CPU")
    if "posagent_delta" in rows:
        cpu, build = rows["posagent_delta"]["apply_cpu_s"], rows["posagent_delta"]["build_s"]
        lines.append(f"delta install: {cpu / digest:.2f} x that; built in {build:.0f} s")
    for key, row in rows.items():
        if "write_bytes_read" in row:
            read = {verb: f"{row[f'{verb}_bytes_read'] / 1e6:.0f}" for verb in ("plan", "check", "write")}
            lines.append(f"{key}: MB read of the storage: {read}")
    lines.append(f"payloads: {images['payload_bytes']}; delta kept: {images['delta_kept']}")
    turns = [
        f"{key} {row['apply_s']:.2f} s, {row['apply_cpu_s']:.2f} s of CPU" for key, row in found["by_turns"].items()
    ]
    lines.append(f"by turns: {'; '.join(turns)}")
    lines.append(f"throttled to {EMMC}: {_slow(found['throttled'])}")
    return "\n".join(lines)


def _slow(slow: dict[str, Any]) -> str:
    if "skipped" in slow:
        return str(slow["skipped"])
    rows = {name: row for name, row in slow.items() if isinstance(row, dict)}
    said = [f"{name} {row['apply_s']:.1f} s = {row['ratio_dd']} x dd" for name, row in rows.items()]
    return f"dd gets {slow['write_mb_s']} and {slow['read_mb_s']} MB/s; " + "; ".join(said)


def draw(found: dict[str, Any], path: Path) -> None:
    """Bytes of each method, one panel a pair."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(5 * len(found), 5), squeeze=False, layout="constrained")
    for panel, (name, one) in zip(panels[0], found.items(), strict=True):
        rows = sorted(one["methods"].items(), key=lambda item: -int(item[1]["bytes"]))
        colours = ["tab:orange" if key.startswith("posagent") else "tab:gray" for key, _ in rows]
        bars = panel.barh([row.get("name", key) for key, row in rows], [row["bytes"] for _, row in rows], color=colours)
        panel.bar_label(bars, [f"{row['bytes'] / 1e6:.2f} MB" for _, row in rows], padding=2, fontsize=7)
        panel.set(xscale="log", title=name, xlabel="bytes to fetch")
        panel.margins(x=0.3)
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", default=",".join(pairs.BUILDERS))
    parser.add_argument("--out", type=Path, default=Path("build/payload.json"))
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("loop devices need root")
    if absent := [tool for tool in ("time", "addpart") if shutil.which(tool) is None]:
        parser.error(f"not installed: {', '.join(absent)}")
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in arguments.pairs.split(","):
        try:
            found[name] = compare(pairs.pair(name, PROJECT / "build/pairs"), arguments.runs)
        except Unavailable as error:
            missing[name] = str(error)
        print(f"{table(name, found[name]) if name in found else f'{name}: skipped: {missing[name]}'}\n", flush=True)
    parts = ("methods", "skipped", "images", "by_turns", "throttled")
    result: dict[str, Any] = {part: {name: one[part] for name, one in found.items()} for part in parts}
    result = {"runs": arguments.runs, "pairs": result.pop("methods"), **result, "pairs_missing": missing}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if found:
        draw(found, arguments.out.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
