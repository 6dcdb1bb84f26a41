"""The other ways to bring an image into a slot, each as it comes with the distribution: what posagent is compared with.

A method is made for one pair on one disk (`MAKERS`) and then applied: from slot a, which holds the old image, to slot
b. What takes long to make is kept in the pair's folder. Rules: nobody is helped or hindered: sources are read from the
slot where the program can read one, the medium is flushed at the end, and time is that of the whole command. None of
them reads back what it wrote.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from backports import zstd

from tests.bench.install import Rauc, loop_device, run
from tests.bench.pairs import Pair, Unavailable, blocks, sha256

PROJECT = Path(__file__).resolve().parents[2]
SECTOR_BYTES = 512
BSDIFF_S_MAX = 600
"""It is not measured where its patch takes longer to make."""
SQUASHFS_BYTES = 128 << 10
"""What RAUC's bundles are packed in."""
PROGRAMS = "dd sh zstd xz casync xdelta3 bspatch swupdate rauc fw_setenv fw_printenv".split()
MODULES = ", ".join(f"posagent.installer.{name}" for name in ("service", "trust", "work", "writer"))
WARM = """
for name in "$@"; do path=$(command -v "$name") && echo "$path" && ldd "$path"; done |
    grep -o '/[^ ]*' | sort -u | xargs cat > /dev/null
"""
THROTTLE = "/sys/fs/cgroup/blkio/blkio.throttle.{}_bps_device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one run of a command took, its children included; `said` is its standard output."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """`bytes` have to be fetched; without `apply` nothing but these is known."""

    name: str
    bytes: int
    apply: Callable[[], Taken] | None = None
    note: str = ""


class Disk:
    """A terminal's disk in a file: slots a and b, partitions of one loop device, so that a throttle holds for both."""

    def __init__(self, file: Path, slot_bytes: int, stack: ExitStack) -> None:
        with file.open("wb") as stream:
            stream.truncate(2 * slot_bytes)
        self._device = stack.enter_context(loop_device(file))
        self._name = Path(self._device).name
        self.direct = _succeeds("losetup", "--direct-io=on", self._device)
        sectors = slot_bytes // SECTOR_BYTES
        for number in (1, 2):  # no table of partitions is needed, nor a kernel that can read one
            run("addpart", self._device, str(number), str((number - 1) * sectors), str(sectors))
            stack.callback(run, "delpart", self._device, str(number))
        self.a, self.b = f"{self._device}p1", f"{self._device}p2"

    def prepare(self, pair: Pair) -> None:
        """The old image in slot b, and nothing in memory but programs: most of them run on a terminal anyway."""
        copy(pair.old, self.b)
        drop_caches()
        run("sh", "-c", WARM, "sh", *PROGRAMS)
        run(*terminal_python(), f"import {MODULES}")

    def written(self) -> int:
        """Bytes ever written to slot b."""
        return int(Path(f"/sys/class/block/{self._name}p2/stat").read_text().split()[6]) * SECTOR_BYTES

    def holds(self, image: Path) -> bool:
        """Whether slot b does, on the medium."""
        drop_caches()
        return _succeeds("cmp", "-n", str(image.stat().st_size), str(image), self.b)

    @contextmanager
    def throttled(self, write: int, read: int) -> Iterator[None]:
        """No more bytes per second than that. Raises Unavailable."""
        if not Path(THROTTLE.format("write")).exists():
            raise Unavailable("no cgroup of version 1 that limits block devices is mounted")
        self._limit(write, read)
        try:
            yield
        finally:
            self._limit(0, 0)

    def _limit(self, write: int, read: int) -> None:
        """No limit where it is 0."""
        number = Path(f"/sys/class/block/{self._name}/dev").read_text().strip()
        for way, rate in (("write", write), ("read", read)):
            Path(THROTTLE.format(way)).write_text(f"{number} {rate}\n")


def _succeeds(*command: str) -> bool:
    try:
        run(*command)
    except RuntimeError:
        return False
    return True


def copy(image: Path, device: str) -> Taken:
    """The bare copy, durable at the end."""
    return measured("dd", f"if={image}", f"of={device}", "bs=1M", "oflag=direct", "conv=fsync", "status=none")


