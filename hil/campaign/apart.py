"""Does one job of the campaign in a network of its own, so that several terminals find their updates at one address.

Started by hil.campaign under `unshare --net` with the job as JSON; prints the result as one line of JSON.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hil.campaign import figures, life, writelog

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TRANSCRIPTS = Path("build/campaign")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Start such a process, and wait for its result. Raises RuntimeError where the rig failed, not the terminal."""
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "hil.campaign.apart", json.dumps(job)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"the rig failed at {job}")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def main() -> None:
    job = json.loads(sys.argv[1])
    bundle = Path(job["bundle"])
    _loopback_up()
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        if "plan" in job:
            result = life.Life(life.parse(job["plan"]), folder, bundle, job["digests"]).live().to_dict()
            if result["wrong"] or result["lost"]:
                _keep(folder)
        elif "moments" in job:
            result = writelog.examine(folder, bundle, job["digests"], job["moments"], job["seed"])
        else:
            result = figures.measure(folder, bundle)
        print(json.dumps(result), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path) -> None:
    """The console's transcript, for whoever looks into a finding."""
    kept = TRANSCRIPTS / f"{folder.name}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "console.log", kept)
    print(f"console: {kept}", file=sys.stderr)


def _loopback_up() -> None:
    """A new network has a loopback that is switched off. Source: netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


if __name__ == "__main__":
    main()
