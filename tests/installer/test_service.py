"""The installer put together: real bundles, the real boot environment, slots in files; it believes nobody."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent import config as configuration
from posagent import wire
from posagent.core.errors import PosagentError
from posagent.installer.service import Installer, linux_ports
from posagent.platform.boot import running_version
from tests.installer.store import WallClock
from tests.platform import grub, vendor
from tests.platform.uboot import make_environment
from tests.release.desk import DAY_S, NOW_S, Desk, pack, unpack

pytestmark = pytest.mark.real
SLOT_BYTES = 4 << 20

CONFIG = """\
[terminal]
id = "pos-1"
hardware = "sim-pos"
state_dir = "{root}/state"
installer_dir = "{root}/state/installer"
run_dir = "{root}/run"
os_release_file = "{root}/os-release"
[slots.a]
device = "{root}/a.img"
[slots.b]
device = "{root}/b.img"
[boot]
env_config = "{root}/fw_env.config"
cmdline_file = "{root}/cmdline"
reboot_command = ["/bin/touch", "{root}/rebooted"]
[trust]
root_file = "{root}/root.json"
rollback_floor = 2
[fetch]
spool_dir = "{root}/spool"
"""


class Terminal:
    """A terminal in a directory; `ask` as the agent would."""

    def __init__(self, root: Path, desk: Desk) -> None:
        self.root = root
        make_environment(root)
        (root / "root.json").write_bytes(desk.first_root)
        (root / "os-release").write_text('ID=pos\nIMAGE_VERSION="1.0.0"\n')
        (root / "spool").mkdir()
        self.config_file = root / "posagent.toml"
        self.config_file.write_text(CONFIG.format(root=root))
        self.config = configuration.load(str(self.config_file))
        self.bundle = str(root / "spool/x.bundle")
        self.slot = root / "b.img"
        self.slot.write_bytes(b"\xee" * SLOT_BYTES)
        (root / "a.img").write_bytes(b"\xaa" * SLOT_BYTES)

    def ask(self, verb: str, *, wall_s: float = NOW_S, **args: Any) -> dict[str, Any]:
        """The result of a verb, by a fresh installer."""
        ports = dataclasses.replace(linux_ports(self.config), clock=WallClock(wall_s), apart=lambda work: work)
        *told, last = Installer(self.config, ports).verbs[verb](args)
        assert all("progress" in message for message in told)
        result: dict[str, Any] = last["result"]
        return result

    def refusal(self, verb: str, **args: Any) -> str:
        with pytest.raises(PosagentError) as caught:
            self.ask(verb, **args)
        return caught.value.code

    def write(self) -> None:
        self.ask("write", bundle=self.bundle, slot="b", update_id="u1")

    def reboot_into(self, slot: str) -> None:
        (self.root / "cmdline").write_text(f"posagent.slot={slot}")


@pytest.fixture
def terminal(tmp_path: Path, desk: Desk, good: bytes) -> Terminal:
    made = Terminal(tmp_path, desk)
    Path(made.bundle).write_bytes(desk.build(5, security_counter=3))
    return made


def test_a_whole_update_verb_by_verb(terminal: Terminal, desk: Desk) -> None:
    checked = terminal.ask("check", bundle=terminal.bundle)
    image = desk.image.read_bytes()
    assert (checked["version"], checked["image_size"], checked["security_counter"]) == ("1.2.3", len(image), 3)
    assert checked["target_slot"] == "b"
    assert terminal.slot.read_bytes() == b"\xee" * SLOT_BYTES
    terminal.write()
    assert terminal.slot.read_bytes() == image.ljust(SLOT_BYTES, b"\xee")
    terminal.ask("arm", slot="b")
    terminal.ask("reboot")
    assert (terminal.root / "rebooted").exists()
    terminal.reboot_into("b")
    seen = terminal.ask("observe")
    assert (seen["booted"], seen["order"], seen["slots"]["b"]["unconfirmed"]) == ("b", ["b", "a"], True)
    assert seen["slots"]["b"]["digest"] == checked["digest"]
    terminal.ask("mark_good")
    seen = terminal.ask("observe")
    assert (seen["slots"]["b"]["state"], seen["floor"]) == ("good", 2), "the commit is not journalled yet"
    terminal.ask("refresh")
    assert terminal.ask("observe")["floor"] == 3
    assert (terminal.root / "a.img").read_bytes() == b"\xaa" * SLOT_BYTES
    assert sorted(path.name for path in (terminal.root / "state/installer").iterdir()) == [
        "floor-copy.json",
        "floor.json",
        "reset.json",
        "slots.json",
        "trust",
    ]


@pytest.mark.parametrize("kind", ["grub", "custom"])
def test_a_slot_is_written_and_armed_with_every_kind_of_bootloader(terminal: Terminal, kind: str) -> None:
    boot, _ = grub.make_environment(terminal.root) if kind == "grub" else vendor.make_program(terminal.root)
    terminal.config = dataclasses.replace(terminal.config, boot=boot)
    assert terminal.ask("observe")["order"] == ["a"]
    terminal.write()
    terminal.ask("arm", slot="b")
    seen = terminal.ask("observe")
    assert (seen["order"], seen["slots"]["b"]["tries_left"]) == (["b", "a"], boot.tries_full)


def test_the_factory_version_comes_from_the_running_system(terminal: Terminal) -> None:
    assert terminal.ask("observe")["slots"]["a"]["version"] == "1.0.0"
    (terminal.root / "os-release").write_text("VERSION_ID=12\n")
    assert running_version(str(terminal.root / "os-release")) == "12"
    assert running_version("/none") == ""


# every verb that opens a bundle decides for itself


def both(terminal: Terminal) -> set[str]:
    """The codes with which `check` and `write` refuse the bundle; the slot is untouched."""
    codes = {
        terminal.refusal("check", bundle=terminal.bundle),
        terminal.refusal("write", bundle=terminal.bundle, slot="b", update_id="u1"),
    }
    assert terminal.slot.read_bytes() == b"\xee" * SLOT_BYTES
    return codes


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"security_counter": 1}, "counter_too_low"),
        ({"compatible": ["other-pos"]}, "wrong_hardware"),
        ({"min_hw_rev": 1}, "wrong_hardware"),
        ({"now_s": NOW_S - 400 * DAY_S}, "repository_expired"),
    ],
)
def test_a_signed_bundle_that_is_not_for_this_terminal_now_is_refused(
    terminal: Terminal, desk: Desk, words: dict[str, Any], code: str
) -> None:
    Path(terminal.bundle).write_bytes(desk.build(5, **{"security_counter": 3, **words}))
    assert both(terminal) == {code}


def test_a_bundle_of_another_desk_is_refused(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Desk(tmp_path_factory.mktemp("other"))
    Path(terminal.bundle).write_bytes(other.build(5, security_counter=3))
    assert both(terminal) == {"signature_invalid"}


def test_a_bundle_that_is_none_is_refused(terminal: Terminal) -> None:
    Path(terminal.bundle).write_bytes(b"hello")
    assert both(terminal) == {"bundle_unreadable"}
    Path(terminal.bundle).unlink()
    assert both(terminal) == {"bundle_unreadable"}
    Path(terminal.bundle).symlink_to("/etc/passwd")
    assert both(terminal) == {"bundle_unreadable"}


@pytest.mark.parametrize("path", ["/etc/passwd", "{root}/spool/../a.img", "{root}/outside", "relative"])
def test_a_bundle_outside_the_spool_is_refused(terminal: Terminal, path: str) -> None:
    Path(terminal.bundle).rename(terminal.root / "outside")
    terminal.bundle = path.format(root=terminal.root)
    assert both(terminal) == {"bundle_unreadable"}


def test_a_changed_payload_is_refused_by_check_and_never_completed(terminal: Terminal) -> None:
    parts = unpack(Path(terminal.bundle).read_bytes())
    name = next(name for name in parts if name.startswith("targets/"))
    data = bytearray(parts[name])
    data[-1] ^= 1
    Path(terminal.bundle).write_bytes(pack({**parts, name: bytes(data)}))
    assert terminal.refusal("check", bundle=terminal.bundle) == "payload_corrupt"
    assert terminal.refusal("write", bundle=terminal.bundle, slot="b", update_id="u") == "payload_corrupt"
    assert terminal.refusal("arm", slot="b") == "slot_not_complete"
    assert terminal.ask("observe")["order"] == ["a"]


def test_what_cannot_be_installed_here_is_known_at_the_check(terminal: Terminal) -> None:
    terminal.slot.write_bytes(bytes(1 << 20))
    assert terminal.refusal("check", bundle=terminal.bundle) == "slot_too_small"
    terminal.slot.unlink()
    assert terminal.refusal("check", bundle=terminal.bundle) == "slot_missing"


def test_a_missing_root_of_trust_is_not_taken_for_trust(terminal: Terminal) -> None:
    (terminal.root / "root.json").unlink()
    assert both(terminal) == {"trust_store_damaged"}


def test_the_running_slot_is_not_written_whatever_the_agent_says(terminal: Terminal) -> None:
    args = {"bundle": terminal.bundle, "slot": "a", "update_id": "u"}
    assert terminal.refusal("write", **args) == "slot_is_booted"
    assert (terminal.root / "a.img").read_bytes() == b"\xaa" * SLOT_BYTES


@pytest.mark.parametrize(
    "args", [{}, {"slot": 1}, {"slot": ""}, {"slot": ["b"]}, {"slot": "b\n"}, {"slot": "b" * 5000}]
)
def test_words_that_are_none_are_refused(terminal: Terminal, args: dict[str, Any]) -> None:
    for verb in ("arm", "mark_bad", "write", "check"):
        assert terminal.refusal(verb, **args) == "bad_request"


def test_a_terminal_that_cannot_restart_says_which_command_failed(terminal: Terminal) -> None:
    text = terminal.config_file.read_text().replace("/bin/touch", "/none/reboot")
    terminal.config = configuration.parse(text)
    with pytest.raises(PosagentError, match=r"reboot_failed: /none/reboot .*: No such file"):
        terminal.ask("reboot")


# as a process


@pytest.fixture
def process(terminal: Terminal) -> Iterator[str]:
    """The installer, started through its socket as systemd would; the socket's path."""
    path = f"/tmp/pos-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        Path(path).unlink(missing_ok=True)
        listener.bind(path)
        listener.listen(4)
        words = [sys.executable, "-m", "posagent.installer.service", "--config", str(terminal.config_file)]
        child = subprocess.Popen(
            ["/bin/bash", "-c", f"exec 3<&{listener.fileno()}; exec {shlex.join(words)}"],
            pass_fds=(listener.fileno(),),
            env={**os.environ, "LISTEN_FDS": "1"},
        )
        yield path
        child.kill()
        child.wait()
    Path(path).unlink()


