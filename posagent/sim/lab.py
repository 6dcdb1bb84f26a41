"""A release desk, a repository on a real web server and simulated terminals, in one directory: for demos and tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posagent import wire
from posagent.core.errors import PosagentError
from posagent.release import bundle, keys, repository
from posagent.sim import image, layout
from posagent.sim.layout import Layout, Settings
from posagent.sim.webserver import WebServer

UP_S = 30.0


class SimulatedTerminal:
    """A running simulated terminal, seen from outside: its power, its API, its serial line."""

    def __init__(self, terminal: Layout) -> None:
        self.layout = terminal
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Switch on and wait until the agent knows its slots. Raises TimeoutError."""
        self.switch_on()
        self.wait(lambda status: status["booted"] is not None, UP_S)

    def switch_on(self) -> None:
        with (self.layout.log / "hardware.log").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "posagent.sim.cli", "up", str(self.layout.root)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )

    def down(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        """A verb of the agent's API."""
        return wire.call(str(self.layout.api), verb, args)

    def control(self, verb: str, **args: Any) -> dict[str, Any]:
        """A verb of the simulated hardware."""
        return wire.call(str(self.layout.control), verb, args)

    def wait(self, reached: Callable[[Mapping[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
        """Poll the status until `reached` holds for it. Raises TimeoutError with the last status."""
        deadline, status = time.monotonic() + timeout_s, dict[str, Any]()
        while time.monotonic() < deadline:
            try:
                status = self.ask("status")
                if reached(status):
                    return status
            except PosagentError:
                pass  # the agent is restarting, or the power is off
            time.sleep(0.02)
        raise TimeoutError(f"not reached in {timeout_s:.0f} s; last status: {status}")

    def wait_event(self, reached: Callable[[list[str]], bool], timeout_s: float) -> None:
        """Wait for what the simulated hardware tells of itself. Raises TimeoutError."""
        deadline, log, events = time.monotonic() + timeout_s, self.layout.log / "hardware.log", list[str]()
        while time.monotonic() < deadline:
            events = [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
            if reached(events):
                return
            time.sleep(0.02)
        raise TimeoutError(f"not seen in {timeout_s:.0f} s; last events: {events[-5:]}")

    def wait_outcome(self, update_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """How that update ended."""
        status = self.wait(lambda status: (status["last_outcome"] or {}).get("id") == update_id, timeout_s)
        outcome: dict[str, Any] = status["last_outcome"]
        return outcome


class Lab:
    """Keys, images, repository; makes terminals that trust them."""

    def __init__(self, base: Path, *, hardware: str = "sim-pos", rate_limit: str = "") -> None:
        self.base = base
        self.hardware = hardware
        self.keys = base / "keys"
        self.repository = base / "repository"
        base.mkdir(parents=True, exist_ok=True)
        if not (self.keys / "1.root.json").exists():
            keys.init(self.keys)
        self.web = WebServer(base / "web", self.repository, rate_limit=rate_limit)
        self._terminals: list[SimulatedTerminal] = []

    def image(self, version: str, **how: Any) -> Path:
        """An ext4 image; `how` as for posagent.sim.image.build."""
        return image.build(self.base / f"image-{version}.ext4", version, **how)

    def bundle(self, version: str, path: Path | None = None, **how: Any) -> Path:
        """A signed bundle of an image (a small one where None)."""
        return bundle.build(
            path or self.image(version),
            version=version,
            compatible=[self.hardware],
            keys_dir=self.keys,
            out=self.base / f"{version}.bundle",
            **how,
        )

    def publish(self, version: str, path: Path | None = None) -> str:
        """Build, sign and publish; returns the bundle's URL."""
        pointer = repository.publish(self.bundle(version, path), self.repository)
        return f"{self.web.url}/{pointer['bundle']}"

    def publish_parameters(self, version: str, values: Mapping[str, Any]) -> str:
        """The same of parameters alone."""
        source = self.base / f"{version}.json"
        source.write_text(json.dumps(values))
        made = bundle.build(
            None,
            version=version,
            parameters=(source, version),
            compatible=[self.hardware],
            keys_dir=self.keys,
            out=source.with_suffix(".bundle"),
        )
        return f"{self.web.url}/{repository.publish(made, self.repository)['bundle']}"

    def terminal(self, name: str = "t", first: Path | None = None, **settings: Any) -> SimulatedTerminal:
        """A new terminal that runs version 1.0.0 (or the image `first`), switched on."""
        made = layout.create(
            self.base / name,
            image=first,
            keys_dir=self.keys,
            settings=Settings(terminal=name, hardware=self.hardware, repository_url=self.web.url, **settings),
        )
        terminal = SimulatedTerminal(made)
        self._terminals.append(terminal)
        terminal.up()
        return terminal

    def close(self) -> None:
        """End everything that was started."""
        for terminal in self._terminals:
            terminal.down()
        self.web.stop()
