"""The same update on the crash explorer's model: the same images, bundle, keys, configuration and environment.

Nothing is scaled down: the model's terminal gets slots of the real size and the real checkpoints, so that its trace
can be compared with the real one length by length. Its own small stage is for exploring, where every block costs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from unittest import mock

from posagent import config
from posagent.config import Config
from posagent.crash import explorer, terminal
from posagent.crash.explorer import Choices, Execution, Explorer
from posagent.crash.medium import Copy, Medium
from posagent.crash.scenarios import Scenario
from posagent.crash.stage import FACTORY, INSTALLER_DIR, SPOOL_DIR, STATE_DIR, Image, Stage
from posagent.crash.units import EMMC_4K
from posagent.sim.bootloader import TRIES_FULL
from posagent.sim.layout import ENV_SIZE
from tests.crash.conformance import operations
from tests.crash.conformance.operations import JOURNAL, Operation
from tests.crash.conformance.reality import VERSION, Made
from tests.crash.conformance.syscalls import HEADER_BYTES, boot_state

SCENARIO = Scenario(name="real", goals=(VERSION,), ends=("committed",), tries_full=TRIES_FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealImage(Image):
    """An image out of a file."""

    stored: bytes

    @property
    def content(self) -> bytes:
        return self.stored


@dataclass(frozen=True, slots=True, kw_only=True)
class RealStage(Stage):
    """A stage with the configuration of a real terminal; only directories have the model's names."""

    real: Config

    def config(self, booted: Image, tries_full: int) -> Config:
        real = self.real
        assert tries_full == real.boot.tries_full
        return dataclasses.replace(
            real,
            terminal=dataclasses.replace(
                real.terminal,
                state_dir=STATE_DIR,
                installer_dir=INSTALLER_DIR,
                os_release_file=str(self.root / f"os-release-{booted.version}"),
            ),
            fetch=dataclasses.replace(real.fetch, spool_dir=SPOOL_DIR),
        )


@dataclass(slots=True)
class _Recorder:
    """Reads on the medium what the operations' own words leave out: which event a journal record tells of."""

    medium: Medium | None = None
    done: list[Operation] = field(default_factory=list)

    def heard(self, line: str) -> None:
        """A line of the story; operations are numbered."""
        number, _, what = line.strip().partition(". ")
        if line.startswith("  ") and number.isdigit():
            self.name_last()
            self.done.append(Operation(what, int(number), int(number)))

    def name_last(self) -> None:
        """The operation before this one is done: its data can be looked at."""
        if self.done:
            self.done[-1] = dataclasses.replace(self.done[-1], text=self._name(self.done[-1].text))

    def _name(self, text: str) -> str:
        words = text.split(" ")
        if words[0] == "write":
            offset, length = map(int, words[2].split("+"))
            return operations.file_write(words[1], offset, length, self._data(words[1], offset, length))
        return operations.named(text).replace("'", '"')

    def _data(self, path: str, offset: int, length: int) -> bytes:
        assert self.medium is not None
        return self.medium.files.read(path, offset, length) if path == JOURNAL else b""


class _Recorded(Explorer):
    """One terminal on a medium that `recorder` may look into, with the boot environment `copies`."""

    def __init__(self, stage: Stage, recorder: _Recorder, copies: list[Copy]) -> None:
        super().__init__(stage, SCENARIO, EMMC_4K)
        self._recorder, self._found = recorder, copies

    def _medium(self, choices: Choices) -> Medium:
        medium = self._recorder.medium = super()._medium(choices)
        medium.boot.restore(tuple((one,) for one in self._found))
        return medium


def copies_in(environment: bytes) -> list[Copy]:
    """Both copies of a real environment as the model has them."""
    copies = [environment[at : at + ENV_SIZE] for at in (0, ENV_SIZE)]
    states = [boot_state(copy[HEADER_BYTES:]) for copy in copies]
    return [
        Copy(copy[HEADER_BYTES - 1], state.order, tuple(sorted(state.tries.items())), False)
        for copy, state in zip(copies, states, strict=True)
    ]


def stage_of(made: Made) -> RealStage:
    """The model's stage from what the real terminal was made of."""
    root = made.layout.root.parent
    for version in made.images:
        (root / f"os-release-{version}").write_text(f"IMAGE_VERSION={version}\n")
    images = {
        version: RealImage(version=version, behaviour="good", counter=number, stored=path.read_bytes())
        for number, (version, path) in enumerate(made.images.items(), 1)
    }
    bundles = {VERSION: made.bundle.read_bytes()}
    return RealStage(root=root, images=dict(images), bundles=bundles, real=config.load(str(made.layout.config)))


def update(made: Made) -> list[Operation]:
    """What the update does to the model's medium, from the first power-on to rest."""
    recorder = _Recorder()

    stage = stage_of(made)
    size = len(stage.images[FACTORY].content)
    with mock.patch.object(terminal, "SLOT_BYTES", size), mock.patch.object(explorer, "SLOT_BYTES", size):
        exploring = _Recorded(stage, recorder, copies_in(made.environment))
        run = exploring.execute(exploring.factory(), collect=False, tell=recorder.heard)
    recorder.name_last()
    assert run.violation is None, run.violation
    return recorder.done[: _end(run)]


def _end(run: Execution) -> int:
    """After the terminal has come to rest the explorer switches it off and on again: that is no part of the update."""
    starts = [
        at
        for at, (what, stage) in enumerate(zip(run.medium.done, run.stages, strict=True))
        if stage == "bootloader" and what.startswith("env write")
    ]
    return starts[run.boots] if run.boots < len(starts) else len(run.medium.done)
