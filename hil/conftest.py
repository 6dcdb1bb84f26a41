"""The fixture `terminal`: one on the rig that `--rig` names, switched on; build/hil.json says how each went."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil import network
from hil.terminal import NotOnThisRig, Terminal

RIGS = {"sim": "hil.rigs.sim:SimulatedRig", "qemu": "hil.rigs.qemu:QemuRig"}
"""Imported when used: labgrid is only there for the rigs that need it."""
SCENARIO_S = 3600
KEPT = Path("build/hil-failed")
"""What the main console said in scenarios that failed."""
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rig", default="sim", help=f"{', '.join(RIGS)}, or the path of a labgrid environment")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: one of the few scenarios that CI runs on the slow rig")
    is_worker, has_workers = hasattr(config, "workerinput"), bool(config.getoption("numprocesses", None))
    if not is_worker:
        config.pluginmanager.register(Report())
    if config.getoption("--rig") == "qemu" and not has_workers:
        network.enter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--rig") != "sim":
        for item in items:
            item.add_marker(pytest.mark.timeout(SCENARIO_S))


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    base = Path(tempfile.mkdtemp(prefix="rig-"))
    name = request.config.getoption("--rig")
    module, _, kind = RIGS.get(name, "hil.rigs.bench:BenchRig").partition(":")
    rig = getattr(importlib.import_module(module), kind)(*([base] if name in RIGS else [base, Path(name)]))
    try:
        yield rig
    finally:
        rig.close()
        transcript: Path | None = getattr(rig, "transcript", None)
        if transcript is not None and transcript.exists() and request.node.stash.get(_FAILED, False):
            KEPT.mkdir(parents=True, exist_ok=True)
            shutil.copy(transcript, KEPT / f"{re.sub(r'[^A-Za-z0-9-]', '_', request.node.name)}.log")
        shutil.rmtree(base, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    try:
        return (yield)
    except NotOnThisRig as error:
        pytest.skip(str(error))
    except BaseException:
        item.stash[_FAILED] = True
        raise


class Report:
    """What build/hil.json holds; collected where the results of all workers come together."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._scenarios: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            name = report.nodeid.rpartition("::")[2]
            self._scenarios[name] = {"outcome": report.outcome, "seconds": round(report.duration, 1)}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        rig, seconds = session.config.getoption("--rig"), round(time.monotonic() - self._began, 1)
        report = {"rig": rig, "seconds": seconds, "scenarios": self._scenarios}
        Path("build").mkdir(exist_ok=True)
        Path("build/hil.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
