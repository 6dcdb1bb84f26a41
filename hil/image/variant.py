"""Makes another version of the built slot image, sound or with a fault, and a signed bundle of it, or of parameters.

Rules: nothing is built or mounted, so it needs seconds and no root: files are exchanged inside a copy of the image.
A fault is a set of files; what they do happens on the terminal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hil.image.start import BUILT
from posagent.release import bundle
from posagent.sim import till

HARDWARE = "qemu-virt"
LEVEL = 3
OS_RELEASE = "/usr/lib/os-release"
_UNITS = "/etc/systemd/system"


def _early(command: str) -> dict[str, str]:
    """A unit that runs before any other program of ours."""
    unit = "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n"
    service = f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{command}; sleep infinity'\n"
    wanted = "[Unit]\nWants=fault.service\n"
    return {f"{_UNITS}/fault.service": unit + service, f"{_UNITS}/sysinit.target.d/fault.conf": wanted}


def _format_2(configuration: str) -> str:
    """What an image declares whose payment program keeps its data in the second format of posagent.sim.till."""
    first, second = (till.TABLES[form] for form in till.FORMATS)
    return configuration.replace("\nformat = 1\n", "\nformat = 2\n").replace(f"FROM {first} ", f"FROM {second} ")


_FAILING = {f"{_UNITS}/payment.service.d/fault.conf": "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n"}
_MIGRATING: Mapping[str, str | Callable[[str], str]] = {
    "/etc/posagent/posagent.toml": _format_2,
    "/usr/lib/posagent/migrate.d/10-tips": till.STEP,
}
FAULTS: Mapping[str, Mapping[str, str | Callable[[str], str]]] = {
    "none": {},
    # the kernel panics, and restarts after `panic=` seconds
    "panic": _early("echo c >/proc/sysrq-trigger"),
    # process 1 freezes: nothing is started any more, and nobody pets the hardware watchdog
    "hang": _early("kill -SEGV 1"),
    "agent-dead": {f"{_UNITS}/posagentd.service.d/fault.conf": "[Service]\nExecStart=\nExecStart=/bin/false\n"},
    # the payment program runs, but does not listen
    "test-fails": _FAILING,
    "test-hangs": {"/opt/pos/self-test": "#!/bin/sh\nexec sleep infinity\n"},
    # no fault: the merchant's data has another format there
    "migrates": _MIGRATING,
    "migrates-test-fails": {**_MIGRATING, **_FAILING},
}
"""What is written into files of the image, or made from what they hold."""


def image(out: Path, version: str, fault: str = "none") -> Path:
    """A slot image of that version. Raises CalledProcessError, ValueError where the result is not a whole image."""
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", BUILT / "rootfs.ext4", out], check=True)
    kept = [line for line in _read(out, OS_RELEASE) if not line.startswith("IMAGE_VERSION=")]
    files = {OS_RELEASE: "\n".join([*kept, f"IMAGE_VERSION={version}\n"])}
    for path, new in FAULTS[fault].items():
        files[path] = new if isinstance(new, str) else new("\n".join([*_read(out, path), ""]))
    with tempfile.TemporaryDirectory() as scratch:
        requests = []
        for number, (path, text) in enumerate(files.items()):
            source = Path(scratch) / str(number)
            source.write_text(text)
            source.chmod(0o755 if text.startswith("#!") else 0o644)
            if "Inode:" not in _debugfs(out, f"stat {Path(path).parent}\n"):  # making it twice would damage the image
                requests += [f"mkdir {Path(path).parent}"]
            requests += [f"rm {path}", f"write {source} {path}"]
        _debugfs(out, "\n".join(requests) + "\n", "-w")
    for path, text in files.items():
        if text not in _debugfs(out, f"cat {path}\n"):
            raise ValueError(f"{path} could not be written into {out}")
    subprocess.run(["e2fsck", "-fn", out], check=True, capture_output=True)
    return out


def _read(image: Path, path: str) -> list[str]:
    """Lines of a file in it, without the request that debugfs repeats."""
    return [line for line in _debugfs(image, f"cat {path}\n").splitlines() if not line.startswith("debugfs:")]


def _debugfs(path: Path, requests: str, *options: str) -> str:
    command = ["debugfs", *options, "-f", "-", str(path)]
    return subprocess.run(command, input=requests, check=True, capture_output=True, text=True).stdout


def build(out: Path, version: str, fault: str = "none", *, delta: bool = True, whole: bool = True) -> Path:
    """A signed bundle of such an image, with a delta from the factory's and a whole payload, or without.

    Raises also posagent.core.errors.PosagentError."""
    with tempfile.TemporaryDirectory(dir=BUILT) as scratch:
        made = image(Path(scratch) / "rootfs.ext4", version, fault)
        keys = BUILT / "keys"
        out.parent.mkdir(parents=True, exist_ok=True)
        return bundle.build(
            made,
            version=version,
            compatible=[HARDWARE],
            keys_dir=keys,
            out=out,
            sources=[BUILT / "rootfs.ext4"] if delta else [],
            whole=whole,
            level=LEVEL,
        )


def build_parameters(out: Path, version: str, values: Mapping[str, Any]) -> Path:
    """A signed bundle of parameters alone. Raises posagent.core.errors.PosagentError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    source = out.with_suffix(".json")
    source.write_text(json.dumps(values))
    return bundle.build(
        None,
        version=version,
        parameters=(source, version),
        compatible=[HARDWARE],
        keys_dir=BUILT / "keys",
        out=out,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a bundle with another version of the terminal's system.")
    parser.add_argument("--version", required=True)
    parser.add_argument("--fault", choices=sorted(FAULTS), default="none")
    parser.add_argument("--out", type=Path, help="default: build/hil/bundles/VERSION-FAULT.bundle")
    arguments = parser.parse_args()
    default = BUILT / f"bundles/{arguments.version}-{arguments.fault}.bundle"
    print(build(arguments.out or default, arguments.version, arguments.fault))


if __name__ == "__main__":
    main()
