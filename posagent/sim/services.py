"""The simulated service manager: starts the real processes as systemd would, restarts them, watches over the agent."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from posagent.platform.loop import Loop
from posagent.sim.layout import Layout

WORKERS = {
    **{name: f"posagent.{name}.service" for name in ("installer", "fetcher", "selftest", "support", "data")},
    "fleet": "posagent.fetcher.fleet_service",
}
SELECT = "data-select"
RESTART_S = 0.1
PR_SET_PDEATHSIG = 1
KEPT_ENVIRONMENT = ("PATH", "HOME", "PYTHONPATH", "LANG", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")

Later = Callable[[float, Callable[[], None]], None]


def _die_with_parent(listener: int | None) -> Callable[[], None]:
    """Runs in the child before exec: end when the supervisor ends; put an activated socket on descriptor 3."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if listener is not None:
            os.dup2(listener, 3)
            os.set_inheritable(3, True)

    return prepare


class Services:
    """The processes of one boot. `later` plans an action that a power cut forgets."""

    def __init__(self, layout: Layout, loop: Loop, later: Later, tell: Callable[[str], None]) -> None:
        self._layout = layout
        self._settings = layout.settings
        self._loop = loop
        self._later = later
        self._tell = tell
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._up, self._with_agent = False, True
        self._petted_at = 0.0
        self._notify_path = layout.run / "notify"
        self._notify = self._open_notify()

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    def start(self, *, agent: bool = True) -> None:
        """A freshly booted system: sockets first, then the shop's data, the payment program, the shop's payment
        application and the agent, unless it cannot start."""
        self._up, self._with_agent = True, agent
        for leftover in self._layout.run.iterdir():
            if leftover.is_dir():
                shutil.rmtree(leftover)
            elif leftover != self._notify_path:
                leftover.unlink()
        self._layout.configure_data()
        for name in WORKERS:
            self._listen(name)
        if self._layout.data_format:
            command = [sys.executable, "-m", "posagent.data.service", "--config", str(self._layout.config), "--select"]
            self._spawn(SELECT, command, {})
        else:
            self._start_the_rest()

    def _start_the_rest(self) -> None:
        port = str(self._settings.payment_port)
        command = [sys.executable, str(self._layout.booted_root / "pos/payment.py"), port, str(self._layout.parameters)]
        self._spawn("payment", command, {})
        self._start_shop()
        if self._with_agent:
            self._start_agent()

    def reload(self) -> None:
        """The payment program reads its parameters again."""
        if "payment" in self._children:
            self._children["payment"].send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Ask all processes to end."""
        self._up = False
        for child in self._children.values():
            child.terminate()

    def kill(self) -> None:
        """Everything is gone at once."""
        self._up = False
        for listener in self._listeners.values():
            self._loop.watch(listener.fileno(), None)
            listener.close()
        self._listeners.clear()
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            child.wait()
        self._children.clear()

    def reap(self) -> None:
        """Children may have ended."""
        for name, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[name]
                self._ended(name, child.returncode)

    def _ended(self, name: str, code: int) -> None:
        if code and self._up:
            self._tell(f"{name} ended with {code}")
        if name == SELECT:
            if self._up:
                self._start_the_rest()
        elif name == "agent":
            self._later(RESTART_S, self._start_agent)
        elif name == "shop":
            self._later(RESTART_S, self._start_shop)
        elif name in self._listeners:
            self._loop.watch(self._listeners[name].fileno(), lambda: self._activate(name))

    def _start_shop(self) -> None:
        if not self._up or not self._settings.shop or "shop" in self._children:
            return
        command = [sys.executable, "-m", "posagent.sim.payment_app", str(self._layout.api)]
        command += ["--shop", self._settings.shop, "--speed", str(self._settings.shop_speed)]
        command += ["--data", str(self._layout.data_link), "--format", str(self._layout.data_format)]
        self._spawn("shop", command, {})

    def _start_agent(self) -> None:
        if not self._up or "agent" in self._children:
            return
        self._petted_at = time.monotonic()
        seconds = self._settings.service_watchdog_s
        self._spawn(
            "agent",
            [sys.executable, "-m", "posagent.daemon", "--config", str(self._layout.config)],
            {"NOTIFY_SOCKET": str(self._notify_path), "WATCHDOG_USEC": str(seconds * 1_000_000)},
        )
        self._later(seconds, self._check_watchdog)

    def _listen(self, name: str) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._layout.run / f"{name}.sock"))
        listener.listen(8)
        self._listeners[name] = listener
        self._loop.watch(listener.fileno(), lambda: self._activate(name))

    def _activate(self, name: str) -> None:
        """A connection waits: start the worker, which then accepts by itself until it ends."""
        listener = self._listeners[name]
        self._loop.watch(listener.fileno(), None)
        command = [sys.executable, "-m", WORKERS[name], "--config", str(self._layout.config)]
        self._spawn(name, command, {"LISTEN_FDS": "1"}, listener)

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if key in KEPT_ENVIRONMENT}
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        if self._layout.clock.exists() and library is not None:
            offset = self._layout.clock.read_text().strip()
            # the monotonic clock is changed as well: with one that is not, libfaketime 0.9.10 lets no process sleep
            environment |= {"LD_PRELOAD": str(library), "FAKETIME": offset}
        return environment | dict(extra)

    def _spawn(
        self, name: str, command: list[str], extra: Mapping[str, str], listener: socket.socket | None = None
    ) -> None:
        descriptor = None if listener is None else listener.fileno()
        with (self._layout.log / f"{name}.log").open("ab") as output:
            self._children[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(extra),
                pass_fds=(3,) if descriptor is not None else (),
                preexec_fn=_die_with_parent(descriptor),  # noqa: PLW1509 - the supervisor has no threads
            )

    # the service watchdog: what WatchdogSec= does

    def _open_notify(self) -> socket.socket:
        self._notify_path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        notify.bind(str(self._notify_path))
        self._loop.watch(notify.fileno(), self._notified)
        return notify

    def _notified(self) -> None:
        if b"WATCHDOG=1" in self._notify.recv(4096):
            self._petted_at = time.monotonic()

    def _check_watchdog(self) -> None:
        left_s = self._petted_at + self._settings.service_watchdog_s - time.monotonic()
        agent = self._children.get("agent")
        if agent is None:
            return
        if left_s <= 0:
            self._tell("service watchdog: the agent does not pet, killed")
            agent.kill()
        else:
            self._later(left_s, self._check_watchdog)
