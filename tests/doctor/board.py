"""A fabricated board: a directory with the files of a healthy terminal, real boot environment tools, a played systemd.

What is real: files, links, unix sockets, fw_printenv and fw_setenv, the agent's ports, the repository's units. Played:
what needs another machine (users, device numbers, systemd's answers, the watchdog). `devices` and `owners` say for a
path what the file system of a board would.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posagent import config as configuration
from posagent.core.errors import PosagentError
from posagent.doctor import service
from posagent.doctor.findings import Finding
from posagent.doctor.site import Site
from posagent.platform.board import About, LinuxBoard, OpenWatchdog
from posagent.platform.commands import CommandFailed
from posagent.platform.uboot import UbootBootControl
from tests.platform.uboot import ENV_SIZE, make_environment

UNITS = Path(__file__).parents[2] / "systemd"
USERS = {
    "root": 0,
    "posagent": 901,
    "posagent-fetch": 902,
    "posagent-test": 903,
    "posagent-support": 904,
    "acme-pay": 905,
}
GROUPS = {"dialout": 20, "posagent-admin": 910, "posagent-payment": 911, "posagent-inbox": 912}
SLOT_SECTORS = 4096
CHECKS = {name: check for family in service.FAMILIES for name, check in family.items()}

CONFIG = """\
[terminal]
id = "pos-0001"
hardware = "acme"
state_dir = "{base}/data/posagent"
installer_dir = "{base}/data/installer"
run_dir = "{base}/run"
os_release_file = "{base}/os-release"
[slots.a]
device = "{base}/a.img"
[slots.b]
device = "{base}/b.img"
[boot]
env_config = "{base}/fw_env.config"
fw_setenv = "{setenv}"
fw_printenv = "{printenv}"
cmdline_file = "{base}/cmdline"
boot_id_file = "{base}/boot_id"
reboot_command = ["/bin/true"]
[trust]
root_file = "{base}/root.json"
image_built_at = 1700000000
[fetch]
repository_url = "https://updates.example.com/p400"
spool_dir = "{base}/data/spool"
[power]
supply_dir = "{base}/power"
[payment]
application = "required"
[window]
time_zone = "Europe/Berlin"
install = ["22:00-06:00"]
daily_restart = "06:00"
[console]
device = "{base}/root/dev/ttyS1"
engineer_ca_file = "{base}/engineer-ca.pub"
[support]
vendor_key_file = "{base}/vendor.pub.pem"
[data]
format = 1
owner = "acme-pay"
root_dir = "{base}/data/merchant"
link = "{base}/run/data/current"
steps_dir = "{base}/migrate.d"
[[selftest.checks]]
name = "payment program answers"
kind = "tcp"
port = 4711
"""


class PlayedWatchdog(OpenWatchdog):
    """Never bites; says so in `events` of its board."""

    def __init__(self, events: list[str]) -> None:
        self._events = events
        self.identity = "played watchdog"
        events.append("opened")

    def set_timeout(self, seconds: int) -> int:
        self._events.append(f"time-out {seconds}")
        return seconds

    def disarm(self) -> None:
        self._events.append("disarmed")


class FabricatedBoard(LinuxBoard):
    """`missing` names programs that do not exist; `events` has what was done to the board, in order."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.root = True
        self.users, self.groups = dict(USERS), dict(GROUPS)
        self.grouped: dict[str, set[str]] = {"posagent-payment": {"acme-pay"}}
        self.owners: dict[str, tuple[int, int]] = {}
        self.devices: dict[str, tuple[str, str]] = {}
        self.manager = {"RuntimeWatchdogUSec": "30s"}
        self.units: dict[str, dict[str, str]] = {}
        self.texts: dict[str, str] = {}
        self.log = ""
        self.missing: set[str] = set()
        self.events: list[str] = []
        self.watchdog_error: OSError | None = None
        self.interrupt_after, self.interrupt = 10**9, signal.SIGINT

    def am_root(self) -> bool:
        return self.root

    def about(self, path: str) -> About | None:
        found = super().about(path)
        if found is None:
            return None
        uid, gid = self.owners.get(path, (0, 0))
        found = dataclasses.replace(found, uid=uid, gid=gid)
        if path in self.devices:
            kind, number = self.devices[path]
            found = dataclasses.replace(found, kind=kind, number=number)
        return found

    def uid_of(self, user: str) -> int | None:
        return self.users.get(user)

    def gid_of(self, group: str) -> int | None:
        return self.groups.get(group)

    def groups_of(self, user: str) -> set[int]:
        return {self.users[user]} if user in self.users else set()

    def members(self, group: str) -> set[str]:
        return self.grouped.get(group, set()) if group in self.groups else set()

    def user_name(self, uid: int) -> str:
        return next((name for name, one in self.users.items() if one == uid), str(uid))

    def open_watchdog(self, path: str) -> OpenWatchdog:
        if self.watchdog_error is not None:
            raise self.watchdog_error
        return PlayedWatchdog(self.events)

    def pause(self, seconds: float) -> None:
        self.interrupt_after -= 1
        if self.interrupt_after < 0:
            if self.interrupt == signal.SIGINT:  # which a test run in the background ignores
                raise KeyboardInterrupt
            os.kill(os.getpid(), self.interrupt)

    def sync(self) -> None:
        self.events.append("synced")

    def run(self, command: Sequence[str]) -> str:
        program = command[0].rpartition("/")[2]
        if not self.missing.isdisjoint((program, " ".join(command))):
            raise CommandFailed(command, "No such file or directory")
        match [program, *command[1:]]:
            case ["systemctl", "show", "--no-pager", wanted, *unit]:
                names = wanted.removeprefix("--property=").split(",")
                shown = self.units.get(unit[0], {"LoadState": "not-found"}) if unit else self.manager
                return "".join(f"{name}={shown.get(name, '')}\n" for name in names)
            case ["systemctl", "cat", "--no-pager", unit]:
                if unit not in self.texts:
                    raise CommandFailed(command, "ended with 1", b"No files found")
                return self.texts[unit]
            case ["systemctl", ("stop" | "start") as verb, *_, unit]:
                self.events.append(f"{verb} {unit}")
            case ["systemctl", "daemon-reload"]:
                let_go = list(Path(self.system("/run/systemd/system.conf.d")).glob("*.conf"))
                self.events.append(
                    " ".join(["reloaded", *(word for path in let_go for word in path.read_text().split())])
                )
            case ["setpriv", *_]:
                pass
            case ["journalctl", *_]:
                return self.log
            case _:
                return super().run(command)
        return ""


