"""Starts the virtual terminal in QEMU; by hand with its console on this terminal (Ctrl-A X ends it, Ctrl-A C: QEMU).

Owns: the machine, that is QEMU's options. Devices have fixed addresses, because a saved state of the machine names
them. Never KVM: a 64-bit ARM is emulated here, whatever /dev/kvm says.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

BUILT = Path(__file__).resolve().parents[2] / "build/hil"


def qemu(
    card: Path, *, console: str, field: str, payments: int = 0, log: Path | None = None, more: Sequence[str] = ()
) -> list[str]:
    """The command that runs a terminal from `card`; `console` and `field` are QEMU character devices without id.

    The host is 10.0.2.2 for the terminal, and its 127.0.0.1 answers there. Where `payments` names a port of the host's
    loopback, the payment program is reached there. Every write to the card is recorded in the file `log`.
    """
    forward = f",hostfwd=tcp:127.0.0.1:{payments}-:4711" if payments else ""
    drive = ["-drive", f"if=none,id=card,format=raw,file={card}"]
    if log is not None:
        # A short interval for the log's own superblock would make the card twenty times slower.
        recorder = "driver=blklogwrites,node-name=card,file=disk,log=log"
        recorder += ",log-sector-size=512,log-super-update-interval=4096"
        drive = [f"driver=file,node-name=disk,filename={card}", f"driver=file,node-name=log,filename={log}", recorder]
        drive = [word for node in drive for word in ("-blockdev", node)]
    return [
        *("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57", "-accel", "tcg", "-m", "256"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-bios", str(BUILT / "u-boot.bin")),
        *("-chardev", f"{console},id=console", "-serial", "chardev:console"),
        *("-chardev", f"{field},id=field", "-device", "pci-serial,chardev=field,addr=4"),
        *drive,
        *("-device", "sdhci-pci,addr=5", "-device", "sd-card,drive=card"),
        *("-device", "i6300esb,addr=6", "-action", "watchdog=reset"),
        *("-netdev", f"user,id=net{forward}", "-device", "virtio-net-pci,netdev=net,romfile=,addr=7"),
        *("-device", "virtio-rng-pci,addr=8"),
        *more,
    ]


def fresh(card: Path) -> Path:
    """A new card as it leaves the factory, at that path."""
    card.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", BUILT / "card.img", card], check=True)
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description="Start the virtual terminal.")
    parser.add_argument("--card", type=Path, default=BUILT / "run/card.img", help="made where it does not exist")
    parser.add_argument("--fresh", action="store_true", help="begin with a new card")
    arguments = parser.parse_args()
    card: Path = arguments.card
    if arguments.fresh or not card.exists():
        fresh(card)
    field = f"socket,path={card.parent / 'field.sock'},server=on,wait=off"
    console = "stdio,mux=on,signal=off"
    command = qemu(card, console=console, field=field, more=("-mon", "chardev=console"))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
