"""Migration steps are programs of the image: run as the data's owner, bounded, and gone when it is over."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import pytest

from posagent.core.ports import StepRun
from posagent.platform.host import LinuxClock
from posagent.platform.steps import LinuxSteps
from tests.planted import CARDS

pytestmark = pytest.mark.real
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="runs programs as another user, which only root may")


class Image:
    """One with steps, and a directory of data to run them in."""

    def __init__(self, base: Path) -> None:
        self.steps, self.data = base / "migrate.d", base / "data"
        self.steps.mkdir()
        self.data.mkdir()

    def step(self, name: str, script: str, mode: int = 0o755) -> None:
        path = self.steps / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)

    def run(self, *, owner: str = "", timeout_s: float = 60) -> list[StepRun]:
        steps = LinuxSteps(str(self.steps), owner=owner, timeout_s=timeout_s, clock=LinuxClock())
        return [run for run in steps.run(str(self.data), 1, 2) if run.ended]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def gone(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 30)[0])
    finally:
        os.close(process)


def test_steps_run_in_the_order_of_their_names_in_the_data_with_both_formats(image: Image) -> None:
    image.step("20-second", "echo $1 $2 >> order; exit 1")
    image.step("10-first", "pwd > where; echo first >> order; echo done")
    image.step("README", "exit 9", mode=0o644)
    image.step(".hidden", "exit 9")
    assert [(one.name, one.code, one.said) for one in image.run()] == [("10-first", 0, "done"), ("20-second", 1, "")]
    assert (image.data / "order").read_text() == "first\n1 2\n"
    assert (image.data / "where").read_text().strip() == str(image.data)


def test_an_image_without_steps_has_none(image: Image) -> None:
    image.steps.rmdir()
    assert image.run() == []


def test_a_step_gets_nothing_of_our_environment_and_no_input(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    image.step("10-env", "env > environment; cat > input; umask > mask; ulimit -c > core")
    assert image.run()[0].code == 0
    assert "hunter2" not in (image.data / "environment").read_text()
    assert (image.data / "input").read_text() == ""
    assert (image.data / "mask").read_text().strip() == "0077" and (image.data / "core").read_text() == "0\n"


def test_a_step_that_hangs_is_killed_with_what_it_started(image: Image) -> None:
    image.step("10-hangs", "sleep 600 & echo $! > pid; wait")
    (run,) = image.run(timeout_s=3)
    assert (run.code, run.trouble) == (None, "no end after 3 s")
    assert gone(int((image.data / "pid").read_text()))


def test_what_a_step_leaves_running_is_killed_when_it_ends(image: Image) -> None:
    image.step("10-leaves", "sleep 600 & echo $! > pid")
    (run,) = image.run()
    assert (run.code, run.trouble) == (0, "")
    assert gone(int((image.data / "pid").read_text()))


@pytest.mark.parametrize("ending", ["", "; sleep 600"])
def test_what_a_step_leaves_in_a_session_of_its_own_is_killed_too(image: Image, ending: str) -> None:
    script = "trap '' TERM HUP; echo $$ > pid; (echo started > started; exec sleep 600) & echo $! > inner; wait"
    image.step(
        "10-leaves",
        f'setsid sh -c "{script.replace("$", chr(92) + "$")}" > log 2>&1 &\nwhile ! test -s inner; do :; done{ending}',
    )
    (run,) = image.run(timeout_s=3)
    assert (run.code, run.trouble) == ((None, "no end after 3 s") if ending else (0, ""))
    assert gone(int((image.data / "pid").read_text())) and gone(int((image.data / "inner").read_text()))


def test_what_others_have_started_lives_on(image: Image) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as other:
        image.step("10-does", "true")
        assert image.run()[0].code == 0 and other.poll() is None


def test_a_step_that_closes_its_output_is_waited_for(image: Image) -> None:
    image.step("10-quiet", "exec >&- 2>&-; sleep 0.3; touch done")
    assert image.run()[0].code == 0 and (image.data / "done").exists()


def test_of_a_flood_of_output_the_end_is_kept(image: Image) -> None:
    image.step("10-floods", "yes water | head -c 3000000; echo the end; exit 3")
    (run,) = image.run()
    assert run.code == 3 and run.said.endswith("the end") and len(run.said) <= 500


def test_what_a_step_says_is_redacted(image: Image) -> None:
    image.step("10-says", f"echo card {CARDS[0]} password=hunter2")
    said = image.run()[0].said
    assert CARDS[0] not in said and "hunter2" not in said and said.startswith("card [card]")


def test_a_card_number_in_pieces_is_one_too(image: Image) -> None:
    image.step(
        "10-says", f"printf 'card\\t%s\\t%s\\n%s\\n%s' {' '.join(CARDS[0][at : at + 4] for at in (0, 4, 8, 12))}"
    )
    said = image.run()[0].said
    assert said == "card [card]"


def test_a_step_that_cannot_be_started_or_is_killed_says_so(image: Image) -> None:
    (image.steps / "10-broken").write_bytes(b"\0\0")
    (image.steps / "10-broken").chmod(0o755)
    image.step("20-killed", "kill -9 $$")
    broken, killed = image.run()
    assert "cannot be started" in broken.trouble and killed.trouble == "killed by signal 9"


def test_who_stops_listening_stops_the_step(image: Image) -> None:
    image.step("10-hangs", "echo $$ > pid; exec sleep 600")
    steps = LinuxSteps(str(image.steps), owner="", timeout_s=600, clock=LinuxClock())
    runs = steps.run(str(image.data), 1, 2)
    while not (image.data / "pid").exists() or not (image.data / "pid").read_text():
        next(runs)  # once a second while it runs
    runs.close()  # type: ignore[attr-defined]
    assert gone(int((image.data / "pid").read_text()))


@needs_root
def test_a_step_is_the_owners_and_writes_nowhere_else(short_path: Path) -> None:
    short_path.chmod(0o711)
    image = Image(short_path)
    image.data.chmod(0o700)
    os.chown(image.data, 65534, 65534)
    (short_path / "closed").mkdir(mode=0o700)
    image.step("10-who", f"id -u > who; id -G > groups; echo x > {short_path}/outside; ls {short_path}/closed; true")
    (run,) = image.run(owner="nobody")
    assert run.code == 0 and not (short_path / "outside").exists() and "denied" in run.said
    assert (image.data / "who").read_text() == "65534\n" and (image.data / "who").stat().st_uid == 65534
    assert (image.data / "groups").read_text() == "65534\n"
