"""The simulated terminal's hardware and service manager: power, reset, bootloader, processes, watchdogs, serial line.

It runs the three real processes as systemd would (socket activation, restart, service watchdog), from whatever slot
the bootloader starts. Cutting the power kills everything at once. What a SIGKILL cannot show is loss of data that was
written but not flushed; that is the crash medium's business (posagent.sim.medium).
"""

from __future__ import annotations

import ctypes
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posagent import wire
from posagent.config import load
from posagent.core.errors import PosagentError
from posagent.core.ports import Message
from posagent.platform.bootctl import UbootBootControl
from posagent.platform.host import LinuxClock
from posagent.platform.loop import Loop, LoopTimer
from posagent.platform.sockets import Stream
from posagent.sim import bootloader, image
from posagent.sim.layout import Layout

WORKERS = ("installer", "fetcher", "selftest")
RESTART_S = 0.1
STOP_S = 2.0
HANG_S = 3.0
PR_SET_PDEATHSIG = 1


def _die_with_parent(listener: int | None) -> Callable[[], None]:
    """Runs in the child before exec: end when the supervisor ends; put an activated socket on descriptor 3."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if listener is not None:
            os.dup2(listener, 3)
            os.set_inheritable(3, True)

    return prepare


class Hardware:
    """One terminal that can be switched on, off and on again."""

    def __init__(self, layout: Layout, on_event: Callable[[str], None]) -> None:
        self._layout = layout
        self._settings = layout.settings
        self._config = load(str(layout.config))
        self._boot = UbootBootControl(self._config.boot, self._config.slots)
        self._loop = Loop(LinuxClock())
        self._tell = on_event
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._timers: list[LoopTimer] = []
        self._petted_at = 0.0
        self._watchdog_armed = False
        self._booted: str | None = None
        self._boots = 0
        self._lines = _Lines(layout, self._loop)
        self._control = _Control(layout, self._loop, self._answer)
        self._notify = self._open_notify()
        self._watchdog = self._open_watchdog()

    # power

    def run(self) -> None:
        """Switch on and serve until `stop`."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._loop.stop())
        self._loop.watch(reader, lambda: self._signalled(reader))
        self.power_on()
        try:
            self._loop.run()
        finally:
            self.power_off()
            self._control.close()

    def power_on(self) -> None:
        if self._booted is None and not self._timers:
            self._later(self._settings.boot_s, self._bootloader)

    def power_off(self) -> None:
        """Everything dies at once."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for name in list(self._listeners):
            self._close_listener(name)
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            child.wait()
        self._children.clear()
        self._booted = None
        self._watchdog_armed = False
        self._lines.forget()

    def cut(self, off_s: float) -> None:
        self._tell("power cut")
        self.power_off()
        self._later(off_s, self._bootloader)

    def reset(self, why: str) -> None:
        self._tell(f"reset: {why}")
        self.power_off()
        self.power_on()

    def reboot(self) -> None:
        """An orderly restart: processes are asked to end, then killed."""
        self._tell("restart")
        for child in self._children.values():
            child.terminate()
        self._later(0.2, lambda: self.reset("restart"))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.action is not None]
        holder: list[LoopTimer] = []

        def act() -> None:
            if holder[0] in self._timers:
                self._timers.remove(holder[0])
            action()

        holder.append(self._loop.call_later(seconds, act))
        self._timers.append(holder[0])

    # start-up

    def _bootloader(self) -> None:
        self._boots += 1
        slot = bootloader.choose(self._boot.read, self._boot.write)
        if slot is None:
            self._tell("bootloader: no try left anywhere, counters refilled")
            self._later(self._settings.boot_s, self._bootloader)
            return
        self._tell(f"bootloader starts slot {slot}")
        (self._layout.cmdline).write_text(f"console=ttyS0 root=/dev/slot-{slot} posagent.slot={slot} quiet\n")
        if not image.read_out(self._layout.slot(slot), self._layout.booted_root):
            self._tell(f"kernel panic: slot {slot} holds no bootable system")
            self._later(self._settings.boot_s, self._bootloader)
            return
        self._kernel(slot)

    def _kernel(self, slot: str) -> None:
        fault = (self._layout.booted_root / "pos/boot-fault").read_text().strip()
        if fault == "panic":
            self._tell("kernel panic: simulated fault of this image")
            self._later(self._settings.boot_s, self._bootloader)
        elif fault == "hang":
            self._tell("system hangs: simulated fault of this image; waiting for the hardware watchdog")
            self._later(HANG_S, lambda: self.reset("hardware watchdog"))
        else:
            self._later(self._settings.boot_s, lambda: self._userland(slot))

    def _userland(self, slot: str) -> None:
        self._booted = slot
        run = self._layout.run
        for leftover in run.iterdir():
            if leftover != self._notify_path:
                leftover.unlink()
        for name in WORKERS:
            self._listen(name)
        port = str(self._settings.payment_port)
        self._spawn("payment", [sys.executable, str(self._layout.booted_root / "pos/payment.py"), port], {})
        self._start_agent()
        self._watch_trial(slot)
        self._tell(f"system up on slot {slot}")

    def _start_agent(self) -> None:
        if self._booted is None:
            return
        self._petted_at = time.monotonic()
        seconds = self._settings.service_watchdog_s
        self._spawn(
            "agent",
            [sys.executable, "-m", "posagent.daemon", "--config", str(self._layout.config)],
            {"NOTIFY_SOCKET": str(self._notify_path), "WATCHDOG_USEC": str(seconds * 1_000_000)},
        )
        self._later(seconds, self._check_service_watchdog)

    def _watch_trial(self, slot: str) -> None:
        """What posagent-trial@.timer does: restart a trial boot that nobody confirmed in time."""
        marker = Path(self._config.installer_dir) / f"trial-{slot}"
        if marker.exists():
            timeout = self._settings.trial_timeout_s
            self._later(timeout, lambda: self.reset("trial timer") if marker.exists() else None)

    # processes

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "HOME", "PYTHONPATH", "LANG", "VIRTUAL_ENV")
        }
        if self._layout.clock.exists():
            library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
            if library is not None:
                offset = self._layout.clock.read_text().strip()
                environment |= {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
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
                preexec_fn=_die_with_parent(descriptor),
            )

    def _listen(self, name: str) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._layout.run / f"{name}.sock"))
        listener.listen(8)
        self._listeners[name] = listener
        self._loop.watch(listener.fileno(), lambda: self._activate(name))

    def _close_listener(self, name: str) -> None:
        listener = self._listeners.pop(name)
        self._loop.watch(listener.fileno(), None)
        listener.close()

    def _activate(self, name: str) -> None:
        """A connection waits: start the worker, which then accepts by itself until it ends."""
        listener = self._listeners[name]
        self._loop.watch(listener.fileno(), None)
        command = [sys.executable, "-m", f"posagent.{name}.service", "--config", str(self._layout.config)]
        self._spawn(name, command, {"LISTEN_FDS": "1"}, listener)

    def _signalled(self, reader: int) -> None:
        os.read(reader, 512)
        for name, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[name]
                self._ended(name, child.returncode)

    def _ended(self, name: str, code: int) -> None:
        if name == "agent":
            if code:
                self._tell(f"agent ended with {code}")
            self._later(RESTART_S, self._start_agent)
        elif name in self._listeners:
            if code:
                self._tell(f"{name} ended with {code}")
            self._loop.watch(self._listeners[name].fileno(), lambda: self._activate(name))

    # watchdogs

    @property
    def _notify_path(self) -> Path:
        return self._layout.run / "notify"

    def _open_notify(self) -> socket.socket:
        self._notify_path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        notify.bind(str(self._notify_path))
        self._loop.watch(notify.fileno(), self._notified)
        return notify

    def _notified(self) -> None:
        if b"WATCHDOG=1" in self._notify.recv(4096):
            self._petted_at = time.monotonic()

    def _check_service_watchdog(self) -> None:
        seconds = self._settings.service_watchdog_s
        late = time.monotonic() - self._petted_at - seconds
        agent = self._children.get("agent")
        if late >= 0 and agent is not None:
            self._tell("service watchdog: agent does not pet, killed")
            agent.kill()
        elif agent is not None:
            self._later(-late, self._check_service_watchdog)

    def _open_watchdog(self) -> int:
        path = self._layout.watchdog
        if not path.exists():
            os.mkfifo(path)
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # also for writing, so that it never reads end-of-file
        self._loop.watch(descriptor, self._hardware_petted)
        return descriptor

    def _hardware_petted(self) -> None:
        os.read(self._watchdog, 4096)
        if self._booted is None:
            return
        first, self._watchdog_armed = not self._watchdog_armed, True
        self._hardware_petted_at = time.monotonic()
        if first:
            self._later(self._settings.watchdog_timeout_s, self._check_hardware_watchdog)

    def _check_hardware_watchdog(self) -> None:
        late = time.monotonic() - self._hardware_petted_at - self._settings.watchdog_timeout_s
        if late >= 0:
            self.reset("hardware watchdog")
        else:
            self._later(-late, self._check_hardware_watchdog)

    # control

    def _answer(self, verb: str, args: Mapping[str, Any]) -> Message:
        match verb:
            case "cut":
                self.cut(float(args.get("off_s", 1.0)))
            case "reboot":
                self.reboot()
            case "off":
                self._tell("switched off")
                self.power_off()
            case "on":
                self.power_on()
            case "stop":
                self._loop.stop()
            case "state":
                pass
            case _:
                raise PosagentError("unknown_verb", f"no control verb {verb[:40]!r}")
        pids = {name: child.pid for name, child in self._children.items()}
        return {"booted": self._booted, "boots": self._boots, "pids": pids}


class _Control:
    """The socket by which posagent-sim commands reach the running terminal."""

    def __init__(self, layout: Layout, loop: Loop, answer: Callable[[str, Mapping[str, Any]], Message]) -> None:
        self._path = layout.control
        self._loop = loop
        self._answer = answer
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen(8)
        loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        stream = Stream(connection, self._loop, lambda line: self._line(stream, line), lambda: None)

    def _line(self, stream: Stream, line: bytes) -> None:
        try:
            stream.send({"result": self._answer(*wire.request_of(wire.decode(line)))})
        except PosagentError as error:
            stream.send({"error": error.as_dict()})


class _Lines:
    """Two ptys joined like two ends of a serial cable: the terminal's port and the laptop's."""

    def __init__(self, layout: Layout, loop: Loop) -> None:
        self._loop = loop
        self._ends = [self._open(layout.serial), self._open(layout.laptop)]
        for index, (master, _) in enumerate(self._ends):
            loop.watch(master, lambda index=index: self._pass_on(index))  # type: ignore[misc]

    @staticmethod
    def _open(link: Path) -> tuple[int, int]:
        """Both descriptors stay open here, so that the line survives either end's going away."""
        master, slave = pty.openpty()
        tty.setraw(slave, termios.TCSANOW)
        os.set_blocking(master, False)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        return master, slave

    def _pass_on(self, index: int) -> None:
        try:
            data = os.read(self._ends[index][0], 4096)
            os.write(self._ends[1 - index][0], data)
        except BlockingIOError:
            pass  # nobody reads at the other end: a serial line drops bytes

    def forget(self) -> None:
        """Power went away: what was in the line towards the terminal is gone."""
        termios.tcflush(self._ends[0][1], termios.TCIOFLUSH)


def describe(layout: Layout) -> dict[str, str]:
    """What a script needs to know of a terminal."""
    return {
        "dir": str(layout.root),
        "socket": str(layout.api),
        "pty": str(layout.laptop.resolve()),
        "serial": str(layout.laptop),
        "config": str(layout.config),
        "control": str(layout.control),
        "keys": str(layout.keys),
    }


def event_line(text: str) -> str:
    """One line of the supervisor's own log."""
    return json.dumps({"at": round(time.time(), 3), "event": text})


def free_of(layout: Layout) -> None:
    """Remove a terminal's directory."""
    shutil.rmtree(layout.root, ignore_errors=True)
