"""A spool that is too small for the bundle: parts of it are put into the slot before the rest is fetched."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.config import FetchConfig
from posagent.core.model import State
from posagent.platform.storage import LinuxFiles
from posagent.release import bundle
from posagent.sim import image
from posagent.sim.inprocess import InProcessTerminal
from tests.agent.slow_server import URL, SlowServer
from tests.conftest import HARDWARE, Desk

ROOM = 700_000
IMAGE_BYTES = 2_000_000


class SmallSpool(LinuxFiles):
    """So much room for bundles, whatever disk this is."""

    def __init__(self) -> None:
        self.room, self.most = ROOM, 0

    def free_bytes(self, path: str) -> int:
        used = sum(file.stat().st_size for file in Path(path).glob("*.bundle"))
        self.most = max(self.most, used)
        return self.room + FetchConfig(spool_dir="").keep_free_bytes - used


Make = Callable[[SmallSpool], InProcessTerminal]


@pytest.fixture(scope="module")
def large(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of version 7.0.0, of which no terminal has much."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(desk.tree, folder / "tree")
    (folder / "tree/more").write_bytes(os.urandom(IMAGE_BYTES))
    new = image.build(folder / "7.0.0.ext4", "7.0.0", tree=folder / "tree")
    out = folder / "7.0.0.bundle"
    return bundle.build(new, version="7.0.0", compatible=[HARDWARE], keys_dir=desk.keys, out=out)


@pytest.fixture(scope="module")
def dense(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but of words: large operations of the whole payload are fewer bytes than small ones."""
    folder = tmp_path_factory.mktemp("dense")
    shutil.copytree(desk.tree, folder / "tree")
    dice = random.Random(1)
    words = [dice.randbytes(7) for _ in range(5000)]
    (folder / "tree/more").write_bytes(b" ".join(dice.choices(words, k=3 * IMAGE_BYTES // 16)))
    new = image.build(folder / "7.0.0.ext4", "7.0.0", tree=folder / "tree")
    out = folder / "7.0.0.bundle"
    return bundle.build(new, version="7.0.0", compatible=[HARDWARE], keys_dir=desk.keys, level=3, out=out)


def committed(terminal: InProcessTerminal, large: Path) -> None:
    outcome = terminal.run_to_idle()
    assert outcome["outcome"] == "committed", outcome
    wanted = (large.parent / "7.0.0.ext4").read_bytes()
    assert terminal.layout.slot("b").read_bytes()[: len(wanted)] == wanted


def test_what_does_not_fit_is_put_into_the_slot_part_by_part(in_process: Make, large: Path) -> None:
    files = SmallSpool()
    terminal = in_process(files)
    terminal.ask("update", source=str(large))
    terminal.run_until(lambda one: one.state is State.READY)
    update = terminal.situation.update
    assert update is not None and update.streamed
    assert 0 < update.bytes_refetched < 5 * 66_000, "at most one operation each time"
    assert files.most <= ROOM
    committed(terminal, large)


def test_where_there_is_room_nothing_touches_the_slot_before_the_installation(in_process: Make, large: Path) -> None:
    files = SmallSpool()
    files.room = 1 << 30
    terminal = in_process(files)
    before = terminal.layout.slot("b").read_bytes()
    terminal.ask("update", source=str(large))
    terminal.run_until(lambda one: one.state is State.READY)
    update = terminal.situation.update
    assert update is not None and not update.streamed and not update.bytes_refetched
    assert terminal.layout.slot("b").read_bytes() == before


@pytest.mark.parametrize(("room", "is_whole"), [(1 << 30, True), (900_000, True), (400_000, False)])
def test_large_operations_are_fetched_where_one_fits_into_the_spool(
    in_process: Callable[..., InProcessTerminal], dense: Path, room: int, is_whole: bool
) -> None:
    """Over a link that is slow enough for them."""
    files = SmallSpool()
    files.room = room
    terminal = in_process(files, server=SlowServer(dense.parent, 5_000.0).at)
    terminal.ask("update", source=f"{URL}/{dense.name}")
    terminal.run_until(lambda one: one.state is State.READY)
    update = terminal.situation.update
    assert update is not None and update.streamed is (room < 1 << 30)
    full, whole = (one["length"] for one in bundle.show(dense)["manifests"])
    assert whole < 0.6 * full
    (record,) = (json.loads(path.read_bytes()) for path in terminal.layout.spool.glob("*.json"))
    assert (update.bytes_fetched + record["bytes_given_up"] < 0.6 * full) is is_whole
    assert files.most <= room
    committed(terminal, dense)


def test_cancelling_in_the_middle_leaves_the_running_version_alone(in_process: Make, large: Path) -> None:
    terminal = in_process(SmallSpool())
    terminal.ask("update", source=str(large))
    before = terminal.layout.slot("b").read_bytes()
    terminal.run_until(lambda _: terminal.layout.slot("b").read_bytes() != before)
    assert terminal.state is State.DOWNLOAD
    terminal.ask("cancel")
    assert terminal.run_to_idle()["outcome"] == "cancelled"
    terminal.settle()
    assert terminal.ask("status")["booted"] == "a"
    terminal.ask("update", source=str(large))
    committed(terminal, large)


@pytest.mark.parametrize("first", range(3))
def test_power_cuts_in_the_middle_end_committed(in_process: Make, large: Path, first: int) -> None:
    """After 1, 8, 15, … steps since the last cut."""
    terminal = in_process(SmallSpool())
    terminal.ask("update", source=str(large))
    steps = first + 1
    while terminal.situation.last_outcome is None:
        for _ in range(steps):
            if terminal.situation.last_outcome is None:
                terminal.step()
        terminal.boot()
        steps += 7
    committed(terminal, large)


def test_without_any_room_it_says_so(in_process: Make, large: Path) -> None:
    files = SmallSpool()
    files.room = 150_000
    terminal = in_process(files)
    terminal.ask("update", source=str(large))
    terminal.run_until(lambda one: one.situation.failure is not None)
    assert terminal.situation.failure is not None and terminal.situation.failure["code"] == "spool_full"
    files.room = ROOM
    committed(terminal, large)


def test_what_turns_out_to_be_corrupt_on_the_way_is_fetched_once_more(in_process: Make, large: Path) -> None:
    whole = large.read_bytes()
    at = len(whole) - (1 << 20)
    large.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        terminal = in_process(SmallSpool())
        terminal.ask("update", source=str(large))
        terminal.run_until(lambda one: one.situation.update is not None and one.situation.update.downloads == 1)
        assert terminal.state is State.DOWNLOAD and terminal.situation.failure is not None
        assert terminal.situation.failure["code"] == "payload_corrupt"
    finally:
        large.write_bytes(whole)
    committed(terminal, large)
