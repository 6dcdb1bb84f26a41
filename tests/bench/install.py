"""How long a full install takes, against `dd` and against RAUC, on one loop device in one run. Needs root.

    sudo .venv/bin/python tests/bench/install.py [--size-mib 256] [--runs 3] [--dir DIR]

The image is ext4 with files of this machine's /usr. posagent runs as a fresh process each time: start of Python,
signatures, boot environment, decompression, digest of every frame, write, flush, and reading everything back. RAUC is
the distribution's, with a plain bundle (squashfs, zstd) and its service already running; it does not read back.
Prints one JSON object; seconds are the median of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posagent.release import bundle
from posagent.sim import layout
from posagent.sim.layout import Settings

DIRT_BYTES = 1 << 20
INSTALL = """
import json, sys
from posagent import config
from posagent.installer.service import Installer, linux_ports
loaded = config.load(sys.argv[1])
verb = Installer(loaded, linux_ports(loaded)).verbs["write"]
for message in verb({"bundle": sys.argv[2], "slot": "b", "update_id": sys.argv[3]}):
    pass
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(int(peak.split()[1]) / 1024))
"""


def make_image(path: Path, size_mib: int) -> None:
    """An ext4 image of `size_mib`, three quarters full of files from /usr."""
    left = size_mib * 3 // 4 << 20
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        for source in sorted(Path("/usr").glob("*/**/*")):
            if source.is_symlink() or not source.is_file() or source.stat().st_size > left:
                continue
            if source.stat().st_size > 64 << 20 or "/share/doc/" in str(source):
                continue
            target = Path(scratch) / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            left -= -(-source.stat().st_size // 4096) * 4096
            if left < 1 << 20:
                break
        with path.open("wb") as stream:
            stream.truncate(size_mib << 20)
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-d", scratch, str(path))


def run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
    return done.stdout


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    device = run("losetup", "-f", "--show", str(image)).strip()
    try:
        yield device
    finally:
        run("losetup", "-d", device)


class Dd:
    """The bare copy."""

    def __init__(self, image: Path, device: str) -> None:
        self._command = ["dd", f"if={image}", f"of={device}", "bs=1M", "oflag=direct", "conv=fsync"]

    def install(self) -> dict[str, float]:
        return timed(self._command)


class Posagent:
    """Our installer, on a simulated terminal whose slot b is the loop device."""

    def __init__(self, image: Path, device: str, folder: Path, level: int) -> None:
        terminal = layout.create(folder / "terminal", image=None, keys_dir=None, settings=Settings())
        terminal.cmdline.write_text("posagent.slot=a\n")
        text = terminal.config.read_text().replace(str(terminal.slot("b")), device)
        terminal.config.write_text(text)
        self._config = terminal.config
        self._device, self._size = Path(device), image.stat().st_size
        self._bundle = terminal.spool / "bench.bundle"
        hardware = [Settings().hardware]
        bundle.build(image, version="9", compatible=hardware, keys_dir=terminal.keys, out=self._bundle, level=level)
        self.bundle_bytes = self._bundle.stat().st_size
        self._runs = 0

    def install(self) -> dict[str, float]:
        with self._device.open("r+b") as slot:  # what is there already would not be written again
            for _ in range(-(-self._size // DIRT_BYTES)):
                slot.write(b"\xee" * DIRT_BYTES)
            slot.flush()
            os.fsync(slot.fileno())
        self._runs += 1
        return timed([sys.executable, "-c", INSTALL, str(self._config), str(self._bundle), str(self._runs)], rss=True)


class Rauc:
    """The distribution's RAUC with its service on a bus of its own. Raises RuntimeError where it cannot run."""

    def __init__(self, image: Path, device: str, folder: Path) -> None:
        for tool in ("rauc", "mksquashfs", "dbus-daemon", "openssl"):
            if shutil.which(tool) is None:
                raise RuntimeError(f"{tool} is not installed")
        self._folder = folder / "rauc"
        self._bundle = self._folder / "bench.raucb"
        content = self._folder / "content"
        content.mkdir(parents=True)
        os.link(image, content / "rootfs.img")
        (content / "manifest.raucm").write_text(
            "[update]\ncompatible=bench\nversion=9\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=rootfs.img\n"
        )
        (self._folder / "system.conf").write_text(
            f"[system]\ncompatible=bench\nbootloader=noop\nmountprefix={self._folder}/mnt\n"
            f"statusfile={self._folder}/status\nbundle-formats=plain\n[keyring]\npath=cert.pem\n"
            f"[slot.rootfs.0]\ndevice={self._folder}/none\ntype=raw\nbootname=A\n"
            f"[slot.rootfs.1]\ndevice={device}\ntype=raw\nbootname=B\n"
        )
        cert, key = str(self._folder / "cert.pem"), str(self._folder / "key.pem")
        subject = ("-subj", "/CN=bench", "-days", "2", "-nodes")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, *subject)
        squash = "--mksquashfs-args=-comp zstd -quiet"
        run("rauc", f"--cert={cert}", f"--key={key}", squash, "bundle", str(content), str(self._bundle))
        self.bundle_bytes = self._bundle.stat().st_size
        self._start_service()

    def _start_service(self) -> None:
        config = self._folder / "bus.conf"
        config.write_text(
            f"<busconfig><listen>unix:path={self._folder}/bus</listen><policy context='default'>"
            "<allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/>"
            "</policy></busconfig>"
        )
        self._env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self._folder}/bus"}
        self._bus = subprocess.Popen(["dbus-daemon", f"--config-file={config}", "--nofork"])
        wait_for((self._folder / "bus").exists, "the bus")
        conf = f"--conf={self._folder}/system.conf"
        self._log = (self._folder / "service.log").open("wb")
        self._service = subprocess.Popen(
            ["rauc", conf, "--override-boot-slot=A", "service"], env=self._env, stdout=self._log, stderr=self._log
        )
        wait_for(self._answers, "RAUC's service")

    def _answers(self) -> bool:
        return subprocess.run(["rauc", "status"], env=self._env, capture_output=True, check=False).returncode == 0

    def install(self) -> dict[str, float]:
        before = cpu_of(self._service.pid)
        taken = timed(["rauc", "install", str(self._bundle)], env=self._env)
        taken["cpu_s"] += cpu_of(self._service.pid) - before
        status = Path(f"/proc/{self._service.pid}/status").read_text()
        taken["rss_mib"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
        return taken

    def close(self) -> None:
        for process in (self._service, self._bus):
            process.terminate()
            process.wait()
        self._log.close()


def wait_for(true: Any, what: str) -> None:
    deadline = time.monotonic() + 10
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} does not come up")
        time.sleep(0.05)


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def timed(command: list[str], *, rss: bool = False, env: dict[str, str] | None = None) -> dict[str, float]:
    before, start = os.times(), time.perf_counter()
    said = run(*command, env=env)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"s": wall, "cpu_s": cpu} | ({"rss_mib": float(said)} if rss else {})


