"""Lives one plan in a network of its own, so that several terminals find their updates at the same address.

Started by hil.campaign under `unshare --net`; prints the record as one line of JSON.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path

from hil.campaign.life import Life, parse

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """A new network has a loopback that is switched off. Source: netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def main() -> None:
    plan, bundle, digests, transcripts = sys.argv[1:]
    loopback_up()
    folder = Path(tempfile.mkdtemp(prefix="life-"))
    try:
        record = Life(parse(plan), folder, Path(bundle), json.loads(digests)).live()
        if record.wrong or record.lost:
            kept = Path(transcripts) / f"{folder.name}.log"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "console.log", kept)
            print(f"console: {kept}", file=sys.stderr)
        print(json.dumps(record.to_dict()), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
