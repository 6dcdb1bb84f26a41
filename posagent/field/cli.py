"""posagent-field: the engineer's laptop at the other end of the serial line. One command for a whole visit.

Rules: exit codes are 0 done, 2 usage, 3 refused, 4 failed, 5 not reachable, 130 interrupted. Leaving never stops an
update: it goes on without the laptop.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import posagent
from posagent import texts
from posagent.core.errors import EXIT_CODES, PosagentError
from posagent.field import arguments, laptop, passage, ports, report
from posagent.field.consent import Consent
from posagent.field.crew import exit_code
from posagent.field.link import Agree, LineLost, Terminal
from posagent.field.places import Berth, Places
from posagent.field.signing import Engineer
from posagent.field.tour import Tour
from posagent.field.visit import PATIENCE_S, SUPPORT, collect
from posagent.field.words import say, word

ANSWER_S = 4.0
"""A port where no terminal answered for so long leads to none."""
READY_S = 60.0
"""A terminal may be at something that ends soon when it is to be unlocked, such as sealing its log."""
TRIAL = "posagent-trial"
INTERRUPTED = 130


class Command:
    """One call of the program."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._arguments = given
        self._json: bool = given.json
        self._lang: str = given.lang or texts.language(laptop.language())
        self._plain = self._json or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb"

    def run(self) -> int:
        try:
            done: int = getattr(self, f"_{self._arguments.verb}")()
        except PosagentError as error:
            if self._json:
                print(json.dumps(error.as_dict()))
            else:
                print("\n".join(texts.error_lines(error.as_dict(), self._lang)), file=sys.stderr)
            return EXIT_CODES[error.spec.kind]
        return done

    def _print(self, answer: object, lines: Sequence[str]) -> int:
        print(json.dumps(answer) if self._json else "\n".join(lines), flush=True)
        return 0

    # ports

    def _look(self) -> list[str]:
        """The ports that are meant and there now."""
        listed = ports.ports()
        if self._arguments.ports:
            return laptop.ports_named(self._arguments.ports, [one.device for one in listed])
        return [one.device for one in listed if self._arguments.all or laptop.usual(one.device, one.usb)]

    def _open(self, port: str) -> ports.SerialLine:
        return ports.open_port(port, self._arguments.baud)

    def _terminal(self, port: str, **how: Any) -> Terminal:
        return Terminal(lambda: self._open(port), bytes_per_s=self._arguments.baud / 10, **how)

    def _reached(self, port: str) -> Terminal:
        """The terminal at a port. Raises PosagentError `no_terminal`, with why the port does not open."""
        try:
            self._open(port).close()
        except OSError as error:
            raise self._closed(port, error) from None
        terminal = self._terminal(port)
        try:
            terminal.connect(ANSWER_S)
        except LineLost:
            terminal.close()
            raise PosagentError("no_terminal", say("silent", self._lang, port)) from None
        return terminal

    def _closed(self, port: str, error: OSError) -> PosagentError:
        """Why the port does not open."""
        if error.errno == errno.EACCES:
            return PosagentError("no_terminal", say("denied", self._lang, port))
        return PosagentError("no_terminal", f"{port}: {os.strerror(error.errno) if error.errno else error}")

    def _ask(self, port: str) -> str:
        """The id of the terminal at a port, "" for none."""
        terminal = self._terminal(port)
        try:
            terminal.connect(ANSWER_S)
            return terminal.terminal_id
        except PosagentError:
            return ""
        finally:
            terminal.close()

    def _ports(self) -> int:
        found = self._look()
        told: dict[str, dict[str, Any]] = {}
        trouble: dict[str, str] = {}

        def ask(port: str) -> None:
            try:
                terminal = self._reached(port)
            except PosagentError as error:
                trouble[port] = error.detail
                return
            try:
                told[port] = terminal.call("status", timeout_s=ANSWER_S)
            except PosagentError as error:  # an old one, or busy
                told[port] = {"terminal": terminal.terminal_id, "slots": {}, "state": error.code}
            finally:
                terminal.close()

        threads = [threading.Thread(target=ask, args=(port,)) for port in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answer = [{"port": port, **_short(told.get(port)), "trouble": trouble.get(port, "")} for port in found]
        lines = [
            say("answers", self._lang, one["port"], one["terminal"], one["version"], word(one["state"], self._lang))
            if one["terminal"]
            else one["trouble"]
            for one in answer
        ]
        return self._print(answer, lines or [say("no_ports", self._lang)])

    # one terminal

    def _status(self) -> int:
        terminal = self._reached(self._arguments.port)
        try:
            status = terminal.call("status")
        finally:
            terminal.close()
        return self._print(status, texts.status_lines(status, self._lang))

    def _watch(self) -> int:
        terminal, show = self._reached(self._arguments.port), self._progress()
        try:
            while True:
                try:
                    terminal.call("watch", on_progress=show, timeout_s=PATIENCE_S)
                except LineLost as error:
                    if not error.forgotten:
                        raise
        finally:
            terminal.close()

    def _progress(self) -> Callable[[dict[str, Any]], None]:
        """Prints a status wherever it is another than the last."""
        shown = ""

        def show(status: dict[str, Any]) -> None:
            nonlocal shown
            line = json.dumps(status) if self._json else texts.progress_line(status, self._lang)
            if line != shown:
                print(line, flush=True)
                shown = line

        return show

    def _support(self) -> int:
        given = self._arguments
        consent = self._consent(SUPPORT)
        terminal = self._reached(given.port)
        try:
            terminal.keep()
            terminal.unlock_soon(SUPPORT, consent.unlock, patience_s=READY_S)
            made = collect(terminal, terminal.terminal_id, given.out)
        finally:
            terminal.close()
        return self._print(made, [say("support_made", self._lang, given.out / made["file"], made["code"])])

    def _rollback(self) -> int:
        def going_back(terminal: Terminal, agree: Agree) -> int:
            started = terminal.call_signed("rollback", agree=agree)
            outcome = terminal.follow(started["id"], self._progress())["outcome"]
            self._print({**started, "outcome": outcome}, [texts.outcome_line(outcome, self._lang)])
            return exit_code([outcome["outcome"]])

        return self._signed("rollback", going_back)

    def _allow(self) -> int:
        def allowing(terminal: Terminal, agree: Agree) -> int:
            allowed = terminal.call_signed("allow", {"bundle": self._arguments.bundle}, agree=agree)
            return self._print(allowed, [say("allowed", self._lang, self._arguments.bundle, terminal.terminal_id)])

        return self._signed(self._arguments.role, allowing)

    def _signed(self, role: str, work: Callable[[Terminal, Agree], int]) -> int:
        """Something that is signed for once more, by an engineer who is shown what."""
        consent = self._consent(role, beforehand=self._arguments.sign)
        terminal = self._reached(self._arguments.port)
        try:
            terminal.keep()
            terminal.unlock_soon(role, consent.unlock, patience_s=READY_S)
            return work(terminal, consent.agree)
        finally:
            terminal.close()

    def _console(self) -> int:
        if not sys.stdin.isatty():
            raise PosagentError("bad_request", "the console needs a terminal to type at")
        port = self._arguments.port
        try:
            line = self._open(port)
        except OSError as error:
            raise self._closed(port, error) from None
        print(say("console", self._lang, port), file=sys.stderr)
        gone = say("console_over", self._lang)
        well = passage.pass_through(line, passage.keyboard(), lambda: print(f"\r\n{gone}\r", file=sys.stderr))
        line.close()
        return 0 if well else EXIT_CODES[PosagentError("line_lost").spec.kind]

    def _consent(self, role: str, *, beforehand: str = "") -> Consent:
        return Consent(
            self._engineer(role),
            show=lambda line: print(line, file=sys.stderr, flush=True),
            ask=_typed if sys.stdin.isatty() else lambda _: None,
            lang=self._lang,
            beforehand=beforehand,
        )

    # a whole visit

    def _engineer(self, role: str) -> Engineer:
        """Whose key works: better found out here than in front of the first terminal."""
        engineer = Engineer(self._arguments.key)
        engineer.check(role, time.time())
        if not engineer.certificate.needs_touch:
            engineer.sign(b"", TRIAL)
        return engineer

    def _run(self) -> int:
        given = self._arguments
        tour = Tour(
            engineer=self._engineer(given.role),
            role=given.role,
            bundle=given.bundle,
            at_once=given.now,
            out=given.out,
            lang=self._lang,
        )
        show = None if self._json else lambda line: print(line, flush=True)
        with tour.crew(Places(self._look, self._open), self._connect, self._ask) as crew:
            if self._plain or given.plain or not tour.live(crew):
                tour.plain(crew, count=given.count, minutes=given.minutes, show=show)
        final, unsigned = tour.close()
        if unsigned is not None:
            print(say("not_signed", self._lang, unsigned.detail), file=sys.stderr)
        if not final["terminals"] and not tour.interrupted:
            raise PosagentError("no_terminal", "no terminal answered at any port")
        self._print(final, [say("reported", self._lang, tour.files.json)])
        return INTERRUPTED if tour.interrupted else exit_code([one["outcome"] for one in final["terminals"]])

    def _connect(self, berth: Berth) -> Terminal:
        def heard(state: str) -> None:
            if state == "connected":
                berth.reached(terminal.terminal_id)

        terminal = Terminal(berth.open_line, on_state=heard, bytes_per_s=self._arguments.baud / 10)
        terminal.keep()
        return terminal

    # reports

    def _report(self) -> int:
        path = self._arguments.file
        if self._arguments.what == "show":
            _, found = report.read(path)
            return self._print(found, report.lines(found, self._lang))
        found, signed = report.verify(path, self._arguments.ca)
        answer = {"engineer": signed.by.name, "key": signed.by.fingerprint, "authority": signed.authority}
        line = (
            say("good_report", self._lang, signed.by.name, signed.authority)
            if signed.authority
            else say("unproven", self._lang, signed.by.name)
        )
        return self._print(answer, [line])

    def _version(self) -> int:
        return self._print({"version": posagent.__version__}, [posagent.__version__])


def _typed(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _short(status: dict[str, Any] | None) -> dict[str, str]:
    if status is None:
        return {"terminal": "", "version": "", "state": ""}
    booted = status["slots"].get(status.get("booted")) or {}
    return {"terminal": status["terminal"], "version": booted.get("version", ""), "state": status["state"]}


def main(argv: Sequence[str] | None = None) -> int:
    given = arguments.parser().parse_args(argv)
    try:
        return Command(given).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is left is not written at exit
        return EXIT_CODES[PosagentError("internal").spec.kind]


if __name__ == "__main__":
    sys.exit(main())