@dataclass
class Bench:
    """A healthy board to be spoiled; the doctor of this process looks at it.

    `base` has what the configuration names, `base/root` the kernel's own files.
    """

    base: Path
    board: FabricatedBoard
    status: dict[str, Any] | None = field(default_factory=lambda: {"booted": "a", "state": "idle"})
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.base / "posagent.toml"

    @property
    def installer(self) -> Path:
        return self.base / "data/installer"

    def write(self, path: str, text: str | bytes) -> Path:
        """A file below `base`, with the directories above it."""
        where = self.base / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(text.encode() if isinstance(text, str) else text)
        return where

    def configure(self, *changes: tuple[str, str]) -> None:
        """Change texts of the configuration."""
        text = self.config.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.config.write_text(text)

    def site(self) -> Site:
        return self.load(str(self.config))

    def load(self, path: str) -> Site:
        site = service.site_of(configuration.load(path), self.board)
        return dataclasses.replace(site, ask=self._ask)

    def _ask(self) -> dict[str, Any]:
        if self.status is None:
            raise PosagentError("agent_unreachable", "nobody listens")
        return self.status

    def examine(self) -> dict[str, Finding]:
        return {one.check: one for one in service.examine(str(self.config))}

    def look(self, name: str) -> Finding:
        """One check of the board as it is now."""
        return service.look(name, CHECKS[name], self.site())

    def record(self, **states: Any) -> None:
        """What the installer has recorded of the slots."""
        slots = {slot: {"state": states.get(slot, "good"), "size": states.get("size", 0)} for slot in "ab"}
        self.write("data/installer/slots.json", json.dumps({"format": 1, "slots": slots}))

    def environment(self, text: str, copies: int = 2) -> None:
        """A boot environment as a factory would make it: the helper fills one copy, one write more the other."""
        boot, slots = make_environment(self.base, text)
        if copies == 2:
            control = UbootBootControl(boot, slots)
            control.write(control.read())
        self.write("cmdline", "console=ttyS0 posagent.slot=a posagent.reset=power\n")

    def block(self, name: str, number: str, *, start: int | None, sectors: int, path: str = "") -> None:
        """A disk, or a partition of mmcblk0, in sysfs; `path` becomes its device."""
        disk = self.base / "root/sys/devices/mmcblk0"
        where = disk if start is None else disk / name
        where.mkdir(parents=True, exist_ok=True)
        (where / "size").write_text(f"{sectors}\n")
        if start is not None:
            (where / "start").write_text(f"{start}\n")
        link = self.base / "root/sys/dev/block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(where)
        if path:
            self.board.devices[path] = ("block device", number)

    def remount(self, old: str, new: str) -> None:
        """Change the kernel's table of mounts."""
        path = self.base / "root/proc/self/mountinfo"
        said = path.read_text()
        assert old in said, old
        path.write_text(said.replace(old, new))

    def opens(self, pid: int, name: str, path: str) -> None:
        """A process that has a file below `base` open; one more where it has one already."""
        self.write(f"root/proc/{pid}/comm", f"{name}\n")
        open_files = self.base / f"root/proc/{pid}/fd"
        open_files.mkdir(parents=True, exist_ok=True)
        (open_files / str(3 + len(list(open_files.iterdir())))).symlink_to(self.base / path)


