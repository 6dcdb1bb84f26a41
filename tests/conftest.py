"""Shared fixtures: one release desk with signed bundles a session, fresh terminals a test."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from posagent.core.ports import Files
from posagent.fetcher.http import Client
from posagent.release import bundle, keys
from posagent.sim import image, layout
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import Settings
from posagent.sim.virtual import VirtualTime

HARDWARE = "sim-pos"
# A busy machine is no finding. What CI says of a commit must not depend on luck; at a desk, luck finds more.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
# A shell that runs the tests in its background has them ignore Ctrl-C, and so would every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True, slots=True)
class Desk:
    """Keys, images by version, and bundles of them: 2.0.0 is good, 3.0.0 fails its self-test, 4.0.0 panics."""

    keys: Path
    images: dict[str, Path]
    bundles: dict[str, Path]

    @property
    def tree(self) -> Path:
        """What is in all of the images."""
        return self.keys.parent / "tree"


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    base = tmp_path_factory.mktemp("desk")
    made = Desk(base / "keys", {}, {})
    keys.init(made.keys)
    tree = base / "tree"
    tree.mkdir()
    (tree / "application").write_bytes(random.Random(1).randbytes(200_000))
    for version, how in {
        "1.0.0": {},
        "2.0.0": {},
        "3.0.0": {"broken": "missing parameters"},
        "4.0.0": {"boot_fault": "panic"},
    }.items():
        made.images[version] = image.build(base / f"{version}.ext4", version, tree=tree, **how)  # type: ignore[arg-type]
        made.bundles[version] = bundle.build(
            made.images[version],
            version=version,
            compatible=[HARDWARE],
            keys_dir=made.keys,
            out=base / f"{version}.bundle",
        )
    return made


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for AF_UNIX sockets."""
    path = Path(tempfile.mkdtemp(prefix="pos-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def in_process(desk: Desk, short_path: Path) -> Iterator[Callable[..., InProcessTerminal]]:
    """Makes terminals that run 1.0.0, switched on, in this process."""
    terminals: list[InProcessTerminal] = []

    def make(
        files: Files | None = None,
        group_key_file: str = "",
        server: Callable[[VirtualTime], Client] | None = None,
        kind: type[InProcessTerminal] = InProcessTerminal,
    ) -> InProcessTerminal:
        made = layout.create(
            short_path / f"t{len(terminals)}",
            image=desk.images["1.0.0"],
            keys_dir=desk.keys,
            settings=Settings(hardware=HARDWARE, group_key_file=group_key_file),
        )
        terminal = kind(made, files, server)
        terminals.append(terminal)
        terminal.boot()
        terminal.run_until(lambda one: one.boots == 1)
        return terminal

    yield make
    for terminal in terminals:
        terminal.time.end()
