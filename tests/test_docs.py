"""What the README and docs tell a newcomer to type works as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from posagent.config import BootConfig, SlotConfig, SlotsConfig
from posagent.core.ports import BootState
from posagent.platform.grub import GrubBootControl
from tests.conftest import Desk

ROOT = Path(__file__).parent.parent


def blocks(page: str) -> dict[str, list[str]]:
    """Shell blocks by the heading they stand under."""
    found: dict[str, list[str]] = {}
    heading = ""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in re.finditer(r"^#+ ([^\n]+)$|^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        else:
            found.setdefault(heading, []).append(match[2])
    return found


def type_in(script: str, where: Path, given: str | None = None) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=where,
        env={**os.environ, "PATH": path, "LANG": "C.UTF-8"},
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.real
def test_the_readme_shows_a_terminal_by_hand(short_path: Path) -> None:
    [script] = blocks("README.md")["Try it by hand"]
    said = type_in(script.replace("$PWD/.venv/bin:", "").replace("/tmp/terminal", f"{short_path}/terminal"), ROOT)
    assert "Put the terminal on its charger." in said


@pytest.mark.real
def test_the_readme_releases_a_version(tmp_path: Path, desk: Desk) -> None:
    [script] = blocks("README.md")["Release a version"]
    (tmp_path / "rootfs.ext4").write_bytes(desk.images["2.0.0"].read_bytes())
    type_in(script.replace("/tmp/keys", "keys").replace("/srv/repository", "repository"), tmp_path)
    assert (tmp_path / "repository/channels/stable.json").exists()
    assert (tmp_path / "keys/root.json").exists()


@pytest.mark.real
def test_the_console_page_certifies_and_signs(tmp_path: Path, desk: Desk) -> None:
    certify, sign = blocks("docs/console.md")["Unlocking"]
    for name in ("engineer-ca", "engineer-ca.pub"):
        (tmp_path / name).write_bytes((desk.keys / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    type_in("ssh-keygen -q -t ed25519 -N '' -f engineer\n" + certify, tmp_path)
    assert "BEGIN SSH SIGNATURE" in type_in(sign, tmp_path)


@pytest.mark.real
def test_the_boot_page_makes_and_repairs_grubs_environment(tmp_path: Path) -> None:
    [script] = blocks("docs/boot/README.md")["GRUB"]
    files = tuple(str(tmp_path / name) for name in ("grubenv", "grubenv2"))
    slots = SlotsConfig(a=SlotConfig(device="/a"), b=SlotConfig(device="/b"))
    boot = GrubBootControl(BootConfig(kind="grub", grub_files=files), slots)
    for damage in (None, b"\xff" * 1024):
        if damage is not None:
            for path in files:
                Path(path).write_bytes(damage)
        type_in(script.replace("/boot/grub", str(tmp_path)), tmp_path)
        boot.write(boot.read())
        assert boot.read() == BootState(order=("a",), tries={"a": 3, "b": 0})


def test_the_integrators_page_names_every_unit_and_file_that_is_installed(tmp_path: Path) -> None:
    page = blocks("docs/integrating.md")
    copy, link = page["4. The package"]
    places = [line.split()[-2:] for line in copy.splitlines() if line.startswith("cp ")]
    for source, _ in places:
        assert list(ROOT.glob(source)), source
    assert {path.parent.name for path in (ROOT / "systemd").glob("*/*")} == {
        source.split("/")[1] for source, _ in places if source.count("/") == 2
    }
    (tmp_path / "local").mkdir()
    (tmp_path / "bin").mkdir()
    type_in(link.replace("/usr/local/bin", f"{tmp_path}/local").replace("/usr/bin", f"{tmp_path}/bin"), ROOT)
    [enable] = page["5. Users, directories, units"]
    units = {path.name for path in (ROOT / "systemd").glob("posagent*") if "[Install]" in path.read_text()}
    assert {word.replace("@a", "@").replace("@b", "@") for word in enable.split() if "posagent" in word} == units
    programs = {
        line.partition(" ")[0].rpartition("/")[2]
        for path in (ROOT / "systemd").glob("*.service")
        for line in path.read_text().splitlines()
        if line.startswith("ExecStart=/usr/bin/")
    }
    assert programs <= {path.name for path in (tmp_path / "bin").iterdir()}


def test_every_file_the_pages_link_to_exists() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), ROOT / "hil/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_path_named_in_how_it_works_exists() -> None:
    text = (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:posagent/)?(?:core|agent|fetcher|installer|selftest)/\w+\.py)`", text):
        assert (ROOT / "posagent" / path.removeprefix("posagent/")).exists(), path


def test_every_make_target_the_pages_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), ROOT / "hil/README.md"):
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"
