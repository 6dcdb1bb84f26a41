"""The simulated terminal's hardware: power, reset, bootloader, kernel, hardware watchdog, serial line.

It starts the real processes (posagent.sim.services) from whatever slot the bootloader chose. Cutting the power kills
everything at once. What a SIGKILL cannot show is the loss of data that was written but not flushed; that is the crash
medium's business (posagent.crash.medium).
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posagent import wire
from posagent.config import load
from posagent.core.errors import PosagentError
from posagent.core.ports import Message, ResetCause
from posagent.platform.host import LinuxClock
from posagent.platform.loop import Loop, LoopTimer
from posagent.platform.reset import TRIAL_LOG
from posagent.platform.sockets import Stream
from posagent.platform.uboot import UbootBootControl
from posagent.sim import bootloader, image
from posagent.sim.layout import Layout
from posagent.sim.lines import Lines
from posagent.sim.peripherals import ANSWERS, Peripherals
from posagent.sim.services import Services

STOP_S = 0.3
HANG_S = 0.5
IN_ORDER = ("restart", "trial timer")
"""Resets that a system makes by itself; all others are the hardware watchdog's."""


class Hardware:
    """One terminal that can be switched on, off and on again."""

    def __init__(self, layout: Layout, on_event: Callable[[str], None]) -> None:
        self._layout = layout
        self._settings = layout.settings
        self._config = load(str(layout.config))
        places = dataclasses.replace(self._config.boot, env_config=str(layout.bootloader_config))
        self._boot = UbootBootControl(places, self._config.slots)
        self._loop = Loop(LinuxClock())
        self._tell = on_event
        self._timers: set[LoopTimer] = set()
        self._booted: str | None = None
        self._cause = ResetCause.POWER
        self._boots = 0
        self._began_at = 0.0
        self._lines = Lines(layout, self._loop)
        self._peripherals = Peripherals(layout, self._loop)
        self._services = Services(layout, self._loop, self._later, on_event)
        self._control = _Control(layout, self._loop, self._answer)
        self._watchdog = self._open_watchdog()
        self._watchdog_petted_at: float | None = None

    def run(self) -> None:
        """Switch on and serve until told to stop."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._loop.stop())

        def signalled() -> None:
            os.read(reader, 512)
            self._services.reap()

        self._loop.watch(reader, signalled)
        self.power_on()
        try:
            self._loop.run()
        finally:
            self.power_off()
            self._control.close()

    # power

    def power_on(self) -> None:
        if self._booted is None and not self._timers:
            self._later(self._settings.boot_s, self._bootloader)

    def power_off(self) -> None:
        """Everything dies at once."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._services.kill()
        self._booted = None
        self._watchdog_petted_at = None
        self._lines.forget()

    def cut(self, off_s: float) -> None:
        self._tell("power cut")
        self.power_off()
        self._cause = ResetCause.POWER
        self._later(off_s, self._bootloader)

    def reset(self, why: str) -> None:
        self._tell(f"reset: {why}")
        self.power_off()
        self._cause = ResetCause.REBOOT if why in IN_ORDER else ResetCause.WATCHDOG
        self.power_on()

    def reboot(self) -> None:
        """An orderly restart: processes are asked to end, then the hardware resets."""
        self._services.terminate()
        self._later(STOP_S, lambda: self.reset("restart"))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Plan something that a power cut forgets."""

        def act() -> None:
            self._timers.discard(timer)
            action()

        timer = self._loop.call_later(seconds, act)
        self._timers.add(timer)

    # start-up

    def _bootloader(self) -> None:
        self._boots += 1
        self._began_at = time.monotonic()
        slot = bootloader.choose(self._boot.read, self._boot.write)
        if slot is None:
            self._tell("bootloader: no try left anywhere, counters refilled")
            self._later(self._settings.boot_s, self._bootloader)
            return
        self._tell(f"bootloader starts slot {slot}")
        self._layout.boot_id.write_text(f"{uuid.uuid4()}\n")
        self._layout.cmdline.write_text(
            f"console=ttyS0 posagent.slot={slot} posagent.reset={self._cause.value} quiet\n"
        )
        if not image.read_out(self._layout.slot(slot), self._layout.booted_root):
            self._tell(f"kernel panic: slot {slot} holds no bootable system")
            self._cause = ResetCause.PANIC
            self._later(self._settings.boot_s, self._bootloader)
            return
        self._kernel(slot)

    def _kernel(self, slot: str) -> None:
        fault = (self._layout.booted_root / "pos/boot-fault").read_text().strip()
        if fault == "panic":
            self._tell("kernel panic: this image is made to")
            self._cause = ResetCause.PANIC
            self._later(self._settings.boot_s, self._bootloader)
        elif fault == "hang":
            self._tell("system hangs: this image is made to; waiting for the hardware watchdog")
            self._later(HANG_S, lambda: self.reset("hardware watchdog"))
        else:
            self._later(self._settings.boot_s, lambda: self._userland(slot, fault))

    def _userland(self, slot: str, fault: str) -> None:
        self._booted = slot
        self._layout.ready_s.write_text(f"{time.monotonic() - self._began_at:.3f}\n")
        self._services.start(agent=fault != "agent-dead")
        self._watch_trial(slot)
        self._tell(f"system up on slot {slot}")

    def _watch_trial(self, slot: str) -> None:
        """What posagent-trial@.timer and its service do: restart a trial boot that nobody confirmed in time, in good
        order, and leave word of it for the next start."""
        places = Path(self._config.terminal.installer_dir)
        marker = places / f"trial-{slot}"

        def restart() -> None:
            if marker.exists():
                said = f"posagent-trial@{slot}.service - Restart: slot {slot} was not confirmed in time"
                (places / TRIAL_LOG).write_text(f"{self._layout.boot_id.read_text().strip()}\n{said}\n")
                self.reset("trial timer")

        if marker.exists():
            self._later(self._settings.trial_timeout_s, restart)

    # the hardware watchdog

    def _open_watchdog(self) -> int:
        path = self._layout.watchdog
        if not path.exists():
            os.mkfifo(path)
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # also for writing, so that it never reads end-of-file
        self._loop.watch(descriptor, self._petted)
        return descriptor

    def _petted(self) -> None:
        os.read(self._watchdog, 4096)
        if self._booted is None:
            return
        armed = self._watchdog_petted_at is not None
        self._watchdog_petted_at = time.monotonic()
        if not armed:
            self._later(self._settings.watchdog_timeout_s, self._check_watchdog)

    def _check_watchdog(self) -> None:
        if self._watchdog_petted_at is None:
            return
        left_s = self._watchdog_petted_at + self._settings.watchdog_timeout_s - time.monotonic()
        if left_s <= 0:
            self.reset("hardware watchdog")
        else:
            self._later(left_s, self._check_watchdog)

    # control

    def _set_peripheral(self, name: str, *, works: bool) -> None:
        if name not in ANSWERS:
            raise PosagentError("bad_request", f"there is no {name[:40]!r}; there are: {', '.join(ANSWERS)}")
        broken = self._peripherals.broken
        (broken.discard if works else broken.add)(name)

    def _answer(self, verb: str, args: Mapping[str, Any]) -> Message:
        match verb:
            case "cut":
                self.cut(float(args.get("off_s", 1.0)))
            case "reboot":
                self._tell("restart")
                self.reboot()
            case "reload":
                self._tell("the payment program reads its parameters")
                self._services.reload()
            case "off":
                self._tell("switched off")
                self.power_off()
                self._cause = ResetCause.POWER
            case "on":
                self.power_on()
            case "unplug":
                self._lines.unplug()
            case "plug":
                self._lines.plug(self._layout.laptop.with_name(Path(str(args.get("as", "laptop"))).name))
            case "peripheral":
                self._set_peripheral(str(args.get("name")), works=args.get("works") is not False)
            case "stop":
                self._loop.stop()
            case "state":
                pass
            case _:
                raise PosagentError("unknown_verb", f"no control verb {verb[:40]!r}")
        return {"booted": self._booted, "boots": self._boots, "pids": self._services.pids}


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


def describe(layout: Layout) -> dict[str, str]:
    """What a script needs to know of a terminal."""
    return {
        "dir": str(layout.root),
        "socket": str(layout.api),
        "pty": str(layout.laptop),
        "config": str(layout.config),
        "control": str(layout.control),
        "keys": str(layout.keys),
    }


def event_line(text: str) -> str:
    """One line of the simulation's own log."""
    return json.dumps({"at": round(time.time(), 3), "event": text})
