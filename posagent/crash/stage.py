"""What the explored terminals share: images of two blocks, their signed bundles, and the configuration.

An image is a few blocks of text that name a version and how it behaves once started. Recovery sees slot contents only
through digests, so two blocks stand for a whole image: each is old, new or spoiled.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from posagent.config import (
    BootConfig,
    CheckConfig,
    Config,
    FetchConfig,
    SelftestConfig,
    SlotConfig,
    SlotsConfig,
    TerminalConfig,
    TrustConfig,
)
from posagent.core.model import Limits
from posagent.core.payload import PREFIX_BYTES, header_length
from posagent.core.ports import ResetCause
from posagent.crash.medium import SLOT_BLOCK_BYTES
from posagent.release import bundle, keys
from posagent.release.bundle import Versions

HARDWARE = "sim-pos"
BLOCKS = 2
SLOT_BYTES = (BLOCKS + 1) * SLOT_BLOCK_BYTES
NOW_S = 1_800_000_000
CHECKPOINT_BYTES = 8192
STATE_DIR, INSTALLER_DIR, SPOOL_DIR = "/data/agent", "/data/installer", "/data/spool"
DATA_DIR = "/data/merchant"
FACTORY = "1.0.0"
WHOLE = "2.1.0"
"""The image whose bundle has a payload of large operations, too."""

LIMITS = Limits(
    fetch_attempts_max=2,
    check_attempts_max=2,
    install_attempts_max=2,
    selftest_attempts_max=1,
    arm_attempts_max=1,
    reboot_attempts_max=1,
    return_attempts_max=1,
    power_cycles_max=1,
    gate_recheck_s=30.0,
    fetch_backoff_s=1.0,
    install_backoff_s=1.0,
    reboot_timeout_s=30.0,
)
"""Small, so that every way to use them up is explored."""

BEHAVIOURS = ("good", "panic", "hang", "agent-dead", "test-fails", "test-hangs")
KEPT = {
    f"{STATE_DIR}/journal",
    f"{STATE_DIR}/journal.reserve",
    *(f"{INSTALLER_DIR}/{name}" for name in ("slots.json", "floor.json", "floor-copy.json", "reset.json", "trust")),
    f"{INSTALLER_DIR}/parameters.json",
    *(f"{INSTALLER_DIR}/trust/{name}" for name in ("record.json", "record-copy.json")),
}
"""What a terminal at rest has on its data partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`counter` is its security counter; `behaviour` is one of BEHAVIOURS; `format` is that of its merchants' data and
    of the parameters that it takes, which its bundle may bring."""

    version: str
    behaviour: str
    counter: int
    format: int = 2
    parameters: str = ""

    @property
    def content(self) -> bytes:
        blocks = (json.dumps([self.version, self.behaviour, at]).encode() for at in range(BLOCKS))
        return b"".join(block.ljust(SLOT_BLOCK_BYTES, b".") for block in blocks)


IMAGES = (
    Image(version=FACTORY, behaviour="good", counter=1, format=1),
    Image(version="2.0.0", behaviour="good", counter=2),
    Image(version="2.1.0", behaviour="good", counter=3),
    *(Image(version=f"3.0.0-{one}", behaviour=one, counter=4) for one in BEHAVIOURS[1:]),
    Image(version="1.1.0", behaviour="good", counter=1, format=1),  # the only one from which there is a way back
    Image(version="2.2.0", behaviour="good", counter=4, parameters="p-2"),
    Image(version="3.0.1-test-fails", behaviour="test-fails", counter=4, parameters="p-2"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """A set that comes alone, or with an image; images of those `formats` take it, and their self-test passes on it
    where it is `good`."""

    version: str
    formats: tuple[int, ...]
    good: bool = True

    @property
    def content(self) -> bytes:
        return json.dumps({"version": self.version, "formats": self.formats, "good": self.good}).encode()


SETS = {
    one.version: one
    for one in (
        Parameters(version="p-1", formats=(1,)),
        Parameters(version="p-2", formats=(2,)),
        Parameters(version="p-3-bad", formats=(1, 2), good=False),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`bundles` by version; `root` is where os-release files and the trusted root lie."""

    root: Path
    images: dict[str, Image]
    bundles: dict[str, bytes]

    def tables_bytes(self, version: str) -> int:
        """Of a bundle all but the payload's data: what must be there to plan."""
        data = self.bundles[version]
        start = data.index(b"targets/") + tarfile.BLOCKSIZE
        return start + header_length(data[start : start + PREFIX_BYTES])

    def image_in(self, content: bytes) -> Image | None:
        """The image in a slot, or None where it is not a whole one."""
        for image in self.images.values():
            if content[: len(image.content)] == image.content:
                return image
        return None

    def boot_id_file(self, boot_id: str) -> Path:
        """A file that says which start this is; as many as there are starts on the longest path."""
        path = self.root / f"boot-{boot_id}"
        if not path.exists():
            path.write_text(boot_id)
        return path

    def config(self, booted: Image, tries_full: int) -> Config:
        return config_of(
            "t",
            os_release=str(self.root / f"os-release-{booted.version}"),
            tries_full=tries_full,
            trust=TrustConfig(root_file=str(self.root / "root.json"), rollback_floor=1),
            fetch=FetchConfig(spool_dir=SPOOL_DIR, checkpoint_bytes=CHECKPOINT_BYTES, keep_free_bytes=0),
        )


