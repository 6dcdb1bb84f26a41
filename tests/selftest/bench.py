"""Checks on the real machine, or on a /proc of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posagent.config import CheckConfig, SelftestConfig
from posagent.platform.health import LinuxProbes
from posagent.platform.host import LinuxClock
from posagent.platform.system import LinuxSystem
from posagent.selftest import checks
from posagent.selftest.finding import Given, given_of
from posagent.selftest.looks import Looks


def looks(root: Path | None = None) -> Looks:
    clock = LinuxClock()
    return Looks(LinuxSystem(clock, str(root) if root else ""), LinuxProbes(clock))


def check(kind: str, **keys: Any) -> CheckConfig:
    return CheckConfig(name=keys.pop("name", kind), kind=kind, **keys)


def given(**args: Any) -> Given:
    return given_of(args)


def result(one: CheckConfig, root: Path | None = None, **args: Any) -> dict[str, Any]:
    """What the worker says of this check, when the agent has given it `args`."""
    clock = LinuxClock()
    config = SelftestConfig(checks=(one,))
    *_, last = checks.run(config, LinuxProbes(clock), clock, look=looks(root).look, given=given(**args))
    found: dict[str, Any] = last["result"]["checks"][0]
    return found


def figures(*configured: CheckConfig, root: Path | None = None) -> dict[str, Any]:
    """The result of the verb `baseline`."""
    *_, last = checks.baseline(SelftestConfig(checks=configured), LinuxClock(), looks(root).figures)
    told: dict[str, Any] = last["result"]
    return told


def program(path: Path, script: str) -> tuple[str, ...]:
    """A vendor's command."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path),)
