"""posagent: the command on the terminal. One verb of the agent's API each, for people and (`--json`) for scripts.

Rules: exit codes are 0 done, 2 usage, 3 refused, 4 failed, 5 not reachable, 130 interrupted. Interrupting a command
that follows an update stops following (exit code 0), never the update.
"""

from __future__ import annotations

import argparse
import binascii
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import posagent
from posagent import config as configuration
from posagent import texts, texts_inspection, wire
from posagent.core.errors import EXIT_CODES, Kind, PosagentError, Refusal

SOCKET = "/run/posagent/api.sock"
ANSWER_S = 60.0
SUPPORT_S = 90.0
"""Longer than the agent waits for it."""
QUIET_S = 3600.0
RECONNECT_S = 600.0
RECONNECT_PAUSE_S = 0.2
NOT_COMMITTED = 4
INTERRUPTED = 130


class NobodyReads(Exception):
    """Standard output is closed, as by `head`. No OSError: the socket's caller would take it for its own."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="posagent", description="Ask the update agent of this terminal.")
    parser.add_argument("--socket", help=f"the agent's socket (default {SOCKET})")
    parser.add_argument("--lang", choices=("en", "zh"), help="language of texts (default from LANG)")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        return sub

    verb("status", "what runs here and what the update does")
    verb("check", "is there something newer, and what stands in the way")
    update = verb("update", "fetch and install")
    update.add_argument("source", nargs="?", default="", help="URL or local file (default: the repository)")
    update.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress until the end (default on a terminal)",
    )
    update.add_argument("--now", action="store_true", help="do not wait for a maintenance window")
    verb("estimate", "how long it takes, and for how long no payment can be taken")
    defer = verb("defer", "put the update off")
    defer.add_argument("hours", nargs="?", type=int, default=1, help="(%(default)s)")
    verb("confirm", "agree that the update may be installed")
    verb("cancel", "stop the update, unless it is in its critical section")
    history = verb("history", "how earlier updates ended")
    history.add_argument("--count", type=int, default=20)
    history.add_argument("--estimates", action="store_true", help="what was foretold, and what it took")
    verb("why", "why nothing happens now, or why the last update ended as it did")
    support = verb("support", "a report for service that only the vendor can open, and its code for the phone")
    support.add_argument("--out", type=Path, help="also write it into this file")
    support.add_argument("--config", default=configuration.DEFAULT_PATH, help="configuration file, for the doctor")
    verb("watch", "status after every change, until interrupted")
    config = verb("config", "check a configuration file without starting anything")
    config.add_argument("file", nargs="?", default=configuration.DEFAULT_PATH)
    doctor = verb("doctor", "check a board: configuration, boot environment, slots, watchdog, units, power")
    doctor.add_argument("--config", default=configuration.DEFAULT_PATH, help="configuration file")
    tests = doctor.add_mutually_exclusive_group()
    tests.add_argument("--boot-test", action="store_true", help="restart, to see whether the boot script counts down")
    tests.add_argument("--watchdog-test", action="store_true", help="let the watchdog reset the terminal")
    verb("version", "version of this program")
    verb("help", "what can be asked of the agent")
    return parser


class Command:
    """One call of the program."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._json: bool = arguments.json
        self._socket: str = arguments.socket or SOCKET
        self._lang: str = arguments.lang or texts.language(os.environ.get("LC_ALL") or os.environ.get("LANG", ""))
        self._live = sys.stdout.isatty() and not self._json
        self._shown = ""

    def run(self) -> int:
        try:
            done: int = getattr(self, f"_{self._arguments.verb}")()
        except PosagentError as error:
            return self._failed(error)
        return done

    def _failed(self, error: PosagentError) -> int:
        self._settle()
        if self._json:
            print(json.dumps(error.as_dict()))
        else:
            print("\n".join(texts.error_lines(error.as_dict(), self._lang)), file=sys.stderr)
        return EXIT_CODES[error.spec.kind]

    def _call(self, verb: str, **args: Any) -> dict[str, Any]:
        return wire.call(self._socket, verb, args, timeout_s=ANSWER_S)

    def _print(self, answer: dict[str, Any], lines: list[str]) -> int:
        print(json.dumps(answer) if self._json else "\n".join(lines), flush=True)
        return 0

    # verbs

    def _status(self) -> int:
        status = self._call("status")
        return self._print(status, texts.status_lines(status, self._lang))

    def _check(self) -> int:
        answer = self._call("check")
        return self._print(answer, texts.check_lines(answer, self._lang))

    def _cancel(self) -> int:
        return self._print(self._call("cancel"), [texts.say("cancelled_now", self._lang)])

    def _history(self) -> int:
        answer = self._call("history", count=self._arguments.count)
        lines = texts.estimates_lines if self._arguments.estimates else texts.history_lines
        return self._print(answer, lines(answer, self._lang))

    def _estimate(self) -> int:
        answer = self._call("estimate")
        return self._print(answer, texts.estimate_lines(answer, self._lang))

    def _defer(self) -> int:
        answer = self._call("defer", hours=self._arguments.hours)
        return self._print(answer, [texts.say("deferred", self._lang, texts.moment(answer["deferred_until"]))])

    def _confirm(self) -> int:
        return self._print(self._call("confirm"), [texts.say("confirmed", self._lang)])

    def _why(self) -> int:
        answer = self._call("why")
        return self._print(answer, texts.why_lines(answer, self._lang))

    def _help(self) -> int:
        answer = self._call("help")
        return self._print(answer, texts.help_lines(answer))

    def _version(self) -> int:
        return self._print({"version": posagent.__version__}, [posagent.__version__])

    def _config(self) -> int:
        loaded = configuration.load(self._arguments.file)
        return self._print({"terminal": loaded.terminal.id, "valid": True}, [f"{self._arguments.file} is valid"])

    def _doctor(self) -> int:
        from posagent.doctor import service as doctor  # what it needs is heavy, and nobody else needs it

        given = self._arguments
        if given.boot_test:
            self._sure(texts.say("doctor_boot_test", self._lang))
            doctor.boot_test(given.config)
            return self._print({"restarting": True}, [texts.say("doctor_restarts", self._lang)])
        if given.watchdog_test:
            self._sure(texts.say("doctor_watchdog_test", self._lang))
            for ending in (signal.SIGHUP, signal.SIGTERM):  # whoever hangs up meanwhile: all is given back, as after ^C
                signal.signal(ending, signal.default_int_handler)
            found = doctor.watchdog_test(given.config, self._bites_within)
        else:
            found = list(doctor.examine(given.config))
        answer = doctor.answer_of(found)
        self._print(answer, texts_inspection.doctor_lines(answer, self._lang))
        return 0 if answer["healthy"] else EXIT_CODES[Kind.FAILED]

    def _support(self) -> int:
        """With what the doctor finds, where this is root."""
        from posagent.doctor import service as doctor

        given = self._arguments
        found = doctor.examine(given.config) if os.geteuid() == 0 else ()
        checks = [{"check": one.check, "level": one.level, "detail": one.detail} for one in found if one.level != "ok"]
        answer = wire.call(self._socket, "support", {"file": True, "checks": checks}, timeout_s=SUPPORT_S)
        file = binascii.a2b_base64(answer.pop("file"))
        if hashlib.sha256(file).hexdigest() != answer["sha256"]:
            raise PosagentError("support_failed", "it was damaged on its way from the agent")
        if given.out is not None:
            try:
                given.out.write_bytes(file)
            except OSError as error:
                raise PosagentError("support_failed", f"{given.out}: {error.strerror or error}") from None
            answer["path"] = str(given.out)
        return self._print(answer, texts.support_lines(answer, self._lang))

    def _sure(self, what: str) -> None:
        """A test that restarts the terminal is begun only after a typed yes. Raises Refusal."""
        print(what, file=sys.stderr)
        print(texts.say("doctor_sure", self._lang), end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != "yes":
            raise Refusal("test_refused", "not confirmed")

    def _bites_within(self, seconds: int) -> None:
        print(texts.say("doctor_bites", self._lang, seconds), file=sys.stderr, flush=True)

    def _watch(self) -> int:
        try:
            wire.call(self._socket, "watch", {}, on_progress=self._progress, timeout_s=None)
        except KeyboardInterrupt:
            self._settle()
        return 0

    def _update(self) -> int:
        source = self._arguments.source
        if source and "://" not in source:
            source = str(Path(source).resolve())  # the agent runs in another directory
        started = self._call("update", source=source, now=self._arguments.now)
        follow = self._arguments.follow
        if follow is False or (follow is None and not self._live):
            line = texts.say("started", self._lang, started["id"], started["version"] or "?")
            return self._print(started, [line])
        try:
            return self._follow(started["id"])
        except KeyboardInterrupt:
            self._settle()
            print(texts.say("goes_on", self._lang), file=sys.stderr)
            return 0

    # following

    def _follow(self, update_id: str) -> int:
        """Show progress until that update ended, across restarts of the terminal."""
        lost_at = time.monotonic()
        while True:
            asked_at = time.monotonic()
            try:
                answer = wire.call(
                    self._socket, "follow", {"id": update_id}, on_progress=self._progress, timeout_s=QUIET_S
                )
                return self._ended(answer)
            except PosagentError as error:
                if error.code != "agent_unreachable":
                    raise
                if self._told_at >= asked_at:  # it answered this time: however long it was quiet, it is lost only now
                    lost_at = time.monotonic()
                if time.monotonic() - lost_at > RECONNECT_S:
                    raise
            self._show(texts.say("lost", self._lang))
            time.sleep(RECONNECT_PAUSE_S)

    _told_at = 0.0

    def _progress(self, status: dict[str, Any]) -> None:
        self._told_at = time.monotonic()
        try:
            if self._json:
                print(json.dumps(status), flush=True)
            else:
                self._show(texts.progress_line(status, self._lang), phase=status["state"])
        except BrokenPipeError:
            raise NobodyReads from None

    def _ended(self, answer: dict[str, Any]) -> int:
        outcome = answer["outcome"]
        self._settle()
        self._print(answer, [texts.outcome_line(outcome, self._lang)])
        return 0 if outcome["outcome"] == "committed" else NOT_COMMITTED

    def _show(self, line: str, phase: str = "") -> None:
        """Redraw one line on a terminal; elsewhere print a line a phase."""
        if self._json:
            return
        if self._live:
            print(f"\r\033[K{line}", end="", flush=True)
            self._shown = line
        elif (phase or line) != self._shown:
            print(line, flush=True)
            self._shown = phase or line

    def _settle(self) -> None:
        if self._live and self._shown:
            print(flush=True)
            self._shown = ""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return Command(arguments).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, NobodyReads):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not written at exit
        return EXIT_CODES[Kind.FAILED]


if __name__ == "__main__":
    sys.exit(main())
