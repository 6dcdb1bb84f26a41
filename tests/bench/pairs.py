"""Pairs of images, as an update has them, made from the distribution's packages: what the payload benchmark is about.

* `os`: 512 MiB, a system of the release as it stands, then with its updates and security updates;
* `app`: 128 MiB, an application's runtime with its libraries at the release's versions, then at the newest of its
  updates;
* `major`: 256 MiB, a small system of this release, then of the next;
* `os_squashfs`, `os_erofs`, `app_squashfs`, `app_erofs`: the trees of `os` and `app` as squashfs (zstd) and erofs
  (LZ4), taken out of the ext4 images, in whole MiB. Only where they are named;
* `os_in_place`, `app_in_place`: the old images of `os` and `app`, then the same with nothing written but the files that
  the new tree has otherwise, so that all others keep their blocks. Only where they are named; needs root and rsync.
Rules: packages come from where this machine's own come from (/etc/apt); only the suite is named here. What cannot be
had is Unavailable, never imitated. The same packages make the same bytes: fixed identifiers, seeds and times (except
that the kernel places what is written `in_place`). What was built is kept; remove the pair's folder to build anew.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.bench.install import run

BLOCK_BYTES = 4096
TIME_S = 1700000000
UUID = "11111111-2222-3333-4444-555555555555"
HASH_SEED = "11111111-2222-3333-4444-555555555556"
NEXT = {"bullseye": "bookworm", "bookworm": "trixie", "trixie": "forky"}
BASE = """
    systemd systemd-sysv udev dbus kmod openssl ca-certificates e2fsprogs iproute2 procps curl chrony nftables sudo
    less python3-minimal
""".split()
SYSTEM = """
    systemd systemd-sysv udev dbus kmod python3 openssl openssh-server ca-certificates e2fsprogs iproute2 procps
    libubootenv-tool curl wpasupplicant chrony nftables libsqlite3-0 sudo less gnupg libxml2 libglib2.0-0 libgnutls30
    libcurl4 perl-base vim-tiny libtiff6 libwebp7 fontconfig libharfbuzz0b libfreetype6
""".split()
APPLICATION = """
    nodejs libnode108 libssl3 openssl libuv1 libnghttp2-14 libc-ares2 libbrotli1 zlib1g libstdc++6 libgcc-s1
    libc6 libsqlite3-0 libxml2 libcurl4
""".split()
NOT_SHIPPED = ("doc", "man", "locale", "info", "lintian")
"""Of /usr/share."""
NOT_IN_IMAGE = (
    *("dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "boot/*", "usr/lib/modules/*", "etc/ssh/ssh_host_*"),
    *("etc/machine-id", "var/cache/*", "var/log/*", "var/lib/apt/lists/*", "var/lib/dbus/machine-id"),
)
"""Not of a terminal's read-only image, or different in every build."""


WRITE_IN_PLACE = """
    mkdir "$2" "$4"
    mount -o loop,noatime "$1" "$2"
    mount -o loop,ro,noload "$3" "$4"
    rsync -aHAX --numeric-ids --checksum --inplace --delete-before "$4/" "$2/"
    sync
    fstrim "$2"
    umount "$4" "$2"
    e2fsck -fp "$1"
"""
"""Arguments: an image and where to mount it, another one and where to mount that. In the end free blocks are zeros."""


class Unavailable(Exception):
    """This cannot be had on this machine; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`old` runs, `new` is to be installed; `folder` is for what is made from them."""

    name: str
    old: Path
    new: Path
    folder: Path

    @property
    def tree(self) -> str:
        """The pair that it has the trees of."""
        return self.name.partition("_")[0]

    @property
    def size(self) -> int:
        return self.new.stat().st_size

    def bytes_changed(self) -> int:
        """Bytes in blocks of the new image that are others than the old one's at the same place."""
        with self.old.open("rb") as old:
            return sum(BLOCK_BYTES for block in blocks(self.new) if block != old.read(BLOCK_BYTES))


