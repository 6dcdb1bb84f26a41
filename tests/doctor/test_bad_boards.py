"""Each check finds the board it is there for: a healthy one is spoiled in one way, and the check says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.doctor.board import SLOT_SECTORS, Bench

Spoil = Callable[[Bench], object]
ORDER = "BOOT_ORDER={}\nBOOT_a_LEFT={}\nBOOT_b_LEFT={}\n"


def config(old: str, new: str) -> Spoil:
    return lambda bench: bench.configure((old, new))


def a_fleet_without_its_socket(bench: Bench) -> None:
    bench.configure(("[support]", '[fleet]\nserver_url = "https://fleet.example.com/DEFAULT"\n[support]'))
    bench.board.units.pop("posagent-fleet.socket")


def write(path: str, text: str | bytes) -> Spoil:
    return lambda bench: bench.write(path, text)


def gone(path: str) -> Spoil:
    return lambda bench: (bench.base / path).unlink()


def environment(order: str, tries_a: object, tries_b: object) -> Spoil:
    return lambda bench: bench.environment(ORDER.format(order, tries_a, tries_b))


def unit(name: str, **changes: str) -> Spoil:
    return lambda bench: bench.board.units[name].update(changes)


def text(name: str, old: str, new: str) -> Spoil:
    def spoil(bench: Bench) -> None:
        assert old in bench.board.texts[name]
        bench.board.texts[name] = bench.board.texts[name].replace(old, new)

    return spoil


def owner(path: str, uid: int, gid: int = 0) -> Spoil:
    return lambda bench: bench.board.owners.update({str(bench.base / path): (uid, gid)})


def mode(path: str, bits: int) -> Spoil:
    return lambda bench: (bench.base / path).chmod(bits)


def mounts(old: str, new: str) -> Spoil:
    return lambda bench: bench.remount(old, new)


def places(*lines: str) -> Spoil:
    return lambda bench: bench.write("fw_env.config", "".join(f"{line}\n" for line in lines).format(base=bench.base))


def opens(pid: int, name: str, path: str) -> Spoil:
    return lambda bench: bench.opens(pid, name, path)


def both(*spoils: Spoil) -> Spoil:
    return lambda bench: [spoil(bench) for spoil in spoils]


def corrupt(offset: int) -> Spoil:
    def spoil(bench: Bench) -> None:
        data = bytearray((bench.base / "uboot.env").read_bytes())
        data[offset] ^= 1
        bench.write("uboot.env", bytes(data))

    return spoil


def manager(value: str) -> Spoil:
    return lambda bench: bench.board.manager.update(RuntimeWatchdogUSec=value)


def missing(program: str) -> Spoil:
    return lambda bench: bench.board.missing.add(program)


def no_node(path: str) -> Spoil:
    return lambda bench: bench.board.devices.pop(str(bench.base / path))


STATS = "root/sys/dev/char/247:0"


def agent_pets(bench: Bench) -> None:
    """watchdog.device instead of RuntimeWatchdogSec."""
    bench.configure(("[console]", f'[watchdog]\ndevice = "{bench.base}/root/dev/watchdog0"\n[console]'))


def same_number(bench: Bench) -> None:
    bench.board.devices[str(bench.base / "b.img")] = ("block device", "179:1")


def overlapping(bench: Bench) -> None:
    bench.block("mmcblk0p2", "179:2", start=4096 + SLOT_SECTORS - 1, sectors=SLOT_SECTORS)


def whole_disk(bench: Bench) -> None:
    bench.board.devices[str(bench.base / "b.img")] = ("block device", "179:0")


def environment_in_slot(bench: Bench) -> None:
    bench.block("mmcblk0p2", "179:2", start=8, sectors=SLOT_SECTORS)


def crypted(number: str) -> Spoil:
    """The root file system is a mapping over that device (dm-verity)."""

    def spoil(bench: Bench) -> None:
        bench.write("root/sys/dev/block/254:0/slaves/sda/dev", f"{number}\n")
        mounts(" 179:1 / / ", " 254:0 / / ")(bench)

    return spoil


def disk_of_another_driver(bench: Bench) -> None:
    bench.board.devices[str(bench.base / "b.img")] = ("block device", "253:0")


def line_of_another_driver(bench: Bench) -> None:
    bench.board.devices[str(bench.base / "root/dev/ttyS1")] = ("character device", "207:1")


GRUB = config(
    "[boot]", '[boot]\nkind = "grub"\ngrub_editenv = "/none/grub-editenv"\ngrub_files = ["/none/x", "/none/y"]'
)

SPOILED: list[tuple[str, Spoil, str, str]] = [
    ("config.root", write("root.json", "{}"), "fault", "root.json: the root in the system image"),
    ("config.root", gone("root.json"), "fault", "root.json: No such file"),
    ("config.engineer", write("engineer-ca.pub", "garbage\n"), "fault", "no line of it is a public key"),
    ("config.engineer", gone("engineer-ca.pub"), "fault", "No such file.*nobody can unlock"),
    (
        "config.engineer",
        config("[console]", '[console]\nrevoked_file = "/none/revoked"'),
        "warning",
        "/none/revoked: .*nobody can unlock",
    ),
    ("config.version", write("os-release", "NAME=x\n"), "fault", "neither IMAGE_VERSION nor VERSION_ID"),
    (
        "config.programs",
        config("/bin/true", "/none/reboot"),
        "fault",
        "boot.reboot_command: /none/reboot does not exist",
    ),
    ("config.programs", config("/bin/true", "/etc/passwd"), "fault", "/etc/passwd is not executable"),
    ("config.programs", GRUB, "fault", "boot.grub_editenv: /none/grub-editenv does not exist"),
    (
        "config.programs",
        config("[boot]", '[boot]\nkind = "custom"\ncustom_command = ["/none/bootctl"]'),
        "fault",
        "boot.custom_command: /none/bootctl",
    ),
    (
        "config.programs",
        config('kind = "tcp"\nport = 4711', 'kind = "command"\ncommand = ["/opt/pos/test"]'),
        "fault",
        "self-test 'payment program answers': /opt/pos/test",
    ),
    (
        "config.selftests",
        config('[[selftest.checks]]\nname = "payment program answers"\nkind = "tcp"\nport = 4711\n', ""),
        "fault",
        "none",
    ),
    ("config.repository", config("https://updates.example.com/p400", ""), "warning", "is empty"),
    (
        "config.repository",
        config('repository_url = "https://', 'allow_http = true\nrepository_url = "http://'),
        "warning",
        "not https",
    ),
    ("config.support", config("vendor_key_file", "# vendor_key_file"), "warning", "is empty"),
    ("config.support", gone("vendor.pub.pem"), "fault", "vendor.pub.pem: No such file"),
    ("config.support", write("vendor.pub.pem", "garbage\n"), "fault", "is no X25519 public key"),
    ("config.support", write("vendor.pub.pem", "-----BEGIN PUBLIC KEY-----\nTUlJ\n"), "fault", "is no X25519"),
    ("boot.readable", gone("fw_env.config"), "fault", r"\[boot_env_missing\]"),
    ("boot.readable", places("{base}/uboot.env 0x0 0x2000"), "fault", r"\[boot_env_not_redundant\]"),
    ("boot.readable", config("[boot]", "[boot]\nrequire_redundant_env = false"), "warning", "lose the only copy"),
    ("boot.places", places("{base}/uboot.env 0x0 0x2000"), "fault", "names 1 place"),
    ("boot.places", places("{base}/uboot.env 0 0x2000", "{base}/uboot.env 0x1fff 0x2000"), "fault", "overlap"),
    ("boot.places", places("{base}/uboot.env 0 0x2000", "{base}/uboot.env 0x2000 0x1000"), "fault", "unequal size"),
    (
        "boot.places",
        environment_in_slot,
        "fault",
        r"0x0\+0x2000 lies inside slot b; .*0x2000\+0x2000 lies inside slot b",
    ),
    ("boot.copies", corrupt(100), "fault", r"uboot.env 0x0\+0x2000 has a wrong checksum"),
    ("boot.copies", corrupt(0x2000 + 100), "fault", r"uboot.env 0x2000\+0x2000 has a wrong checksum"),
    ("boot.copies", write("uboot.env", b""), "fault", "0x0.* wrong checksum; .*0x2000.* wrong checksum"),
    (
        "boot.copies",
        lambda bench: bench.environment("bootdelay=1\n", copies=1),
        "fault",
        "uboot.env 0x.* has no BOOT_ORDER",
    ),
    ("boot.booted", write("cmdline", "quiet\n"), "fault", "posagent.slot= must name one of a, b"),
    ("boot.booted", write("cmdline", "posagent.slot=a posagent.slot=b\n"), "fault", "once"),
    ("boot.order", environment("rescue", 3, 0), "fault", "names neither a nor b"),
    ("boot.order", environment("b", 0, 3), "fault", r"slot a runs and is not in the boot order \(b\)"),
    ("boot.order", environment("b a", 3, 3), "warning", "slot b is first"),
    ("boot.tries", environment("a", 7, 0), "fault", "slot a has 7 of 3"),
    ("boot.tries", environment("a b", 3, 0), "fault", "slot b is in the order without a try"),
    ("boot.fallback", both(environment("a b", 3, 3), write("b.img", bytes(8192))), "fault", "b.img is empty"),
    ("boot.fallback", both(environment("a b", 3, 3), lambda bench: bench.record(b="bad")), "fault", "slot b is bad"),
    ("boot.reset_word", write("cmdline", "posagent.slot=a posagent.reset=0x4\n"), "fault", "0x4 is none of power"),
    ("boot.reset_word", write("cmdline", "posagent.slot=a\n"), "warning", "does not say"),
    ("watchdog.present", gone("root/dev/watchdog0"), "fault", "there is no /dev/watchdog0"),
    ("watchdog.present", no_node("root/dev/watchdog0"), "fault", "is a file"),
    ("watchdog.owner", manager("0"), "fault", "nobody pets it"),
    ("watchdog.owner", agent_pets, "fault", "both want it"),
    ("watchdog.owner", opens(77, "watchdogd", "root/dev/watchdog0"), "fault", r"held by watchdogd \(77\)"),
    ("watchdog.owner", gone("root/proc/1/fd/3"), "fault", "systemd is to pet it, and nobody has it open"),
    (
        "watchdog.owner",
        both(manager("0"), agent_pets),
        "fault",
        r"posagentd is to pet it, but it is held by systemd \(1\)",
    ),
    ("watchdog.timeout", manager("2s"), "warning", "2 s; 10 to 300"),
    ("watchdog.timeout", write(f"{STATS}/max_timeout", "16\n"), "fault", "30 s is more than the 16 s"),
    (
        "watchdog.timeout",
        write(f"{STATS}/timeout", "15\n"),
        "fault",
        "petted every 15 s, and the driver waits for 15 s",
    ),
    ("watchdog.service", unit("posagentd.service", WatchdogUSec="0"), "fault", "has no WatchdogSec"),
    ("watchdog.service", config("[console]", "[watchdog]\nsystemd = false\n[console]"), "fault", "systemd will kill"),
    ("slots.exist", gone("b.img"), "fault", "slot b: .*b.img does not exist"),
    (
        "slots.exist",
        lambda bench: bench.board.devices.update({str(bench.base / "b.img"): ("directory", "")}),
        "fault",
        "is a directory",
    ),
    ("slots.apart", same_number, "fault", "mmcblk0 4096-8191, mmcblk0 4096-8191 overlap"),
    ("slots.apart", overlapping, "fault", "mmcblk0 4096-8191, mmcblk0 8191-12286 overlap"),
    ("slots.apart", whole_disk, "fault", "overlap"),
    ("slots.root", mounts(" 179:1 / / ", " 179:2 / / "), "fault", "names slot a, but slot b is mounted as /"),
    ("slots.root", crypted("179:2"), "fault", "names slot a, but slot b is mounted as /"),
    ("slots.root", mounts(" 179:1 / / ", " 0:2 / / "), "warning", "0:2, which is neither slot"),
    ("slots.spare", mounts(" 179:3 / ", " 179:2 / "), "fault", "mounted at .*/data"),
    ("slots.size", write("b.img", bytes(4096)), "fault", "the running image has 1048576"),
    ("slots.size", write("b.img", bytes(SLOT_SECTORS * 1024)), "warning", "need not fit"),
    ("slots.size", both(write("a.img", b""), write("b.img", b"")), "fault", "a: 0 bytes, b: 0 bytes"),
    ("slots.size", write("a.img", b"x" * SLOT_SECTORS * 512), "warning", "cannot be told"),
    ("slots.size", lambda bench: bench.record(size=1 << 30), "fault", "the running image has 1073741824"),
    (
        "units.devices",
        disk_of_another_driver,
        "fault",
        "installer.service lacks DeviceAllow=block-device-mapper rw for",
    ),
    (
        "units.devices",
        line_of_another_driver,
        "fault",
        "posagentd.service lacks DeviceAllow=char-ttymxc rw for .*ttyS1",
    ),
    ("units.devices", write("root/proc/devices", ""), "fault", "lacks DeviceAllow=block-[?] rw for .*a.img"),
    ("clock.sane", config("1700000000", "0"), "warning", "image_built_at is 0"),
    ("clock.sane", config("1700000000", "99999999999"), "fault", "the image is of"),
    ("clock.sane", config("1700000000", "5"), "fault", "the image is of 1970"),
    ("clock.rtc", gone("root/sys/class/rtc/rtc0/since_epoch"), "warning", "rtc0 cannot be read"),
    ("clock.rtc", write("root/sys/class/rtc/rtc0/since_epoch", "86400\n"), "warning", "rtc0 says 1970-01-02"),
    ("inhibitor.works", lambda bench: (bench.base / "root/run/systemd/seats").rmdir(), "fault", "seats does not exist"),
    ("inhibitor.works", gone("root/usr/bin/systemd-inhibit"), "fault", "systemd-inhibit does not exist"),
    ("inhibitor.works", missing("setpriv"), "fault", "setpriv --reuid=posagent .*: No such file"),
    ("units.installed", lambda bench: bench.board.units.pop("posagent-fetcher.socket"), "fault", "socket: not-found"),
    ("units.installed", a_fleet_without_its_socket, "fault", "fleet.socket: not-found"),
    ("units.installed", unit("posagent-trial@b.timer", UnitFileState="disabled"), "fault", "trial@b.timer: disabled"),
    ("units.installed", unit("posagent-installer.service", ActiveState="failed"), "fault", "installer.service: failed"),
    ("units.installed", unit("posagentd.service", ActiveState="activating"), "fault", "posagentd.service: activating"),
    ("units.programs", gone("root/usr/bin/posagentd"), "fault", "posagentd.service: /usr/bin/posagentd does not exist"),
    ("units.programs", gone("root/usr/bin/posagent-fetcher"), "fault", "/usr/bin/posagent-fetcher does not exist"),
    ("units.paths", config("/data/installer", "/data/elsewhere"), "fault", "trial@a.timer does not name .*/elsewhere"),
    ("units.paths", config("/data/spool", "/data/bundles"), "fault", "fetcher.service does not name .*/data/bundles"),
    ("units.paths", GRUB, "fault", "posagent-installer.service does not name /none"),
    (
        "units.timers",
        config("[boot]", '[boot]\ncmdline_key = "slot"'),
        "fault",
        "trial@a.timer asks for posagent.slot=a, not slot=a",
    ),
    ("units.sockets", gone("run/fetcher.sock"), "fault", "fetcher.sock is no socket"),
    ("units.sockets", mode("run/installer.sock", 0o666), "fault", "installer.sock is posagent's with mode 666"),
    ("units.sockets", owner("run/installer.sock", 0), "fault", "installer.sock is root's with mode 600"),
    ("units.sockets", unit("posagent-selftest.socket", ActiveState="inactive"), "fault", "selftest.socket: inactive"),
    ("users.exist", lambda bench: bench.board.users.pop("posagent-test"), "fault", "there is no user posagent-test"),
    ("users.exist", lambda bench: bench.board.users.pop("posagent-support"), "fault", "no user posagent-support"),
    ("users.exist", lambda bench: bench.board.users.update({"posagent-fetch": 0}), "fault", "posagent-fetch is root"),
    ("users.exist", lambda bench: bench.board.users.update({"posagent-fetch": 901}), "fault", "share an id"),
    ("users.groups", lambda bench: bench.board.groups.clear(), "warning", "there is no group posagent-admin"),
    (
        "users.payment",
        lambda bench: bench.board.groups.pop("posagent-payment"),
        "warning",
        "no group posagent-payment; nobody is in posagent-payment",
    ),
    ("users.payment", lambda bench: bench.board.grouped.clear(), "warning", "nobody is in posagent-payment: only root"),
    (
        "users.payment",
        lambda bench: bench.board.grouped.update({"posagent-admin": {"acme-pay"}}),
        "warning",
        "acme-pay may also install",
    ),
    ("window.daily_restart", config('"06:00"', '"06:50"'), "warning", "no window has 11 min for an update at 06:50"),
    ("window.daily_restart", config('["22:00-06:00"]', '["05:52-06:00"]'), "warning", "no window has 11 min"),
    ("places.owners", owner("data/spool", 901), "fault", "data/spool is posagent's, should be posagent-fetch's"),
    ("places.owners", mode("data/installer", 0o775), "fault", "data/installer has mode 775"),
    ("places.owners", config("/data/spool", "/data/none"), "fault", "data/none is no directory"),
    ("places.above", owner("data", 901), "fault", "data is posagent's with mode"),
    ("places.above", mode("data", 0o777), "fault", "data is root's with mode 777"),
    ("data.mounted", mounts("22 20 179:3", "x"), "fault", "data/posagent lies on the root file system"),
    ("data.mounted", mounts("179:3", "179:2"), "fault", "lies in slot b"),
    ("data.kind", mounts("ext4 /dev/mmcblk0p3", "tmpfs tmpfs"), "fault", "data/posagent is on tmpfs"),
    ("data.kind", mounts("ext4 /dev/mmcblk0p3", "bcachefs x"), "warning", "is on bcachefs, which was not tried"),
    ("data.options", mounts("data rw,noatime", "data ro,noatime"), "fault", "mounted read-only"),
    ("data.options", mounts("mmcblk0p3 rw", "mmcblk0p3 rw,nobarrier"), "fault", "without barriers"),
    ("data.options", mounts("data rw,noatime", "data rw"), "warning", "without noatime"),
    ("data.merchants", config('owner = "acme-pay"', ""), "fault", "data.owner is root"),
    ("data.merchants", lambda bench: bench.board.users.pop("acme-pay"), "fault", "there is no user acme-pay"),
    ("data.merchants", mounts("tmpfs tmpfs", "ext4 x"), "fault", "run/data, on ext4, lasts"),
    ("data.merchants", mounts("ext4 /dev/mmcblk0p3", "tmpfs x"), "fault", "data/merchant, on tmpfs, is no place"),
    ("data.merchants", mode("migrate.d/10-first", 0o777), "fault", "the step 10-first is root's with mode 777"),
    ("data.merchants", owner("migrate.d/10-first", 905), "fault", "the step 10-first is acme-pay's"),
    (
        "data.merchants",
        config("format = 1", 'format = 1\nparameters_schema = "/nowhere.json"'),
        "fault",
        "data.parameters_schema: there is no /nowhere.json",
    ),
    (
        "data.merchants",
        config("format = 1", 'format = 1\nreload_command = ["/nowhere/systemctl", "reload"]'),
        "fault",
        "data.reload_command: there is no /nowhere/systemctl",
    ),
    (
        "units.paths",
        config("/data/merchant", "/data/merchants"),
        "fault",
        "data.service does not name .*/data/merchants",
    ),
    ("data.room", config("[power]", "keep_free_bytes = 1099511627776\n[power]"), "fault", "may have 0 bytes"),
    ("data.room", lambda bench: bench.record(size=1 << 50), "warning", "the running image has 1125899906842624"),
    ("power.gates", gone("power/battery/type"), "fault", "no battery of the terminal is seen.*pinpad: a peripheral's"),
    ("power.gates", gone("power/battery/capacity"), "fault", "capacity is not shown.*battery, [?] %"),
    ("power.gates", config("[power]", '[power]\nbattery = "none"'), "warning", "a battery is seen"),
    ("power.gates", both(gone("power/ac/type"), gone("power/battery/status")), "warning", "neither a charger nor"),
    ("power.gates", config("/power", "/none"), "fault", "none shows no supply"),
    ("console.inbox", owner("data/spool/inbox", 902, 902), "fault", "has the group 902, should be posagent-inbox's"),
    ("console.inbox", mode("data/spool/inbox", 0o770), "fault", "has mode 770, needs 2770"),
    ("console.inbox", config("/data/spool", "/data/none"), "fault", "none/inbox is no directory"),
    ("console.device", gone("root/dev/ttyS1"), "fault", "ttyS1 does not exist"),
    ("console.device", no_node("root/dev/ttyS1"), "fault", "ttyS1 is a file"),
    ("console.device", mode("root/dev/ttyS1", 0o600), "fault", "mode 600 and group 20: the agent may not open it"),
    ("console.device", owner("root/dev/ttyS1", 0, 5), "fault", "group 5: the agent may not open it"),
    (
        "console.free",
        write("root/proc/consoles", "ttyS1   -W- (EC p a)    4:65\n"),
        "fault",
        "also the kernel's console",
    ),
    (
        "console.free",
        lambda bench: bench.board.units.update({"serial-getty@ttyS1.service": {"ActiveState": "active"}}),
        "fault",
        "serial-getty@ttyS1.service is active",
    ),
    ("console.free", opens(88, "agetty", "root/dev/ttyS1"), "fault", r"agetty \(88\) has it open"),
]


@pytest.mark.parametrize(
    ("check", "spoil", "level", "said"),
    SPOILED,
    ids=[f"{check}-{re.sub(r'[^a-z0-9]+', '-', said.lower())[:30]}" for check, _, _, said in SPOILED],
)
def test_a_spoiled_board_is_found(bench: Bench, check: str, spoil: Spoil, level: str, said: str) -> None:
    spoil(bench)
    found = bench.look(check)
    assert (found.check, found.level) == (check, level), found.detail
    assert re.search(said, found.detail), found.detail