def median(runs: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(one[name] for one in runs), 3)


def measure(folder: Path, size_mib: int, runs: int, level: int) -> dict[str, Any]:
    image, slot = folder / "image.ext4", folder / "slot.img"
    make_image(image, size_mib)
    slot.write_bytes(bytes(size_mib << 20))
    result: dict[str, Any] = {"image_mib": size_mib, "runs": runs}
    with loop_device(slot) as device:
        peers: dict[str, Any] = {"dd": Dd(image, device), "posagent": Posagent(image, device, folder, level)}
        try:
            peers["rauc"] = Rauc(image, device, folder)
        except RuntimeError as error:
            result["rauc_skipped"] = str(error)
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
        try:
            for number in range(runs + 1):
                for name, peer in peers.items():
                    one = peer.install()
                    run("cmp", "-n", str(size_mib << 20), str(image), device)
                    if number:  # the first round warms caches for all alike
                        taken[name].append(one)
                    run(
                        "dd", "if=/dev/zero", f"of={device}", "bs=1M", f"count={size_mib}", "oflag=direct", "conv=fsync"
                    )
        finally:
            if "rauc" in peers:
                peers["rauc"].close()
    for name, done in taken.items():
        result |= {f"{name}_s": median(done, "s"), f"{name}_cpu_s": median(done, "cpu_s")}
    result["peak_rss_mib"] = max(one["rss_mib"] for one in taken["posagent"])
    result["bundle_bytes"] = peers["posagent"].bundle_bytes
    result["ratio_dd"] = round(result["posagent_s"] / result["dd_s"], 2)
    if "rauc" in peers:
        result["rauc_rss_mib"] = max(one["rss_mib"] for one in taken["rauc"])
        result["rauc_bundle_bytes"] = peers["rauc"].bundle_bytes
        result["ratio_rauc"] = round(result["posagent_s"] / result["rauc_s"], 2)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--level", type=int, default=19, help="zstd level of our bundle")
    parser.add_argument("--dir", help="where to work; the disk there is what is measured")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("loop devices need root")
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="pos-bench-") as folder:
        print(json.dumps(measure(Path(folder), arguments.size_mib, arguments.runs, arguments.level), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
