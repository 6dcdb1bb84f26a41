"""posagent: the command on the terminal. One verb of the agent's API each, for people and (`--json`) for scripts.

Rules: exit codes are 0 done, 2 usage, 3 refused, 4 failed, 5 not reachable, 130 interrupted. Interrupting a command
that follows an update stops following (exit code 0), never the update.
"""

from __future__ import annotations

import argparse
import binascii
import dataclasses
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import posagent
from posagent import audit_texts, evidence, texts, texts_data, texts_inspection, texts_selftest, wire
from posagent import config as configuration
from posagent.arguments import SOCKET, parser
from posagent.core import metrics
from posagent.core.errors import EXIT_CODES, Kind, PosagentError, Refusal

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
        answer = self._call("check", source=self._arguments.source)
        return self._print(answer, texts.check_lines(answer, self._lang))

    def _cancel(self) -> int:
        return self._print(self._call("cancel"), [texts.say("cancelled_now", self._lang)])

    def _history(self) -> int:
        answer = self._call("history", count=self._arguments.count)
        lines = texts.estimates_lines if self._arguments.estimates else texts.history_lines
        return self._print(answer, lines(answer, self._lang))

    def _audit(self) -> int:
        given = self._arguments
        if given.what == "show":
            answer = self._call("audit", count=given.count)
            return self._print(answer, audit_texts.lines(answer, self._lang))
        from posagent.installer import auditor  # brings cryptography

        verdict, key_given = auditor.examine(given.file, key=given.key, config_file=given.config)
        answer = {**dataclasses.asdict(verdict), "whole": not verdict.breaks}
        self._print(answer, audit_texts.verdict_lines(verdict, self._lang, key_given=key_given))
        return 0 if not verdict.breaks else EXIT_CODES[Kind.FAILED]

    def _evidence(self) -> int:
        return self._print(*evidence.told(self._arguments, self._call, self._lang, time.time()))

    def _ticket(self) -> int:
        return self._print(*evidence.ticket(self._arguments, self._call, self._lang))

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

    def _metrics(self) -> int:
        print(metrics.text(self._call("status"), time.time()), end="", flush=True)
        return 0

    def _slots(self) -> int:
        answer = self._call("slots")
        return self._print(answer, texts_inspection.slots_lines(answer, self._lang))

    def _power(self) -> int:
        answer = self._call("power")
        return self._print(answer, texts_inspection.power_lines(answer, self._lang))

    def _log(self) -> int:
        answer = self._call("log", count=self._arguments.count)
        return self._print(answer, texts_inspection.log_lines(answer, self._lang))

    def _network(self) -> int:
        answer = self._step_by_step("network", lambda step: texts_inspection.network_step_lines(step, self._lang))
        self._print(answer, [texts_inspection.say("network_ok" if answer["ok"] else "network_fault", self._lang)])
        return 0 if answer["ok"] else EXIT_CODES[Kind.FAILED]

    def _selftest(self) -> int:
        suite = self._arguments.suite
        answer = self._step_by_step("selftest", lambda step: [texts_selftest.step_line(step, self._lang)], suite=suite)
        self._print(answer, texts_selftest.lines(answer, self._lang))
        return 0 if answer["passed"] else EXIT_CODES[Kind.FAILED]

    def _data(self) -> int:
        given = self._arguments
        restores = given.what == "restore"
        if restores and not given.name:
            raise PosagentError("bad_request", "which backup? `posagent data verify` shows their names")
        if restores and not given.dry_run:
            self._sure(texts_data.say("restores", self._lang))
        args = {"restore": given.name, "dry_run": given.dry_run} if restores else {}
        answer = self._step_by_step("data", lambda step: [texts_data.step_line(step, self._lang)], **args)
        self._print(answer, texts_data.lines(answer, self._lang))
        return EXIT_CODES[Kind.FAILED] if answer.get("problems") else 0

    def _step_by_step(self, verb: str, lines: Callable[[dict[str, Any]], list[str]], **args: Any) -> dict[str, Any]:
        """A verb that tells how far it is, for people as it goes."""

        def told(step: dict[str, Any]) -> None:
            try:
                if not self._json:
                    print("\n".join(lines(step)), flush=True)
            except BrokenPipeError:
                raise NobodyReads from None

        return wire.call(self._socket, verb, args, on_progress=told, timeout_s=QUIET_S)

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
        if source not in ("", "usb") and "://" not in source:
            source = str(Path(source).resolve())  # the agent runs in another directory
        return self._begun(self._call("update", source=source, now=self._arguments.now), "started")

    def _rollback(self) -> int:
        return self._begun(self._call("rollback"), "back_started")

    def _begun(self, started: dict[str, Any], text: str) -> int:
        """Of an update under way: follow it, or say that it has begun."""
        follow = self._arguments.follow
        if follow is False or (follow is None and not self._live):
            return self._print(started, [texts.say(text, self._lang, started["id"], started["version"] or "?")])
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
    arguments = parser().parse_args(argv)
    try:
        return Command(arguments).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, NobodyReads):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not written at exit
        return EXIT_CODES[Kind.FAILED]


if __name__ == "__main__":
    sys.exit(main())
