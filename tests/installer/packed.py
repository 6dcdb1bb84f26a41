"""Small images of compressed file systems, made by their own tools, of a tree before and after an update."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

TIME = "1700000000"
UUID = "11111111-2222-3333-4444-555555555555"
KINDS = ("squashfs", "squashfs-19", "erofs", "erofs-hc")
OTHERS: dict[str, tuple[str, ...]] = {
    "squashfs, large blocks": ("-comp", "zstd", "-b", "1M"),
    "squashfs, gzip": ("-comp", "gzip"),
    "squashfs, not packed": ("-noI", "-noD", "-noF", "-noX", "-comp", "zstd"),
    "erofs, large clusters": ("-zlz4hc", "-C16384"),
    "erofs, not packed": (),
    "erofs, tails packed": ("-zlz4hc", "-Eztailpacking"),
}
"""Options of images that are compared as they are, or partly so."""


def program(seed: int, size: int) -> bytes:
    """As compressible as a program."""
    dice = random.Random(seed)
    words = [dice.randbytes(dice.randrange(2, 12)) for _ in range(400)]
    made = bytearray()
    while len(made) < size:
        made += words[int(400 * dice.random() ** 2)]
    return bytes(made[:size])


def tree(folder: Path, *, newer: bool) -> None:
    for name, seed, size in (("a", 1, 300_000), ("b", 2, 700_000), ("c", 3, 20_000), ("d", 4, 150_000), ("e", 5, 90)):
        data = program(seed, size)
        if newer and name in "abc":
            for at in range(1000, size, size // 4):
                data = data[:at] + b"inserted" + data[at:]
        (folder / name).write_bytes(data)
    (folder / "noise").write_bytes(random.Random(9).randbytes(50_000))


@lru_cache(maxsize=16)
def images(kind: str) -> tuple[bytes, bytes]:
    """The old and the new image; skips the test where the tool is missing."""
    return _image(kind, newer=False), _image(kind, newer=True)


def _image(kind: str, *, newer: bool) -> bytes:
    tool = "mksquashfs" if kind.startswith("squashfs") else "mkfs.erofs"
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; `make deps` installs it")
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name) / "tree", Path(name) / "image"
        source.mkdir()
        tree(source, newer=newer)
        if tool == "mksquashfs":
            options = OTHERS.get(kind, ("-comp", "zstd", "-Xcompression-level", kind.partition("-")[2] or "15"))
            words = [tool, str(source), str(out), *options, "-noappend", "-quiet"]
            words += ["-no-progress", "-all-root", "-mkfs-time", TIME, "-all-time", TIME]
        else:
            options = OTHERS.get(kind, ("-zlz4hc" if kind.endswith("hc") else "-zlz4",))
            words = [tool, *options, f"-T{TIME}", f"-U{UUID}", "--quiet", str(out), str(source)]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"{tool} cannot make this image here: {made.stderr.strip()}")
        return out.read_bytes()
