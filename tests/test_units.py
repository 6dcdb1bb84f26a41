"""The systemd units are what systemd understands, and name programs that exist."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from posagent.config import FetchConfig
from posagent.platform.media import bundles

UNITS = Path(__file__).parent.parent / "systemd"


@pytest.mark.real
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    assert tool is not None, "make deps installs systemd"
    programs = Path(sys.executable).parent
    for unit in UNITS.glob("posagent*"):
        text = unit.read_text().replace("ExecStart=/usr/bin/posagent", f"ExecStart={programs}/posagent")
        (tmp_path / unit.name).write_text(text)
    names = [f"{path.stem}a{path.suffix}" if "@" in path.name else path.name for path in sorted(tmp_path.iterdir())]
    result = subprocess.run(
        [tool, "verify", *names],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if "posagent" in line]
    assert (result.returncode, ours) == (0, [])


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which only root may")
def test_every_start_makes_the_directories_and_complains_of_none(tmp_path: Path) -> None:
    """systemd-tmpfiles does not go on from one user's directory into another's."""
    for name in ("etc", "run", "var/lib"):
        (tmp_path / name).mkdir(parents=True)
    for tool, file in (("sysusers", "posagent.conf"), ("tmpfiles", "posagent.conf"), ("tmpfiles", "posagent.conf")):
        words = [f"systemd-{tool}", f"--root={tmp_path}", *(["--create"] if tool == "tmpfiles" else [])]
        done = subprocess.run([*words, str(UNITS / f"{tool}.d" / file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "unsafe" not in done.stderr, done.stderr
    inbox = (tmp_path / "var/lib/posagent-spool/inbox").stat()
    assert (inbox.st_mode & 0o7777, inbox.st_uid) == (0o2770, (tmp_path / "var/lib/posagent-spool").stat().st_uid)
    for unit in ("posagentd", "posagent-fetcher"):
        (groups,) = [
            line for line in (UNITS / f"{unit}.service").read_text().splitlines() if "SupplementaryGroups" in line
        ]
        assert "posagent-inbox" in groups


@pytest.mark.parametrize("name", ["installer", "fetcher", "selftest", "support", "data", "fleet"])
def test_a_worker_that_crashes_again_and_again_is_started_again_and_again_but_not_at_once(name: str) -> None:
    service = (UNITS / f"posagent-{name}.service").read_text().splitlines()
    listener = (UNITS / f"posagent-{name}.socket").read_text().splitlines()
    assert "StartLimitIntervalSec=0" in service[: service.index("[Service]")]
    assert "TriggerLimitIntervalSec=0" in listener[listener.index("[Socket]") :]
    (pause,) = [line for line in service if line.startswith("ExecStopPost=")]
    script = pause.partition("'")[2].rstrip("'").replace("$$", "$").replace("sleep 2", "echo paused")
    for result, paused in (("success", ""), ("exit-code", "paused\n"), ("signal", "paused\n"), ("", "paused\n")):
        environment = {"PATH": "/usr/bin:/bin", "SERVICE_RESULT": result}
        done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
        assert done.stdout == paused, result


def test_every_program_in_the_units_is_an_entry_point() -> None:
    setup = (UNITS.parent / "setup.cfg").read_text()
    for unit in UNITS.glob("posagent*.service"):
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart=/usr/bin/posagent"):
                assert f"{line.removeprefix('ExecStart=/usr/bin/').split()[0]} = posagent." in setup


def _commands(unit: str, kind: str) -> list[str]:
    """The command lines of one kind, without systemd's prefixes."""
    lines = (UNITS / unit).read_text().splitlines()
    return [line.removeprefix(f"{kind}=").lstrip("-") for line in lines if line.startswith(f"{kind}=")]


def _run_all(kinds: tuple[str, ...], device: str, place: Path) -> None:
    for kind in kinds:
        for command in _commands("posagent-media@.service", kind):
            here = command.replace("/run/posagent-media/%i", str(place)).replace("%i", device)
            subprocess.run(shlex.split(here), check=True, capture_output=True)


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="mounts a loop device")
def test_a_stick_is_mounted_so_that_nothing_on_it_can_be_run_or_changed_and_is_gone_when_it_is_pulled(
    tmp_path: Path,
) -> None:
    stick, place, content = tmp_path / "stick", tmp_path / "media" / "stick", tmp_path / "content"
    content.mkdir()
    (content / "2.0.0.bundle").write_bytes(b"bundle")
    subprocess.run(["mkfs.ext4", "-q", "-d", str(content), str(stick), "4M"], check=True)
    made = subprocess.run(["losetup", "-f", "--show", str(stick)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    device = made.stdout.strip()
    try:
        _run_all(("ExecStartPre", "ExecStart"), device.removeprefix("/dev/"), place)
        (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place} " in line]
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
        assert bundles(str(place.parent)) == [f"{place}/2.0.0.bundle"]
        with pytest.raises(OSError, match="Read-only"):
            (place / "new").write_bytes(b"")
        assert subprocess.run(["mount", "-o", "remount,rw", str(place)], capture_output=True, check=False).returncode
        _run_all(("ExecStop", "ExecStopPost"), device.removeprefix("/dev/"), place)
        assert not place.exists() and bundles(str(place.parent)) == []
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
        # a stick takes that with it when it is pulled; of a loop device it would stay for whoever uses it next
        subprocess.run(["blockdev", "--setrw", device], check=True)
        subprocess.run(["losetup", "-d", device], check=True)


def test_a_stick_that_is_plugged_in_starts_its_unit() -> None:
    (rule,) = [line for line in (UNITS / "udev/90-posagent-media.rules").read_text().splitlines() if line[0] != "#"]
    assert 'ENV{ID_BUS}=="usb"' in rule and 'TAG+="systemd"' in rule
    assert 'ENV{SYSTEMD_WANTS}+="posagent-media@%k.service"' in rule
    assert "d     /run/posagent-media " in (UNITS / "tmpfiles.d/posagent.conf").read_text()
    assert FetchConfig().media_dir == "/run/posagent-media"