def ext4(size_kib: int) -> bytes:
    """The beginning of an ext4 file system of that size, and room for it."""
    block = bytearray(1024)
    struct.pack_into("<I", block, 4, size_kib)
    struct.pack_into("<H", block, 56, 0xEF53)
    return bytes(1024) + bytes(block) + bytes(size_kib * 1024 - 2048)


def factory(base: Path) -> bytes:
    """Both copies of a boot environment as they leave the factory."""
    bench = Bench(base=base, board=FabricatedBoard(base))
    bench.environment("BOOT_ORDER=a\nBOOT_a_LEFT=3\nBOOT_b_LEFT=0\n")
    return (base / "uboot.env").read_bytes()


def bench(base: Path, keys: Path, environment: bytes) -> Iterator[Bench]:
    base = base.resolve()
    board = FabricatedBoard(base / "root")
    made = Bench(base=base, board=board)
    made.write("cmdline", "console=ttyS0 posagent.slot=a posagent.reset=power\n")
    path = made.write("uboot.env", environment)
    made.write("fw_env.config", f"{path} 0x0 {ENV_SIZE:#x}\n{path} {ENV_SIZE:#x} {ENV_SIZE:#x}\n")
    made.write("boot_id", "11111111-2222-3333-4444-555555555555\n")
    made.write("os-release", "IMAGE_VERSION=1.0.0\n")
    tools = {name: shutil.which(f"fw_{name}") or f"/usr/bin/fw_{name}" for name in ("setenv", "printenv")}
    made.config.write_text(CONFIG.format(base=base, **tools))
    shutil.copy(keys / "1.root.json", base / "root.json")
    for name in ("engineer-ca.pub", "vendor.pub.pem"):
        shutil.copy(keys / name, base / name)
    _slots(made)
    _places(made)
    _kernel(made)
    _systemd(made)
    yield made
    for listener in made.sockets:
        listener.close()