def test_the_process_answers_over_its_socket(process: str, terminal: Terminal) -> None:
    assert wire.call(process, "observe", {})["booted"] == "a"
    with pytest.raises(PosagentError, match="slot_is_booted"):
        wire.call(process, "arm", {"slot": "a"})
    with pytest.raises(PosagentError, match="unknown_verb"):
        wire.call(process, "format", {})
    wire.call(process, "mark_good", {})


LIGHT = """
import json, sys
from posagent import config
from posagent.installer.service import Installer, linux_ports
loaded = config.load(sys.argv[1])
verbs = Installer(loaded, linux_ports(loaded)).verbs
for verb in ("observe", "mark_good"):
    list(verbs[verb]({}))
weighty = ("tuf", "cryptography", "backports.zstd", "structlog", "asyncio", "ssl")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss survives an exec
print(json.dumps([[name for name in weighty if name in sys.modules], int(peak.split()[1]) / 1024]))
"""


def test_what_needs_no_bundle_stays_light(terminal: Terminal) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(terminal.config_file)], capture_output=True, check=True, timeout=30
    )
    heavy, rss_mib = json.loads(done.stdout)
    assert heavy == []
    assert rss_mib < 25


def test_signatures_are_checked_in_a_process_that_gives_its_memory_back(terminal: Terminal) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECKED, str(terminal.config_file), terminal.bundle],
        capture_output=True,
        check=True,
        timeout=60,
    )
    heavy, version = json.loads(done.stdout)
    assert (heavy, version) == ([], "1.2.3")


CHECKED = """
import json, sys
from posagent import config
from posagent.installer.service import Installer, linux_ports
loaded = config.load(sys.argv[1])
*_, last = Installer(loaded, linux_ports(loaded)).verbs["check"]({"bundle": sys.argv[2]})
print(json.dumps([[name for name in ("tuf", "cryptography", "structlog", "ssl") if name in sys.modules],
    last["result"]["version"]]))
"""
