"""Small operations or large ones: what the terminal fetches depends on its link, and it says so before."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from posagent import texts
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.release import bundle, repository
from posagent.sim import image, layout
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import Settings
from tests.agent.slow_server import URL, SlowServer
from tests.conftest import HARDWARE, Desk

SLOW, FAST = 5_000.0, 5_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Version 7.0.0, of which no terminal has much: `large` operations of words are fewer bytes than `small` ones."""

    folder: Path
    url: str
    small: int
    large: int


@pytest.fixture(scope="module")
def published(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("words")
    shutil.copytree(desk.tree, folder / "tree")
    dice = random.Random(1)
    words = [dice.randbytes(7) for _ in range(5000)]
    made = {}
    for version, content in (
        ("2.5.0", dice.randbytes(1_000_000)),
        ("7.0.0", b" ".join(dice.choices(words, k=150_000))),
    ):
        (folder / "tree/more").write_bytes(content)
        new = image.build(folder / f"{version}.ext4", version, tree=folder / "tree")
        how = {"version": version, "compatible": [HARDWARE], "keys_dir": desk.keys, "level": 3}
        made[version] = bundle.build(new, out=folder / f"{version}.bundle", **how)  # type: ignore[arg-type]
    pointer = repository.publish(made["7.0.0"], folder / "repository")
    large, small = sorted(int(one["bytes"]) for one in pointer["payloads"])
    shutil.copy(made["2.5.0"], folder / "repository")
    return Published(folder=folder / "repository", url=f"{URL}/{pointer['bundle']}", small=small, large=large)


Make = Callable[..., InProcessTerminal]


@pytest.fixture
def behind(desk: Desk, short_path: Path, published: Published) -> Iterator[Make]:
    """Makes terminals behind a link of that rate, with one update behind them by which they know it."""
    made: list[InProcessTerminal] = []

    def make(bytes_per_s: float, *, metered: bool = False, known: bool = True) -> InProcessTerminal:
        settings = Settings(hardware=HARDWARE, repository_url=URL)
        root = layout.create(short_path / "t", image=desk.images["1.0.0"], keys_dir=desk.keys, settings=settings)
        if metered:
            root.config.write_text(re.sub(r"(?m)^\[fetch\]$", "[fetch]\nmetered = true", root.config.read_text()))
        terminal = InProcessTerminal(root, server=SlowServer(published.folder, bytes_per_s).at)
        made.append(terminal)
        terminal.boot()
        terminal.run_until(lambda one: one.boots == 1)
        if known:
            terminal.ask("update", source=f"{URL}/2.5.0.bundle")
            assert terminal.run_to_idle()["outcome"] == "committed"
            terminal.settle()
        return terminal

    yield make
    for terminal in made:
        terminal.time.end()


def fetched(terminal: InProcessTerminal, url: str) -> int:
    """Bytes that the update to that bundle needed; it is committed then."""
    terminal.ask("update", source=url)
    terminal.run_until(lambda one: one.state is State.READY)
    update = terminal.situation.update
    assert update is not None
    count = update.bytes_fetched
    assert bool(update.bytes_large) is not bool(update.bytes_small)
    assert terminal.run_to_idle()["outcome"] == "committed"
    return count


def checked(terminal: InProcessTerminal) -> dict[str, Any]:
    answers: list[Message] = []
    terminal.api.call("check", {}, answers.append, "test")
    terminal.run_until(lambda _: bool(answers))
    found: dict[str, Any] = answers[-1]["result"]
    return found


def test_a_fast_link_brings_what_installs_fast(behind: Make, published: Published) -> None:
    terminal = behind(FAST)
    found = checked(terminal)
    assert (found["packing"], found["bytes"]) == ("small", published.small)
    assert "a larger download, which installs faster: on this link that is sooner" in texts.check_lines(found, "en")
    assert fetched(terminal, published.url) > 0.9 * published.small


def test_a_slow_link_brings_the_fewest_bytes(behind: Make, published: Published) -> None:
    terminal = behind(SLOW)
    found = checked(terminal)
    assert (found["packing"], found["bytes"]) == ("large", published.large)
    assert "the smallest download, which installs slower: on this link that is sooner" in texts.check_lines(found, "en")
    assert fetched(terminal, published.url) < 1.2 * published.large < 0.8 * published.small


def test_on_a_metered_link_bytes_decide_however_fast_it_is(behind: Make, published: Published) -> None:
    terminal = behind(FAST, metered=True)
    found = checked(terminal)
    assert (found["packing"], found["bytes"]) == ("metered", published.large)
    assert "下载量最小但安装较慢：链路按流量计费" in texts.check_lines(found, "zh")
    assert fetched(terminal, published.url) < 1.2 * published.large


def test_a_stick_is_faster_than_unpacking(behind: Make, published: Published) -> None:
    terminal = behind(SLOW, metered=True, known=False)
    stick = published.folder / published.url.removeprefix(f"{URL}/")
    assert fetched(terminal, str(stick)) > 0.9 * published.small


def test_a_link_that_has_slowed_down_in_the_middle_changes_nothing_about_what_was_fetched(
    behind: Make, published: Published
) -> None:
    """A power cut half way, and the terminal is somewhere else: what it fetches is little more than what is missing."""
    terminal = behind(FAST)
    terminal.ask("update", source=published.url)
    terminal.run_until(lambda one: (one.ask("status")["update"] or {}).get("bytes_done", 0) > 0.6 * published.small)
    client = terminal._parts.client
    assert isinstance(client, SlowServer)
    sent, client.bytes_per_s = client.sent, SLOW
    terminal.boot()
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert client.sent - sent < 0.5 * published.small