def blocks(image: Path) -> Iterator[bytes]:
    with image.open("rb") as stream:
        yield from iter(lambda: stream.read(BLOCK_BYTES), b"")


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pair(name: str, folder: Path) -> Pair:
    """The pair of that name, built in `folder` unless it is there. Raises Unavailable."""
    tree, _, kind = name.partition("_")
    kind = kind or "ext4"
    found = Pair(name=name, old=folder / name / f"old.{kind}", new=folder / name / f"new.{kind}", folder=folder / name)
    found.folder.mkdir(parents=True, exist_ok=True)
    if kind == "in_place":
        return _written_in_place(pair(tree, folder), found.folder)
    if kind != "ext4":
        _pack(kind, pair(tree, folder), found)
        return found
    for age, image in (("old", found.old), ("new", found.new)):
        if not image.exists():
            with tempfile.TemporaryDirectory(dir=found.folder, prefix="build-") as scratch:
                try:
                    BUILDERS[name](age, Path(scratch))
                except RuntimeError as error:
                    raise Unavailable(str(error)) from None
                made = Path(scratch) / "image"
                _make_image(Path(scratch) / "tree", made, SIZES_MIB[name])
                made.replace(image)
    return found


# trees


def _os(age: str, scratch: Path) -> None:
    release = _release()
    suites = (release,) if age == "old" else (release, f"{release}-updates", f"{release}-security")
    _bootstrap(release, [_line(suite, suite) for suite in suites], SYSTEM, scratch)


def _major(age: str, scratch: Path) -> None:
    """The host need not know the next release; it stands in the same archive."""
    release = _release()
    suite = release if age == "old" else NEXT.get(release, "")
    if not suite:
        raise Unavailable(f"no release after {release} is known here")
    _bootstrap(suite, [_line(release, suite)], BASE, scratch)


def _app(age: str, scratch: Path) -> None:
    """No system around it: the packages' files alone."""
    tree = scratch / "tree"
    tree.mkdir()
    chosen = [f"{package}={version}" for package, version in _versions(APPLICATION, age).items()]
    run("sh", "-c", 'cd "$1" && shift && apt-get download -q "$@"', "sh", str(scratch), *chosen)
    for deb in sorted(scratch.glob("*.deb")):
        run("dpkg-deb", "-x", str(deb), str(tree))
    for name in NOT_SHIPPED:
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)


def _versions(packages: Sequence[str], age: str) -> dict[str, str]:
    """Of each package the release's own version, or the newest of its updates."""
    like = f" {_release()}/" if age == "old" else f" {_release()}"
    rows = [[cell.strip() for cell in row.split("|")] for row in run("apt-cache", "madison", *packages).splitlines()]
    chosen: dict[str, str] = {}
    for package, version, _ in (row for row in rows if like in row[2]):
        if package not in chosen or _is_newer(version, chosen[package]):
            chosen[package] = version
    if missing := sorted(set(packages) - set(chosen)):
        raise Unavailable(f"not in the package lists of this machine: {', '.join(missing)}")
    return chosen