def _slots(made: Bench) -> None:
    image = ext4(SLOT_SECTORS // 4)
    for number, slot in enumerate("ab", 1):
        path = made.write(f"{slot}.img", image + bytes(SLOT_SECTORS * 512 - len(image)))
        start = 4096 + (number - 1) * SLOT_SECTORS
        made.block(f"mmcblk0p{number}", f"179:{number}", start=start, sectors=SLOT_SECTORS, path=str(path))
    made.block("mmcblk0", "179:0", start=None, sectors=1 << 20, path=str(made.base / "uboot.env"))


def _places(made: Bench) -> None:
    for name, user in (("posagent", "posagent"), ("installer", "root"), ("spool", "posagent-fetch")):
        path = made.base / "data" / name
        path.mkdir(parents=True)
        path.chmod(0o755)
        made.board.owners[str(path)] = (USERS[user], USERS[user])
    (made.base / "data/merchant").mkdir(mode=0o711)
    made.write("migrate.d/10-first", "").chmod(0o755)
    inbox = made.base / "data/spool/inbox"
    inbox.mkdir()
    inbox.chmod(0o2770)
    made.board.owners[str(inbox)] = (USERS["posagent-fetch"], GROUPS["posagent-inbox"])
    run = made.base / "run"
    run.mkdir()
    made.board.owners[str(run)] = (USERS["posagent"], 0)
    for name in ("installer", "fetcher", "selftest", "support", "data"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(run / f"{name}.sock"))
        (run / f"{name}.sock").chmod(0o600)
        made.board.owners[str(run / f"{name}.sock")] = (USERS["posagent"], 0)
        made.sockets.append(listener)
    made.write("data/posagent/agent.lock", "")
    made.opens(200, "posagentd", "data/posagent/agent.lock")


def _kernel(made: Bench) -> None:
    mounted = f"""\
20 1 179:1 / / ro,noatime shared:1 - ext4 /dev/root ro
21 20 0:5 / /proc rw,nosuid - proc proc rw
22 20 179:3 / {made.base}/data rw,noatime - ext4 /dev/mmcblk0p3 rw
23 20 0:30 / {made.base}/run rw - tmpfs tmpfs rw
"""
    made.write("root/proc/self/mountinfo", mounted)
    made.write(
        "root/proc/devices",
        "Character devices:\n  4 ttyS\n207 ttymxc\n247 watchdog\n\nBlock devices:\n179 mmc\n253 device-mapper\n",
    )
    made.write("root/proc/consoles", "ttyS0                -W- (EC p a)    4:64\n")
    for name, number, gid in (("watchdog0", "247:0", 0), ("ttyS1", "4:65", GROUPS["dialout"])):
        path = made.write(f"root/dev/{name}", "")
        path.chmod(0o660)
        made.board.devices[str(path)] = ("character device", number)
        made.board.owners[str(path)] = (0, gid)
    made.opens(1, "systemd", "root/dev/watchdog0")
    for name, word in {"identity": "imx2+ watchdog", "timeout": "30", "state": "active", "nowayout": "1"}.items():
        made.write(f"root/sys/dev/char/247:0/{name}", f"{word}\n")
    made.write("root/sys/class/rtc/rtc0/since_epoch", f"{int(time.time())}\n")
    for supply, words in {
        "ac": {"type": "Mains", "online": "1"},
        "battery": {"type": "Battery", "capacity": "80", "status": "Charging"},
        "pinpad": {"type": "Battery", "scope": "Device", "capacity": "5"},
    }.items():
        for name, word in words.items():
            made.write(f"power/{supply}/{name}", f"{word}\n")


def _systemd(made: Bench) -> None:
    for path in ("run/systemd/system", "run/systemd/seats"):
        (made.base / "root" / path).mkdir(parents=True)
    workers = ("installer", "fetcher", "selftest", "support", "data")
    for program in ("systemd-inhibit", "posagentd", *(f"posagent-{name}" for name in workers)):
        made.write(f"root/usr/bin/{program}", "")
    for program in ("true", "systemctl"):
        made.write(f"root/bin/{program}", "")
    loaded = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}
    for file in UNITS.glob("posagent*"):
        text = file.read_text()
        for old, new in (
            ("/var/lib/posagent-installer", f"{made.base}/data/installer"),
            ("/run/posagent", f"{made.base}/run"),
        ):
            text = text.replace(old, new)
        for unit in [file.name.replace("@", f"@{slot}") for slot in "ab"] if "@" in file.name else [file.name]:
            made.board.texts[unit] = text
            made.board.units[unit] = dict(loaded)
    made.board.units["posagentd.service"]["WatchdogUSec"] = "1min"
    dropin = (
        f"# a drop-in\n[Service]\nReadWritePaths={made.base}/data/posagent -{made.base}/data/spool {made.base}/run\n"
    )
    for unit in ("posagentd.service", "posagent-fetcher.service"):
        made.board.texts[unit] += dropin
    for unit in ("posagent-data.service", "posagent-data-select.service"):
        made.board.texts[unit] += f"[Service]\nReadWritePaths={made.base}/data/merchant {made.base}/run/data\n"
