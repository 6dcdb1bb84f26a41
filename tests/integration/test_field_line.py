"""The field line of a terminal of real processes: the laptop's program on a real port, through restarts and cuts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.field.link import Terminal
from posagent.field.ports import open_port
from posagent.sim.bridge import Bridge
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.console.engineers import certify, make_key, sign

pytestmark = pytest.mark.real


@pytest.fixture
def laptop(terminal: SimulatedTerminal) -> Iterator[Terminal]:
    made = Terminal(lambda: open_port(str(terminal.layout.laptop), 115200))
    yield made
    made.close()


@pytest.fixture
def signer(lab: Lab, tmp_path: Path) -> Callable[[str], str]:
    certificate = certify(lab.keys / "engineer-ca", make_key(tmp_path / "key"))
    return lambda challenge: sign(certificate, challenge)


def test_a_bundle_goes_over_the_line_is_installed_and_followed_to_its_end(
    lab: Lab, terminal: SimulatedTerminal, laptop: Terminal, signer: Callable[[str], str]
) -> None:
    with pytest.raises(PosagentError, match="not_allowed"):
        laptop.call("history")
    laptop.unlock("update", signer)
    source = laptop.upload(lab.bundle("2.4.0"))["path"]
    assert (terminal.layout.spool / "inbox/2.4.0.bundle").exists()
    started = laptop.call("update", {"source": source})
    states: list[str] = []
    outcome = laptop.follow(started["id"], lambda status: states.append(status["state"]))["outcome"]
    assert (outcome["outcome"], outcome["version"]) == ("committed", "2.4.0")
    assert not (terminal.layout.spool / "inbox/2.4.0.bundle").exists()
    assert laptop.call("status")["booted"] == "b"


@pytest.fixture
def bridge(terminal: SimulatedTerminal, tmp_path: Path) -> Iterator[Bridge]:
    made = Bridge(terminal.layout.laptop, tmp_path / "port", baud=921600)
    yield made
    made.end()


def test_an_upload_and_an_update_over_pulled_cables_and_power_cuts(
    lab: Lab, terminal: SimulatedTerminal, bridge: Bridge, signer: Callable[[str], str], tmp_path: Path
) -> None:
    tree = lab.base / "tree-line"
    tree.mkdir(exist_ok=True)
    (tree / "noise").write_bytes(os.urandom(600_000))
    bundle = lab.bundle("2.5.0", lab.image("2.5.0", tree=tree))
    states: list[str] = []
    laptop = Terminal(lambda: open_port(str(tmp_path / "port"), 921600), on_state=states.append, bytes_per_s=92160)
    laptop.unlock("update", signer)
    done: list[int] = []
    offsets: list[int] = []

    def disturb(progress: dict[str, Any]) -> None:
        if "offset" in progress:
            offsets.append(progress["offset"])
        if not done and progress["bytes_done"] > 150_000:
            done.append(progress["bytes_done"])
            bridge.pull()
            threading.Timer(2.0, bridge.plug_in).start()
        elif len(done) == 1 and progress["bytes_done"] > 350_000:
            done.append(progress["bytes_done"])
            terminal.control("cut", off_s=0.2)

    source = laptop.upload(bundle, on_progress=disturb)["path"]
    assert states.count("resumed") == 1 and states.count("unlocked") == 2
    assert offsets[0] == 0 and len(offsets) == 2, "only the power cut was noticed by the upload"
    assert done[1] - 65536 - 4096 <= offsets[1] <= done[1] + 3 * 65536
    name = laptop.call("update", {"source": source})["id"]
    threading.Timer(0.5, lambda: terminal.control("cut", off_s=0.2)).start()
    assert laptop.follow(name, lambda _: None)["outcome"]["outcome"] == "committed"
    laptop.close()
