"""`make demo`: a simulated terminal goes from version 1 to 2, refuses to be cancelled on the way, and survives a 3.

Everything a user would meet is real: ext4 root filesystems with files of this machine's own packages, signed bundles,
nginx, the three processes, the U-Boot environment driven by fw_setenv; a payment application takes simulated payments
meanwhile, and the update waits for their end. It ends with 0 only if all of it held.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from posagent.core.errors import PosagentError
from posagent.sim.lab import Lab, SimulatedTerminal

PACKAGES = (
    "base-files",
    "bash",
    "coreutils",
    "libc6",
    "libc-bin",
    "perl-base",
    "perl-modules-5.36",
    "git",
    "tar",
    "dpkg",
)
CONTENT_BYTES = 72 << 20
IMAGE_MIB = 112
RATE = "14m"
STAGE_S = 90.0


def say(text: str = "") -> None:
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


def _package_files() -> list[Path]:
    """Regular files of well-known packages, then whatever else is under /usr, as long as it is readable."""
    listed = subprocess.run(["dpkg", "-L", *PACKAGES], capture_output=True, text=True, check=False).stdout
    files = [Path(line) for line in listed.splitlines() if line.startswith("/usr/")]
    files += [
        Path(folder) / name for top in ("/usr/bin", "/usr/lib") for folder, _, names in os.walk(top) for name in names
    ]
    return files


def _real_tree(root: Path) -> int:
    """Fill `root` with real files up to CONTENT_BYTES; returns the bytes copied."""
    copied, seen = 0, set[Path]()
    for file in _package_files():
        if copied >= CONTENT_BYTES:
            break
        try:
            if file in seen or file.is_symlink() or not file.is_file() or file.stat().st_size > 8 << 20:
                continue
            seen.add(file)
            target = root / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            copied += target.stat().st_size
        except OSError:
            continue
    return copied


def _run(terminal: SimulatedTerminal, *words: str, background: bool = False) -> subprocess.Popen[bytes]:
    """One `posagent` command, as a user would type it."""
    say(f"\n$ posagent {' '.join(words)}")
    command = [sys.executable, "-m", "posagent.cli", "--socket", str(terminal.layout.api), *words]
    process = subprocess.Popen(command, env={**os.environ, "LANG": "C.UTF-8"})
    if not background:
        process.wait()
    return process


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise SystemExit(f"demo: {what} is {seen!r}, not {wanted!r}")


def _update_and_try_to_cancel(terminal: SimulatedTerminal) -> int:
    """Follow an update live; in the middle of the installation ask to cancel it. Returns the update's exit code."""
    update = _run(terminal, "update", "--follow", background=True)
    terminal.wait(lambda status: status["state"] == "install" and status["update"]["bytes_done"] > 0, STAGE_S)
    refused = _run(terminal, "cancel")
    _expect("the exit code of cancel during install", refused.returncode, 3)
    return update.wait()


def _slot_digest(terminal: SimulatedTerminal, slot: str, length: int) -> str:
    with terminal.layout.slot(slot).open("rb") as stream:
        return hashlib.sha256(stream.read(length)).hexdigest()


def _play(base: Path) -> None:
    started = time.monotonic()
    say("Making three real system images (version 3 is broken) and signing them ...")
    tree = base / "tree"
    tree.mkdir()
    copied = _real_tree(tree)
    lab = Lab(base / "lab", rate_limit=RATE)
    try:
        first = lab.image("1.0.0", size_mib=IMAGE_MIB, tree=tree)
        (tree / "opt/pos/CHANGES").write_text("2.0.0: faster receipts\n")
        second = lab.image("2.0.0", size_mib=IMAGE_MIB, tree=tree, data_format=2)
        third = lab.image("3.0.0", size_mib=IMAGE_MIB, tree=tree, broken="missing EMV parameters", data_format=2)
        lab.publish("2.0.0", second)
        say(
            f"  {copied >> 20} MiB of real files in ext4 images of {IMAGE_MIB} MiB ({time.monotonic() - started:.0f} s)"
        )

        terminal = lab.terminal("pos-0001", first, shop="petrol_24h")
        terminal.wait(lambda status: all(gate["open"] for gate in status["gates"]), STAGE_S)
        _run(terminal, "status")
        _run(terminal, "check")
        say("\n--- version 2: downloaded, installed beside the running version, started, tested, committed")
        _expect("the exit code of the update to 2.0.0", _update_and_try_to_cancel(terminal), 0)
        digest = hashlib.sha256(second.read_bytes()).hexdigest()
        _expect("the digest of slot b", _slot_digest(terminal, "b", second.stat().st_size), digest)
        _run(terminal, "status")

        _expect("the exit code of the self-tests", _run(terminal, "selftest").returncode, 0)

        say("\n--- the shop's batch: backed up before, taken over into the new format, compared to the last payment")
        _expect("the exit code of data", _run(terminal, "data").returncode, 0)
        _expect("the migration", terminal.ask("status")["last_outcome"].get("migrated"), "1>2")

        say("\n--- version 3: its payment program does not start; the self-test finds out")
        lab.publish("3.0.0", third)
        update = _run(terminal, "update", "--follow")
        _expect("the exit code of the update to 3.0.0", update.returncode, 4)
        _run(terminal, "why")
        _run(terminal, "history")
        status = terminal.ask("status")
        _expect("the version that runs", status["slots"][status["booted"]]["version"], "2.0.0")
        _expect("the last outcome", status["last_outcome"]["outcome"], "rolled_back")
        say(f"\nAll of it held: 2.0.0 runs from slot {status['booted']}. {time.monotonic() - started:.0f} s in all.")
    finally:
        lab.close()


def main(argv: Sequence[str] | None = None) -> int:
    base = Path(tempfile.mkdtemp(prefix="posagent-demo-"))
    try:
        _play(base)
    except (PosagentError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 4
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
