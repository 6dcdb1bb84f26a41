"""The systemd units are what systemd understands, and name programs that exist."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_every_program_in_the_units_is_an_entry_point() -> None:
    setup = (UNITS.parent / "setup.cfg").read_text()
    for unit in UNITS.glob("posagent*.service"):
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart=/usr/bin/posagent"):
                assert f"{line.removeprefix('ExecStart=/usr/bin/')} = posagent." in setup
