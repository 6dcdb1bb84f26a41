"""The engineer's end of the serial line: types, reads the screen, signs challenges. The terminal is a whole one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posagent import config as configuration
from posagent.console.access import Access, SessionLimits
from posagent.console.auth import Gatekeeper
from posagent.console.commands import LineApi
from posagent.console.grammar import PROMPT
from posagent.console.question import Api
from posagent.console.receive import Receiver
from posagent.console.session import Session
from posagent.core.ports import Worker
from posagent.installer.service import Installer, linux_ports
from posagent.platform.storage import LinuxFiles
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.virtual import LocalWorker
from tests.console.engineers import sign


class Laptop:
    """Plugged into `terminal`. `screen` is everything it ever showed."""

    def __init__(
        self,
        terminal: InProcessTerminal,
        certificates: Mapping[str, Path],
        limits: SessionLimits | None = None,
        *,
        api: Api | None = None,
        engineer: Worker | None = None,
    ) -> None:
        self.terminal = terminal
        self.screen = b""
        self._certificates = certificates
        self._limits = limits or SessionLimits()
        self.plug_in(api, engineer)

    def plug_in(
        self,
        api: Api | None = None,
        engineer: Worker | None = None,
        *,
        baud: int = 115200,
        receiver: Receiver | None = None,
    ) -> None:
        """A session as the agent makes it when it starts: with the terminal's API and installer where None."""
        terminal, config = self.terminal, configuration.load(str(self.terminal.layout.config))
        assert terminal.evidence is not None
        self.access = Access(
            timers=terminal.time,
            clock=terminal.time,
            engineer=engineer or LocalWorker(Installer(config, linux_ports(config)).verbs, terminal.time),
            gatekeeper=Gatekeeper(
                files=LinuxFiles(),
                path=f"{config.terminal.state_dir}/console.json",
                clock=terminal.time,
                terminal=config.terminal.id,
                boot_id=terminal.layout.boot_id.read_text().strip(),
            ),
            limits=self._limits,
            hears=terminal.evidence.hear,
        )
        self.session = Session(
            api=LineApi(api or terminal.api, self.access),
            write=self._show,
            timers=terminal.time,
            clock=terminal.time,
            access=self.access,
            baud=baud,
            receiver=receiver,
        )

    def _show(self, data: bytes) -> None:
        self.screen += data

    def type(self, text: str | bytes) -> str:
        """Type as it is; returns what the screen shows of it at once."""
        before = len(self.screen)
        self.session.feed(text.encode() if isinstance(text, str) else text)
        return self.screen[before:].decode()

    def ask(self, line: str) -> str:
        """Type a line and wait for the next prompt; returns what was answered, without echo and prompt."""
        before = len(self.screen)
        self.type(line + "\r")
        self.terminal.run_until(lambda _: self.screen[before:].endswith(PROMPT))
        return self.screen[before:].decode().removeprefix(line).removesuffix(PROMPT.decode()).strip("\r\n")

    def ask_json(self, line: str) -> dict[str, Any]:
        """The one line of JSON that the command answers with."""
        (answer,) = self.ask(line + " --json").splitlines()
        value: dict[str, Any] = json.loads(answer)
        return value

    def code(self, line: str) -> str:
        """The code of the error that the command answers with; empty where it does not."""
        return str(self.ask_json(line).get("code", ""))

    def sign(self, challenge: str, who: str = "update") -> str:
        """An answer as it is pasted: every line ended by a carriage return, the last one left to `ask`."""
        return sign(self._certificates[who], challenge).rstrip("\n").replace("\n", "\r")

    def unlock(self, role: str = "update", who: str = "") -> str:
        """Ask for a challenge, sign it, paste the signature; returns what the terminal said."""
        return self.ask(self.sign(self.ask_json(f"unlock {role}")["challenge"], who or role))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The audit log's last records, oldest first."""
        assert self.terminal.evidence is not None
        return self.terminal.evidence.log.last(200)

    def heard(self, *names: str) -> list[tuple[Any, ...]]:
        """What stands in each of them."""
        return [tuple(record.get(name) for name in names) for record in self.records]

    @property
    def locked(self) -> bool:
        return "locked" in self.ask("history")