def _is_newer(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode == 0


def _bootstrap(suite: str, lines: Sequence[str], packages: Sequence[str], scratch: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise Unavailable("mmdebstrap is not installed")
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in NOT_SHIPPED]
    tar, tree = scratch / "tree.tar", scratch / "tree"
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", *left_out),
        *(suite, str(tar), *lines),
        env={**os.environ, "SOURCE_DATE_EPOCH": str(TIME_S), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    tree.mkdir()
    run("tar", "xf", str(tar), "-C", str(tree), *(f"--exclude=./{pattern}" for pattern in NOT_IN_IMAGE))
    tar.unlink()


# where packages come from


def _release() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def _line(like: str, suite: str) -> str:
    """A source of `suite`, from where this machine has `like`."""
    for uri, suites in _sources():
        if like in suites:
            return f"deb {uri} {suite} main"
    raise Unavailable(f"this machine has no package source of {like}")


@cache
def _sources() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Address and suites of this machine's package sources, in both of apt's formats."""
    found: list[tuple[str, tuple[str, ...]]] = []
    folder = Path("/etc/apt/sources.list.d")
    for path in (Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))):
        for line in path.read_text().splitlines() if path.exists() else ():
            words = [word for word in line.split() if not word.startswith(("[", "signed-by", "arch"))]
            if words[:1] == ["deb"] and len(words) > 2:
                found.append((words[1], (words[2],)))
    for path in sorted(folder.glob("*.sources")):
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
        for paragraph in text.split("\n\n"):
            fields = {name: value.split() for name, _, value in (line.partition(":") for line in paragraph.split("\n"))}
            if fields.get("URIs"):
                found.append((fields["URIs"][0], tuple(fields.get("Suites", ()))))
    return tuple(found)


# images


def _make_image(tree: Path, image: Path, size_mib: int) -> None:
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (TIME_S, TIME_S), follow_symlinks=False)
    with image.open("wb") as stream:
        stream.truncate(size_mib << 20)
    times = {**os.environ, "E2FSPROGS_FAKE_TIME": str(TIME_S), "SOURCE_DATE_EPOCH": str(TIME_S)}
    run(
        *("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "0", "-U", UUID),
        *("-E", f"hash_seed={HASH_SEED},lazy_itable_init=0", "-d", str(tree), str(image)),
        env=times,
    )
    _settle_times(image, times)


def _pack(kind: str, plain: Pair, packed: Pair) -> None:
    """The trees of the `plain` pair in images of that kind."""
    if shutil.which(PACKERS[kind][0]) is None:
        raise Unavailable(f"{PACKERS[kind][0]} is not installed")
    for image, out in ((plain.old, packed.old), (plain.new, packed.new)):
        if not out.exists():
            with tempfile.TemporaryDirectory(dir=packed.folder, prefix="build-") as scratch:
                tree, made = Path(scratch) / "tree", Path(scratch) / "image"
                tree.mkdir()
                try:
                    run("debugfs", "-R", f"rdump / {tree}", str(image))
                    shutil.rmtree(tree / "lost+found", ignore_errors=True)
                    run(*(word.format(tree=tree, out=made) for word in PACKERS[kind]))
                except RuntimeError as error:
                    raise Unavailable(str(error)) from None
                made.replace(out)
    size = -(-max(packed.old.stat().st_size, packed.new.stat().st_size) >> 20) << 20
    for out in (packed.old, packed.new):
        os.truncate(out, size)  # a slot holds either


def _written_in_place(plain: Pair, folder: Path) -> Pair:
    """The `plain` pair's old image, and a copy of it brought to the new tree by writing what is different."""
    found = Pair(name=folder.name, old=plain.old, new=folder / "new.ext4", folder=folder)
    if not found.new.exists():
        if shutil.which("rsync") is None:
            raise Unavailable("rsync is not installed")
        with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
            made, tree, mounted = (Path(scratch) / name for name in ("image", "tree", "mounted"))
            shutil.copyfile(plain.old, made)
            try:
                run("unshare", "-m", "sh", "-ec", WRITE_IN_PLACE, "sh", *map(str, (made, mounted, plain.new, tree)))
            except RuntimeError as error:
                raise Unavailable(str(error)) from None
            made.replace(found.new)
    return found


def _settle_times(image: Path, env: dict[str, str]) -> None:
    """mke2fs takes the times of change of inodes from the tree, where nothing can set them."""
    listed = run("dumpe2fs", "-h", str(image))
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in listed.splitlines())}
    used = int(fields["Inode count"]) - int(fields["Free inodes"])
    with tempfile.NamedTemporaryFile("w", dir=image.parent) as script:
        for number in (2, *range(int(fields["First inode"]), used + 1)):
            for name in ("ctime", "crtime", "ctime_extra", "crtime_extra", "mtime_extra", "atime_extra"):
                value = "0" if name.endswith("extra") else f"@{TIME_S}"
                script.write(f"set_inode_field <{number}> {name} {value}\n")
        script.flush()
        run("debugfs", "-w", "-f", script.name, str(image), env=env)


PACKERS: Mapping[str, Sequence[str]] = {
    "squashfs": (
        *("mksquashfs", "{tree}", "{out}", "-comp", "zstd", "-noappend", "-quiet", "-no-progress", "-all-root"),
        *("-mkfs-time", str(TIME_S), "-all-time", str(TIME_S), "-processors", "1"),
    ),
    "erofs": ("mkfs.erofs", "-zlz4", f"-T{TIME_S}", f"-U{UUID}", "--all-root", "--quiet", "{out}", "{tree}"),
}
BUILDERS: Mapping[str, Callable[[str, Path], None]] = {"os": _os, "app": _app, "major": _major}
SIZES_MIB: Mapping[str, int] = {"os": 512, "app": 128, "major": 256}
