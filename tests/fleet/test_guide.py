"""The guide of docs/fleet.md, as it stands, against the real hawkBit: what a newcomer types, and what comes of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import picture
from tests.fleet.hawkbit import jar, lacks

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/fleet.md"
GUIDE = Path("/tmp/guide")
GUIDE_S = 600
OUT = Path("build/rollout.svg")


def blocks() -> list[str]:
    return re.findall(r"<!-- guide -->\n```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def place() -> Iterator[None]:
    shutil.rmtree(GUIDE, ignore_errors=True)
    yield
    for shop in GUIDE.glob("shop-*"):
        subprocess.run(["posagent-sim", "down", shop], capture_output=True, check=False, env=environment())
    shutil.rmtree(GUIDE, ignore_errors=True)


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}", "HAWKBIT_JAR": str(jar())}


@pytest.mark.usefixtures("place")
def test_a_fleet_from_zero() -> None:
    if why := lacks():
        pytest.skip(why)
    for tool in ("curl", "jq"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    *most, off = blocks()
    script = "\n".join(
        ["set -eu", *most, "hawkbit GET 'targets?sort=id:ASC' >/tmp/guide/targets.json", picture.COLLECT, off]
    )
    with subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as shell:
        try:
            said, _ = shell.communicate(timeout=GUIDE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # the server is its child
    assert shell.returncode == 0, said
    assert "2.0.0 committed" in said
    assert "3.0.0 rolled back" in said
    assert re.search(r"^error$", said, re.MULTILINE)
    OUT.parent.mkdir(exist_ok=True)
    picture.draw(GUIDE, OUT)
    assert all(f"shop-{number}" in OUT.read_text() for number in range(1, 5))
