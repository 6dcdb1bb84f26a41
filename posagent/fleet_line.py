"""Puts the line to the fleet server together, where one is configured."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING

from posagent.agent.api import AgentApi
from posagent.agent.conditions import Conditions
from posagent.agent.engine import Engine
from posagent.config import Config
from posagent.core.ports import Clock, Files
from posagent.platform.loop import Loop
from posagent.platform.sockets import SocketWorker

if TYPE_CHECKING:
    from posagent.agent.fleet import Fleet

FILE = "fleet.json"


def opened(
    config: Config, *, loop: Loop, clock: Clock, files: Files, engine: Engine, conditions: Conditions, api: AgentApi
) -> Fleet | None:
    """None where the terminal belongs to no fleet."""
    if not config.fleet.is_on:
        return None
    from posagent.agent.fleet import Fleet  # only where there is one

    terminal = config.terminal
    line = Fleet(
        engine=engine,
        worker=SocketWorker(config.worker_socket("fleet"), loop),
        begin=api.begin,
        cancel=api.cancel,
        timers=loop,
        clock=clock,
        files=files,
        path=f"{terminal.state_dir}/{FILE}",
        hardware=(terminal.hardware, terminal.hardware_revision),
        draw=SystemRandom().random,
        poll_s=float(config.fleet.poll_s),
        distribution=config.fleet.distribution,
        status=api.status if config.fleet.metrics_url else None,
    )
    api.fleet, conditions.fleet = line.told, line.gate
    return line
