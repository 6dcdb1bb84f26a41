"""Puts the field engineer's serial line together: the port, both modes of it, what guards them, what receives files.

A part of the composition root posagent.daemon; nobody else imports it.
"""

from __future__ import annotations

from collections.abc import Callable

from posagent.config import Config
from posagent.console.access import Access, Hears, SessionLimits
from posagent.console.auth import Gatekeeper
from posagent.console.commands import LineApi
from posagent.console.machine import Machine
from posagent.console.port import SerialPort
from posagent.console.question import Api
from posagent.console.session import Session
from posagent.console.switch import Switch
from posagent.console.upload import Inbox
from posagent.core.ports import Clock, Files, Worker
from posagent.platform.host import boot_id
from posagent.platform.loop import Loop
from posagent.platform.receiver import ZmodemReceiver
from posagent.platform.storage import SHARED_FILE_MODE, LinuxFiles


def open_line(
    config: Config,
    *,
    loop: Loop,
    clock: Clock,
    files: Files,
    api: Api,
    engineer: Worker,
    hears: Hears,
    source: Callable[[], str],
) -> None:
    """From now on it answers. `engineer` looks at signatures, `hears` is the audit log, `source` tells where the update
    that is under way comes from."""
    console, fetch = config.console, config.fetch
    gatekeeper = Gatekeeper(
        files=files,
        path=f"{config.terminal.state_dir}/console.json",
        clock=clock,
        terminal=config.terminal.id,
        boot_id=boot_id(config.boot.boot_id_file),
    )
    limits = SessionLimits(
        session_s_max=console.session_s_max, idle_s_max=console.idle_s_max, actions_max=console.actions_max
    )

    def guard() -> Access:
        """Of one mode of the line."""
        return Access(timers=loop, clock=clock, engineer=engineer, gatekeeper=gatekeeper, limits=limits, hears=hears)

    people, programs = guard(), guard()
    inbox = Inbox(
        files=LinuxFiles(SHARED_FILE_MODE),
        directory=fetch.inbox_dir,
        timers=loop,
        clock=clock,
        bytes_max=fetch.download_bytes_max,
        keep_free_bytes=fetch.keep_free_bytes,
        in_use=source,
    )
    receiver = ZmodemReceiver(
        command=console.rz,
        inbox_dir=fetch.inbox_dir,
        bytes_max=fetch.download_bytes_max,
        keep_free_bytes=fetch.keep_free_bytes,
        timers=loop,
        clock=clock,
        lend=lambda to: port.lend(to),
        take_back=lambda: port.take_back(),
        adopt=inbox.adopt,
    )
    session = Session(
        api=LineApi(api, people),
        write=lambda data: port.write(data),
        timers=loop,
        clock=clock,
        access=people,
        baud=console.baud,
        receiver=receiver,
    )
    machine = Machine(
        api=LineApi(api, programs),
        write=lambda data: port.write(data),
        timers=loop,
        clock=clock,
        access=programs,
        inbox=inbox,
        files=files,
        terminal=config.terminal.id,
        bytes_per_s=console.baud / 10,
    )
    switch = Switch(session, machine)
    port = SerialPort(
        device=console.device,
        baud=console.baud,
        watch=loop.watch,
        timers=loop,
        on_data=switch.feed,
        on_lost=switch.hang_up,
    )
