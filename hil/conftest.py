"""The fixture `terminal`: one on the rig that `--rig` names, switched on; build/hil.json says how each went."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.terminal import NotOnThisRig, Terminal

RIGS = {"sim": "hil.rigs.sim:SimulatedRig", "qemu": "hil.rigs.qemu:QemuRig"}
"""Imported when used: labgrid is only there for the rigs that need it."""
SCENARIO_S = 1800
REPORT = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rig", default="sim", help=f"{', '.join(RIGS)}, or the path of a labgrid environment")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: one of the few scenarios that CI runs on the slow rig")
    config.stash[REPORT] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--rig") != "sim":
        for item in items:
            item.add_marker(pytest.mark.timeout(SCENARIO_S))


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    base = Path(tempfile.mkdtemp(prefix="rig-"))
    name = request.config.getoption("--rig")
    module, _, kind = RIGS.get(name, "hil.rigs.bench:from_environment").partition(":")
    rig = getattr(importlib.import_module(module), kind)(*([base] if name in RIGS else [base, Path(name)]))
    try:
        yield rig
    finally:
        rig.close()
        shutil.rmtree(base, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    began = time.monotonic()
    outcome = "passed"
    try:
        yield
    except NotOnThisRig as error:
        outcome = "skipped"
        pytest.skip(str(error))
    except BaseException:
        outcome = "failed"
        raise
    finally:
        seconds = round(time.monotonic() - began, 1)
        item.config.stash[REPORT][item.name] = {"outcome": outcome, "seconds": seconds}


def pytest_sessionfinish(session: pytest.Session) -> None:
    scenarios = session.config.stash[REPORT]
    if scenarios:
        report = {"rig": session.config.getoption("--rig"), "scenarios": scenarios}
        Path("build").mkdir(exist_ok=True)
        Path("build/hil.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
