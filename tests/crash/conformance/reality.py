"""One whole update of a simulated terminal, under strace: real processes, real files, real fw_setenv.

Rules: it begins as the model begins: an empty data partition, an image in slot a, and an environment whose counter is
about to wrap. The bundle comes from a local file as from a USB stick, because pieces that come over a network have no
certain lengths.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.crash.stage import FACTORY, NOW_S
from posagent.release import bundle, keys
from posagent.release.bundle import DAYS_MAX
from posagent.sim import image, layout
from posagent.sim.lab import UP_S, SimulatedTerminal
from posagent.sim.layout import ENV_SIZE, Layout, Settings
from tests.crash.conformance import strace, syscalls
from tests.crash.conformance.syscalls import HEADER_BYTES, Storage

VERSION = "2.0.0"
HARDWARE = "sim-pos"
NOISE_BYTES = 3 << 20
COUNTER = 253
"""Of copy 0, which is in use at the start; the environment's counter is a byte, so the update wraps it."""
BOOT_S = 0.05
END_S = 30.0


@dataclass(frozen=True, slots=True)
class Made:
    """A terminal that was never switched on, the images by version and the bundle of VERSION."""

    layout: Layout
    images: dict[str, Path]
    bundle: Path
    environment: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """The update that was made and what it did to the storage."""

    made: Made
    storage: Storage
    outcome: dict[str, Any]


class TracedTerminal(SimulatedTerminal):
    """A simulated terminal with everything it starts under strace."""

    def __init__(self, terminal: Layout, trace: Path) -> None:
        super().__init__(terminal)
        self._trace = trace
        self._tracer: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        words = [sys.executable, "-m", "posagent.sim.cli", "up", str(self.layout.root)]
        with (self.layout.log / "hardware.log").open("ab") as output:
            self._tracer = subprocess.Popen(
                strace.command(self._trace, words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )
        self.wait(lambda status: status["booted"] is not None, UP_S)

    def down(self) -> None:
        """Off; the trace is whole when this returns."""
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        try:
            self.control("stop")
            tracer.wait(UP_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(tracer.pid, signal.SIGKILL)
            tracer.wait()


def need_strace() -> None:
    """Skip the test where nothing can be traced; in CI that is a failure."""
    why = strace.missing()
    if why is not None and os.environ.get("CI") == "true":
        pytest.fail(why)
    if why is not None:
        pytest.skip(why)


def make(base: Path) -> Made:
    """Keys, images, a bundle, and a terminal as it left the factory."""
    now_s = max(int(time.time()), NOW_S)
    keys.init(base / "keys", now_s=now_s)
    tree = base / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(random.Random(1).randbytes(NOISE_BYTES))
    images = {
        FACTORY: image.build(base / "1.ext4", FACTORY),
        VERSION: image.build(base / "2.ext4", VERSION, tree=tree),
    }
    out = base / "bundle"
    bundle.build(
        images[VERSION],
        version=VERSION,
        compatible=[HARDWARE],
        keys_dir=base / "keys",
        out=out,
        expires_days=DAYS_MAX,
        security_counter=2,
        now_s=now_s,
    )
    settings = Settings(terminal="t", hardware=HARDWARE, boot_s=BOOT_S)
    made = layout.create(base / "t", image=images[FACTORY], keys_dir=base / "keys", settings=settings)
    shutil.rmtree(made.root / "data")
    return Made(made, images, out, _set_copies(made.env))


def _set_copies(environment: Path) -> bytes:
    """Two valid copies, the first in use. layout.create leaves one: fw_setenv writes nothing where nothing changes."""
    content = environment.read_bytes()
    copies = [content[at : at + ENV_SIZE] for at in (0, ENV_SIZE)]
    valid = next(copy for copy in copies if zlib.crc32(copy[HEADER_BYTES:]) == int.from_bytes(copy[:4], "little"))
    made = b"".join(valid[:4] + bytes([counter]) + valid[HEADER_BYTES:] for counter in (COUNTER, COUNTER - 1))
    environment.write_bytes(made)
    return made


def update(made: Made, trace: Path) -> Seen:
    """Switch on, update, wait until everything is done, switch off."""
    terminal = TracedTerminal(made.layout, trace)
    try:
        terminal.up()
        terminal.wait(lambda status: _at_rest(status) and status["slots"]["a"]["tries_left"] == 3, END_S)
        outcome = terminal.wait_outcome(terminal.ask("update", source=str(made.bundle))["id"], END_S)
        terminal.wait(_at_rest, END_S)
        with suppress(PosagentError):  # there is no repository; the fetcher answers when it has tidied up the spool
            terminal.ask("check")
    finally:
        terminal.down()
    with trace.open(encoding="utf-8", errors="replace") as lines:
        return Seen(made, syscalls.read(lines, made.layout), outcome)


def _at_rest(status: Any) -> bool:
    return status["state"] == "idle" and status["booted"] is not None
