"""What the README and docs tell a newcomer to type works as written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from posagent import config_selftest
from posagent.config import BootConfig, SlotConfig, SlotsConfig, parse
from posagent.core.ports import BootState
from posagent.platform.grub import GrubBootControl
from tests.conftest import Desk
from tests.selftest.bench import check, result
from tests.selftest.other_side import payment_application

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


def test_the_self_test_page_has_every_kind_in_its_suite_and_its_example_can_be_used() -> None:
    text = (ROOT / "docs/selftest.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0].lower(): part for part in text.split("\n## ")[1:]}
    for suite in config_selftest.SUITES:
        described = re.findall(r"^\| `(\w+)` \|", sections[suite], re.MULTILINE)
        assert described == [kind for kind, spec in config_selftest.KINDS.items() if spec.suite == suite]
    [example] = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    slots = '[terminal]\nid = "x"\nhardware = "x"\n[slots.a]\ndevice = "/a"\n[slots.b]\ndevice = "/b"\n'
    tests = parse(slots + example, "docs/selftest.md").selftest
    assert tests.asks_installer and tests.compares and tests.tests_daily
    assert set(config_selftest.INTERFACES) <= set(re.findall(r"`(\w+)`", sections["security"]))


def test_the_self_test_page_speaks_the_protocol_that_is_spoken(short_path: Path) -> None:
    section = (
        (ROOT / "docs/selftest.md").read_text(encoding="utf-8").partition("\n## The payment application's side\n")[2]
    )
    asked, answered = re.findall(r"^(\{.*\})$", section, re.MULTILINE)
    with payment_application(short_path / "pay", lambda _: answered.encode() + b"\n") as heard:
        assert result(check("payment", path=str(short_path / "pay")))["passed"]
    assert heard == [json.loads(asked)]
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert set(config_selftest.PAYMENT_TESTS) <= set(named)


@pytest.mark.real
def test_the_self_test_page_has_kernel_and_parameters_approved(tmp_path: Path, desk: Desk) -> None:
    [script] = blocks("docs/selftest.md")["Security"]
    (tmp_path / "rootfs.ext4").write_bytes(desk.images["2.0.0"].read_bytes())
    for name in ("zImage", "emv.json"):
        (tmp_path / name).write_text(name)
    type_in(script.replace("/tmp/keys", str(desk.keys)), tmp_path)
    shown = json.loads(type_in("posagent-release bundle show --json 2.0.0.bundle", tmp_path))
    digests = {
        name: hashlib.sha256(file.encode()).hexdigest()
        for name, file in (("kernel", "zImage"), ("parameters", "emv.json"))
    }
    assert shown["result"]["manifests"][0]["approved"] == digests


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
