"""The words of the command `posagent`: its verbs and their options."""

from __future__ import annotations

import argparse
from pathlib import Path

from posagent import config as configuration
from posagent.evidence_texts import WIDTHS

SOCKET = "/run/posagent/api.sock"


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="posagent", description="Ask the update agent of this terminal.")
    words.add_argument("--socket", help=f"the agent's socket (default {SOCKET})")
    words.add_argument("--lang", choices=("en", "zh"), help="language of texts (default from LANG)")
    verbs = words.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        return sub

    verb("status", "what runs here and what the update does")
    check = verb("check", "is there something newer, and what stands in the way")
    check.add_argument("source", nargs="?", default="", help="usb: on a stick (default: in the repository)")
    update = verb("update", "fetch and install")
    update.add_argument("source", nargs="?", default="", help="URL, local file, or usb (default: the repository)")
    rollback = verb("rollback", "go back to the version in the other slot; it is tested as any other")
    for begins in (update, rollback):
        begins.add_argument(
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
    audit = verb("audit", "the audit log: its last records, or whether it is whole")
    audit.add_argument("what", nargs="?", choices=("show", "verify"), default="show", help="(%(default)s)")
    audit.add_argument("file", nargs="?", default="", help="log to verify (default: this terminal's, as root)")
    audit.add_argument("--key", default="", help="public line that must have signed, or a file with it")
    audit.add_argument("--count", type=int, default=20, help="records to show (%(default)s)")
    audit.add_argument("--config", default=configuration.DEFAULT_PATH, help="configuration file")
    evidence = verb("evidence", "what is on record of updates, and its export for a terminal manager")
    evidence.add_argument("what", nargs="?", choices=("show", "export"), default="show", help="(%(default)s)")
    evidence.add_argument("id", nargs="?", default="", help="update to show in full (default: all, a line each)")
    evidence.add_argument("--count", type=int, default=20, help="updates, newest last (%(default)s)")
    evidence.add_argument("--manager", default="", help="export: identification of the terminal manager it is for")
    evidence.add_argument("--out", type=Path, help="export: into this file (default: standard output)")
    ticket = verb("ticket", "an update's record for a receipt printer")
    ticket.add_argument("id", nargs="?", default="", help="update (default: the last)")
    ticket.add_argument("--width", type=int, choices=WIDTHS, default=WIDTHS[1], help="columns (%(default)s)")
    verb("why", "why nothing happens now, or why the last update ended as it did")
    support = verb("support", "a report for service that only the vendor can open, and its code for the phone")
    support.add_argument("--out", type=Path, help="also write it into this file")
    support.add_argument("--config", default=configuration.DEFAULT_PATH, help="configuration file, for the doctor")
    verb("metrics", "figures for monitoring, in Prometheus' text format")
    verb("slots", "what is in the two slots, and whether the terminal can go back")
    verb("power", "battery and charger, and what an update needs of them")
    verb("network", "try the way to the update server, step by step")
    selftest = verb("selftest", "run the self-tests now, on the version that runs")
    selftest.add_argument(
        "suite",
        nargs="?",
        default="",
        help="functional, performance or security, or one kind of checks, such as tcp (default: all)",
    )
    data = verb("data", "is the merchant's data whole, and what would a backup bring back")
    data.add_argument("what", nargs="?", choices=("verify", "restore"), default="verify", help="default: verify")
    data.add_argument("name", nargs="?", default="", help="of the backup to restore")
    data.add_argument("--dry-run", action="store_true", help="only say what a restore would change")
    log = verb("log", "the last things that the agent did")
    log.add_argument("count", nargs="?", type=int, default=20, help="lines (%(default)s)")
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
    return words