def config_of(name: str, *, os_release: str, tries_full: int, trust: TrustConfig, fetch: FetchConfig) -> Config:
    """The configuration of a terminal on a medium."""
    return Config(
        terminal=TerminalConfig(
            id=name,
            hardware=HARDWARE,
            state_dir=STATE_DIR,
            installer_dir=INSTALLER_DIR,
            os_release_file=os_release,
        ),
        slots=SlotsConfig(a=SlotConfig(device="a"), b=SlotConfig(device="b")),
        boot=BootConfig(tries_full=tries_full),
        trust=trust,
        fetch=fetch,
        selftest=SelftestConfig(checks=(CheckConfig(name="payment", kind="tcp", port=1),)),
    )


@contextmanager
def opened(root: Path | None = None) -> Iterator[Stage]:
    """The stage in the directory `root`, set up where it is missing; by default a temporary one."""
    if root is not None:
        yield _load(root) if (root / "root.json").exists() else _set_up(root)
        return
    with tempfile.TemporaryDirectory(prefix="posagent-crash-") as folder:
        yield _set_up(Path(folder))


def _set_up(root: Path) -> Stage:
    keys.init(root / "keys", now_s=NOW_S)
    for one in SETS.values():
        (root / one.version).write_bytes(one.content)
    for number, image in enumerate(IMAGES):
        (root / f"os-release-{image.version}").write_text(f"IMAGE_VERSION={image.version}\n")
        (root / "image").write_bytes(image.content)
        brings = (root / image.parameters, image.parameters) if image.parameters else None
        _sign(root, number + 2, image.version, root / "image", brings, image.counter)
    for number, name in ((1, "p-1"), (len(IMAGES) + 2, "p-3-bad")):
        _sign(root, number, name, None, (root / name, name), 0)
    for cause in ResetCause:
        (root / f"cmdline-{cause.value}").write_text(f"posagent.reset={cause.value}\n")
    (root / "root.json").write_bytes((root / "keys/1.root.json").read_bytes())
    return _load(root)


def _sign(
    root: Path, number: int, version: str, image: Path | None, parameters: tuple[Path, str] | None, counter: int
) -> None:
    bundle.build(
        image,
        version=version,
        parameters=parameters,
        compatible=[HARDWARE],
        keys_dir=root / "keys",
        out=root / f"{version}.bundle",
        security_counter=counter,
        level=1,
        data_bytes=SLOT_BLOCK_BYTES,
        whole=version == WHOLE,
        versions=Versions(targets=number, snapshot=number, timestamp=number),
        now_s=NOW_S,
    )


def _load(root: Path) -> Stage:
    bundles = {path.stem: path.read_bytes() for path in root.glob("*.bundle")}
    return Stage(root=root, images={image.version: image for image in IMAGES}, bundles=bundles)
