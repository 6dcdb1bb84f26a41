"""A bundle with deltas: a terminal fetches only what it needs of it, whatever it runs and wherever it was cut."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.core.model import State
from posagent.release import bundle
from posagent.sim import image
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import HARDWARE, Desk

Make = Callable[[], InProcessTerminal]


@pytest.fixture(scope="module")
def both(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of version 5.0.0: full, and deltas from 1.0.0 and 2.0.0."""
    folder = tmp_path_factory.mktemp("deltas")
    shutil.copytree(desk.tree, folder / "tree")
    (folder / "tree/more").write_bytes(os.urandom(100_000))  # more than what is fetched at first
    return bundle.build(
        image.build(folder / "5.0.0.ext4", "5.0.0", tree=folder / "tree"),
        version="5.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[desk.images["1.0.0"], desk.images["2.0.0"]],
        out=folder / "5.0.0.bundle",
    )


def fetched(terminal: InProcessTerminal) -> int:
    """Bytes of the bundle that are in the spool."""
    (record,) = terminal.layout.spool.glob("*.json")
    return sum(length for _, length in json.loads(record.read_text())["pieces"])


def test_a_delta_is_taken_from_the_factory_version_and_then_from_an_updated_one(
    in_process: Make, desk: Desk, both: Path
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(both))
    terminal.run_until(lambda one: one.state is State.VERIFY)
    assert 100_000 < fetched(terminal) < both.stat().st_size / 2
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert terminal.ask("status")["booted"] == "b"
    slot = terminal.layout.slot("b").read_bytes()
    wanted = (both.parent / "5.0.0.ext4").read_bytes()
    assert slot[: len(wanted)] == wanted


def test_a_terminal_whose_version_no_delta_fits_takes_what_it_lacks_of_the_full_payload(
    in_process: Make, desk: Desk, tmp_path: Path
) -> None:
    only_newer = bundle.build(
        image.build(tmp_path / "6.0.0.ext4", "6.0.0"),
        version="6.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[desk.images["2.0.0"]],
        out=tmp_path / "6.0.0.bundle",
    )
    terminal = in_process()
    terminal.ask("update", source=str(only_newer))
    terminal.run_until(lambda one: one.state is State.VERIFY)
    assert fetched(terminal) <= only_newer.stat().st_size
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize("first", range(3))
def test_a_power_cut_after_any_step_of_a_delta_update_ends_committed(in_process: Make, both: Path, first: int) -> None:
    """After 1, 4, 7, … steps since the last cut."""
    terminal = in_process()
    terminal.ask("update", source=str(both))
    steps = first + 1
    while terminal.situation.last_outcome is None:
        for _ in range(steps):
            if terminal.situation.last_outcome is None:
                terminal.step()
        terminal.boot()
        steps += 3
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_bundle_whose_head_is_not_a_bundle_fails_before_the_rest_is_fetched(in_process: Make, tmp_path: Path) -> None:
    junk = tmp_path / "junk.bundle"
    junk.write_bytes(b"x" * (1 << 20))
    terminal = in_process()
    terminal.ask("update", source=str(junk))
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("failed", "bundle_unreadable")
    terminal.settle()
    assert not list(terminal.layout.spool.glob("*.bundle"))


def hurt(path: Path) -> None:
    """Change one byte near the end of what is stored of the payload."""
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)


def test_a_download_that_is_corrupt_is_made_once_more(in_process: Make, both: Path) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(both))
    terminal.run_until(lambda one: one.state is State.VERIFY)
    hurt(next(terminal.layout.spool.glob("*.bundle")))
    terminal.run_until(lambda one: one.state is State.DOWNLOAD)
    assert terminal.situation.update is not None and terminal.situation.update.downloads == 1
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_bundle_that_is_corrupt_each_time_is_given_up(in_process: Make, both: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.bundle"
    shutil.copyfile(both, wrong)
    with tarfile.open(both, "r:") as tar:
        targets = [one for one in tar.getmembers() if one.name.startswith("targets/")]
    data = bytearray(wrong.read_bytes())
    for target in targets:
        data[target.offset_data + target.size // 2] ^= 1
    wrong.write_bytes(data)
    terminal = in_process()
    terminal.ask("update", source=str(wrong))
    terminal.run_until(lambda one: one.situation.update is not None and one.situation.update.downloads == 1)
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("failed", "payload_corrupt")


def test_what_turns_out_to_be_missing_is_fetched(in_process: Make, desk: Desk, both: Path) -> None:
    """A block of the running slot rots after the plan was made: the full payload fills in."""
    terminal = in_process()
    terminal.ask("update", source=str(both))
    terminal.run_until(lambda one: one.state is State.VERIFY)
    before = fetched(terminal)
    noise, slot = (desk.tree / "application").read_bytes(), terminal.layout.slot("a")
    content = bytearray(slot.read_bytes())
    content[content.index(noise[:4096])] ^= 1
    slot.write_bytes(content)
    terminal.run_until(lambda one: one.state is State.DOWNLOAD)
    terminal.run_until(lambda one: one.state is State.READY)
    assert fetched(terminal) > before
    assert terminal.run_to_idle()["outcome"] == "committed"
    wanted = (both.parent / "5.0.0.ext4").read_bytes()
    assert terminal.layout.slot("b").read_bytes()[: len(wanted)] == wanted