@cache
def terminal_python() -> tuple[str, ...]:
    """How to run a piece of Python where nothing but what a terminal needs is installed: memory is measured there."""
    folder = PROJECT / "build/terminal"
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"  # a copy: setuptools leaves things behind, and takes up old ones
        shutil.copytree(PROJECT / "posagent", source / "posagent")
        for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(PROJECT / file, source)
        pip = (str(folder / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
        if not folder.exists():
            run(sys.executable, "-m", "venv", str(folder))
        run(*pip, str(source))
        run(*pip, "--no-deps", "--force-reinstall", str(source))
    return str(folder / "bin/python"), "-P", "-c"


def drop_caches() -> None:
    run("sync")
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def measured(*command: str, env: dict[str, str] | None = None) -> Taken:
    """Run it under time(1): a child of ours would count our own memory as its."""
    with tempfile.NamedTemporaryFile("r") as figures:
        start = time.perf_counter()
        said = run("/usr/bin/time", "-o", figures.name, "-f", "%U %S %M", *command, env=env)
        wall = time.perf_counter() - start
        user, system, rss = figures.read().split()
    return Taken(wall_s=wall, cpu_s=float(user) + float(system), rss_mib=int(rss) / 1024, said=said)


def _piped(command: Sequence[str], slot: str) -> Callable[[], Taken]:
    """The command's output goes into the slot."""
    line = f"{shlex.join(command)} | dd of={slot} bs=1M iflag=fullblock oflag=direct conv=fsync status=none"
    return lambda: measured("sh", "-c", line)


def _kept(pair: Pair, name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder that is made once."""
    path = pair.folder / name
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=pair.folder, prefix="make-") as scratch:
            make(Path(scratch) / name)
            (Path(scratch) / name).rename(path)
    return path


def _needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not installed")


# full images


def full_zstd(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    _needs("zstd")
    options = ("-q", "-19", "--long", "-T0", str(pair.new), "-o")
    packed = _kept(pair, "full.zst", lambda out: run("zstd", *options, str(out)))
    command = ("zstd", "-q", "-dc", "--long", str(packed))
    return Method(name="full zstd -19 --long", bytes=packed.stat().st_size, apply=_piped(command, disk.b))


def full_xz(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    _needs("xz")
    packed = _kept(pair, "full.xz", lambda out: run("sh", "-c", f"xz -9 -T2 -c {pair.new} > {out}"))
    return Method(name="full xz -9", bytes=packed.stat().st_size, apply=_piped(("xz", "-dc", str(packed)), disk.b))


def rauc(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    """A plain bundle. Its service does the work; the memory is the service's."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=pair.folder, prefix="rauc-")))
    peer = Rauc(pair.new.resolve(), disk.b, folder)
    stack.callback(peer.close)

    def apply() -> Taken:
        taken = peer.install()
        return Taken(wall_s=taken["s"], cpu_s=taken["cpu_s"], rss_mib=taken["rss_mib"])

    return Method(name="RAUC plain", bytes=peer.bundle_bytes, apply=apply)


def swupdate(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    """The raw handler, packed with zstd, signed; a program of its own instead of a service."""
    _needs("swupdate", "cpio", "openssl", "zstd")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=pair.folder, prefix="swupdate-")))
    packed = _kept(pair, "level15.zst", lambda out: run("zstd", "-q", "-15", "-T0", str(pair.new), "-o", str(out)))
    (folder / "rootfs.zst").hardlink_to(packed)
    image = (
        f'filename = "rootfs.zst"; device = "{disk.b}"; type = "raw"; compressed = "zstd"; installed-directly = true; '
        f'sha256 = "{sha256(packed)}"; '
    )
    software = f'version = "9"; hardware-compatibility = [ "1" ]; images: ( {{ {image}}} ); '
    (folder / "sw-description").write_text(f"software = {{ {software}}}\n")
    script = """
        cd "$1"
        openssl req -x509 -newkey rsa:2048 -keyout key.pem -out cert.pem -subj /CN=bench -days 2 -nodes
        openssl cms -sign -in sw-description -out sw-description.sig -signer cert.pem -inkey key.pem -outform DER \
            -nosmimecap -binary
        printf '%s\\n' sw-description sw-description.sig rootfs.zst | cpio -o -H crc --quiet > bench.swu
    """
    run("sh", "-ec", script, "sh", str(folder))
    bundle, cert = folder / "bench.swu", str(folder / "cert.pem")
    command = ("swupdate", "-l", "1", "-H", "bench:1", "-M", "-m", "-k", cert, "-i", str(bundle))
    return Method(name="SWUpdate raw zstd", bytes=bundle.stat().st_size, apply=lambda: measured(*command))


# what a terminal lacks


def rauc_adaptive(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    """The blocks of the new image that are nowhere in the old one, packed like a squashfs. An estimate from below: it
    fetches whole squashfs blocks, and an index of 32 bytes a block."""
    there = {hashlib.sha256(block).digest() for block in blocks(pair.old)}
    lacking = b"".join(block for block in blocks(pair.new) if hashlib.sha256(block).digest() not in there)
    pieces = (lacking[at : at + SQUASHFS_BYTES] for at in range(0, len(lacking), SQUASHFS_BYTES))
    return Method(
        name="RAUC adaptive (estimate)",
        bytes=sum(len(zstd.compress(piece, level=15)) for piece in pieces),
        note="missing blocks packed; without the index and the fetched neighbours",
    )


def zchunk(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    _needs("zck", "zck_delta_size")
    old = _kept(pair, "old.zck", lambda out: run("zck", "-o", str(out), str(pair.old)))
    new = _kept(pair, "new.zck", lambda out: run("zck", "-o", str(out), str(pair.new)))
    words = run("zck_delta_size", str(old), str(new)).split()
    size = next(int(word) for before, word in pairwise(words) if before == "download")
    return Method(name="zchunk", bytes=size, note="applies only to its own files, not to a slot")


def casync(chunk_kib: int) -> Callable[[Pair, Disk, ExitStack], Method]:
    def make(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
        _needs("casync")
        store = _kept(pair, f"casync-{chunk_kib}", lambda out: _lacking_chunks(pair, out, chunk_kib << 10))
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        seed, chunks, index = f"--seed={disk.a}", f"--store={store}/store", str(store / "new.caibx")
        line = f"{shlex.join(['casync', 'extract', seed, chunks, index, disk.b])} && sync {disk.b}"
        return Method(name=f"casync {chunk_kib}K", bytes=size, apply=lambda: measured("sh", "-c", line))

    return make


def _lacking_chunks(pair: Pair, out: Path, chunk_bytes: int) -> None:
    """A store that has nothing but the chunks which the old image has not, and the new one's index."""
    out.mkdir()
    old, new = out / "old", out / "store"
    for image, store, index in ((pair.old, old, "old.caibx"), (pair.new, new, "new.caibx")):
        options = (f"--store={store}", f"--chunk-size={chunk_bytes}")
        run("casync", "make", *options, str(out / index), str(image.resolve()))
    for chunk in old.rglob("*.cacnk"):
        (new / chunk.relative_to(old)).unlink(missing_ok=True)
    shutil.rmtree(old)
    (out / "old.caibx").unlink()


# differences


def xdelta3(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    _needs("xdelta3")
    options = ("-e", "-9", "-s", str(pair.old), str(pair.new))
    patch = _kept(pair, "patch.xdelta3", lambda out: run("xdelta3", *options, str(out)))
    command = ("xdelta3", "-d", "-c", "-s", disk.a, str(patch))
    return Method(name="xdelta3 -9", bytes=patch.stat().st_size, apply=_piped(command, disk.b))


def zstd_patch(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    _needs("zstd")
    options = ("-q", "--ultra", "-22", "--long=31", f"--patch-from={pair.old.resolve()}", str(pair.new), "-o")
    patch = _kept(pair, "patch-22.zst", lambda out: run("zstd", *options, str(out)))
    command = ("zstd", "-q", "-dc", "--long=31", f"--patch-from={pair.old.resolve()}", str(patch))
    note = "takes regular files only: the old image is read from a file"
    return Method(name="zstd -22 --patch-from", bytes=patch.stat().st_size, apply=_piped(command, disk.b), note=note)


def bsdiff(pair: Pair, disk: Disk, stack: ExitStack) -> Method:
    if pair.tree != "app":
        raise Unavailable("takes hours and 17 times the image in memory")
    _needs("bsdiff", "bspatch")
    images = (str(pair.old), str(pair.new))
    patch = _kept(
        pair, "patch.bsdiff", lambda out: run("timeout", "--verbose", str(BSDIFF_S_MAX), "bsdiff", *images, str(out))
    )
    line = f"bspatch {disk.a} {disk.b} {patch} && sync {disk.b}"
    return Method(name="bsdiff", bytes=patch.stat().st_size, apply=lambda: measured("sh", "-c", line))


Maker = Callable[[Pair, Disk, ExitStack], Method]
MAKERS: Mapping[str, Maker] = {
    "full_zstd": full_zstd,
    "full_xz": full_xz,
    "rauc": rauc,
    "swupdate": swupdate,
    "rauc_adaptive": rauc_adaptive,
    "zchunk": zchunk,
    "casync_64k": casync(64),
    "casync_16k": casync(16),
    "xdelta3": xdelta3,
    "zstd_patch": zstd_patch,
    "bsdiff": bsdiff,
}
