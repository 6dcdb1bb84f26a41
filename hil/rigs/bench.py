"""A terminal on labgrid, in QEMU or on a bench: everything a scenario needs goes over its power switch and consoles.

Owns: how the agent is asked over the root shell of the main console, and the server of the bundles that it is offered.
Rules: a shell that does not answer is a terminal that restarts; it is tried again until the deadline of who waits.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labgrid import Environment
from labgrid.driver import ExecutionError
from pexpect import EOF, TIMEOUT

from hil.repository import LOOPBACK, Repository
from hil.rigs.options import Options
from hil.terminal import NotOnThisRig
from posagent.core.errors import PosagentError

NO_ANSWER = (TIMEOUT, EOF, ExecutionError, OSError)
COMMAND_S = 60
ANSWER_S = 4 * COMMAND_S
"""For a status: a shell that is lost once is found again in that time."""
PAYMENT_S = 300
"""From a start, or the end of an update, until the payment program answers and takes payments."""
POLL_S = 0.3
SEEN, LOST = "status seen", "status lost"
WATCH = (
    """grep -qm1 {pattern} < <(timeout {seconds} posagent watch --json)"""
    """ && echo status' 'seen || echo status' 'lost"""
)
"""For an interactive bash; the words are quoted so that their echo is not taken for them."""


class LabgridRig:
    """hil.terminal.Terminal over labgrid. `make_bundle(path, version, fault)` and `make_parameters(path, version,
    values)` make what is offered, on the address `bind` of this machine, which the terminal knows as `host`. `payment`
    is the command that asks the payment program."""

    transcript: Path | None = None
    """What the main console has said since the rig began, where somebody writes it down."""

    def __init__(
        self,
        base: Path,
        target: Any,
        make_bundle: Callable[[Path, str, str], Path],
        make_parameters: Callable[[Path, str, Mapping[str, Any]], Path],
        host: str,
        payment: str,
        bind: str = LOOPBACK,
    ) -> None:
        self._base = base
        self._make_bundle, self._make_parameters = make_bundle, make_parameters
        self._payment = payment
        self._target = target
        self._power = self._target.get_driver("PowerProtocol")
        self._shell = self._target.get_driver("ShellDriver", activate=False)
        self._repository = Repository(base / "served", host, bind=bind)

    def close(self) -> None:
        self._repository.close()
        self._forget_shell()
        self._target.deactivate_all_drivers()

    # power

    def power_on(self) -> None:
        self._power.on()

    def power_off(self) -> None:
        self._forget_shell()
        self._power.off()

    def power_cut(self, off_s: float) -> None:
        self.power_off()
        time.sleep(off_s)
        self.power_on()

    def set_power(self, *, battery_percent: int, charger: bool) -> None:
        raise NotOnThisRig("nobody can set this terminal's battery")

    def set_clock_offset(self, seconds: int) -> None:
        raise NotOnThisRig("a bench cannot set the board's clock")

    # the shell on the main console

    def run(self, command: str, timeout_s: float = COMMAND_S) -> tuple[str, int]:
        """What a command prints and its exit code. Raises one of NO_ANSWER."""
        self._target.activate(self._shell)
        try:
            lines, _, code = self._shell.run(command, timeout=timeout_s)
        except NO_ANSWER:
            self._forget_shell()
            raise
        return "\n".join(lines), code

    def _forget_shell(self) -> None:
        self._target.deactivate(self._shell)

    def slot_booted(self) -> str | None:
        asked = "cat /proc/cmdline"
        try:
            words, _ = self.run(asked)
        except NO_ANSWER:  # the shell was of a start before this one: the next is a new one
            words, _ = self.run(asked)
        return next((word.partition("=")[2] for word in words.split() if word.startswith("posagent.slot=")), None)

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        words = ["posagent", verb, "--json", *map(str, args.values())]
        said, code = self.run(" ".join(map(shlex.quote, words)))
        line = next((line for line in reversed(said.splitlines()) if line.startswith("{")), None)
        if line is None:
            raise PosagentError("agent_unreachable", said[-200:])
        answer: dict[str, Any] = json.loads(line)
        if code:
            raise PosagentError.from_dict(answer)
        return answer

    def wait(self, reached: Callable[[Mapping[str, Any]], object], timeout_s: float) -> dict[str, Any]:
        deadline, last = time.monotonic() + timeout_s, "nothing"
        while time.monotonic() < deadline:
            try:
                status = self.ask("status")
                if reached(status):
                    return status
                last = f"{status['state']}, {status['problems']}"
            except NO_ANSWER as error:
                last = f"no answer: {type(error).__name__}"
            except PosagentError as error:
                last = str(error)
            time.sleep(POLL_S)
        raise TimeoutError(f"not reached in {timeout_s:.0f} s; last: {last}")

    def wait_state(self, state: str, timeout_s: float) -> None:
        self._watch(f'"state": "{state}".*"booted": "', timeout_s)

    def wait_outcome(self, update_id: str, timeout_s: float) -> dict[str, Any]:
        """Asking again and again would take the terminal half of its time."""
        self._watch(f'"last_outcome": {{.*"id": "{update_id}"', timeout_s)
        status = self.wait(lambda status: (status["last_outcome"] or {}).get("id") == update_id, ANSWER_S)
        outcome: dict[str, Any] = status["last_outcome"]
        return outcome

    def _watch(self, pattern: str, timeout_s: float) -> None:
        """Until that is in the status. The terminal itself watches: some states last shorter than a question takes.
        When it restarts, the console asks for a login again, and so do we."""
        deadline, last = time.monotonic() + timeout_s, "nothing"
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._target.activate(self._shell)
                console = self._shell.console
                console.sendline(WATCH.format(pattern=shlex.quote(pattern), seconds=int(left) + 1))
                found, *_ = console.expect([SEEN, LOST, self._shell.login_prompt], timeout=left)
                if found == 0:
                    return
                last = "restarted" if found == 2 else "the agent does not answer"
            except NO_ANSWER as error:
                last = f"no answer: {type(error).__name__}"
                found = 2
            if found == 2:
                self._forget_shell()
            time.sleep(POLL_S)
        raise TimeoutError(f"{pattern} not seen in {timeout_s:.0f} s; last: {last}")

    def field_line(self) -> str:
        raise NotOnThisRig("there is no field line")

    def engineer_ca(self) -> Path:
        raise NotOnThisRig("there is no key that certifies engineers")

    def bundle(self, version: str) -> Path:
        return self._make_bundle(self._base / f"{version}.bundle", version, "none")

    def publish(self, version: str, fault: str = "none") -> str:
        made = self._make_bundle(self._base / f"{version}-{fault}.bundle", version, fault)
        return self._repository.offer(made)

    def publish_parameters(self, version: str, values: Mapping[str, Any]) -> str:
        return self._repository.offer(self._make_parameters(self._base / f"{version}.bundle", version, values))

    # the payment program

    def pay(self) -> None:
        self._asked("pay", lambda said: said.startswith("PAID "))

    def payments(self) -> int:
        count, _, state = self._asked("list", lambda said: " " in said).partition(" ")
        if state != "sound":
            raise AssertionError(f"of {count} payments some are {state}")
        return int(count)

    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._asked("parameters", lambda said: said.startswith("{")))
        return found

    def _asked(self, word: str, is_answer: Callable[[str], bool]) -> str:
        """What the payment program says, asked again until it is an answer. Raises TimeoutError."""
        if not self._payment:
            raise NotOnThisRig("there is no command that asks the payment program")
        deadline, said = time.monotonic() + PAYMENT_S, ""
        while time.monotonic() < deadline:
            try:
                said, _ = self.run(f"{self._payment} {word}")
                if is_answer(said):
                    return said
            except NO_ANSWER as error:
                said = f"no answer: {type(error).__name__}"
            time.sleep(POLL_S)
        raise TimeoutError(f"{word}: the payment program says {said!r}")


class BenchRig(LabgridRig):
    """The terminal that a labgrid environment describes, as it leaves the factory, switched on."""

    def __init__(self, base: Path, path: Path) -> None:
        environment = Environment(str(path))
        self._options = options = Options.of(environment.config.get_targets()["terminal"].get("options", {}))
        target = environment.get_target("terminal")
        super().__init__(
            base, target, options.bundle, options.parameters, options.host, options.payment, bind=options.host
        )
        self.power_off()
        options.reset()
        if options.set_power:  # an earlier scenario may have left it nearly empty
            self.set_power(battery_percent=90, charger=True)
        self.power_on()

    def set_power(self, *, battery_percent: int, charger: bool) -> None:
        self._options.power(battery_percent, charger)

    def field_line(self) -> str:
        return self._options.field

    def engineer_ca(self) -> Path:
        return self._options.desk()
