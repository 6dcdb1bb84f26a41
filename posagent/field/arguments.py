"""The words of posagent-field's command line."""

from __future__ import annotations

import argparse
from pathlib import Path

BAUD = 115200
TEXT = "The engineer's laptop at the other end of the serial line."


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="posagent-field", description=TEXT)
    made.add_argument("--lang", choices=("en", "zh"), help="language of texts (default from LANG)")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        return sub

    def line(sub: argparse.ArgumentParser, several: bool) -> argparse.ArgumentParser:
        sub.add_argument("--baud", type=int, default=BAUD, help="speed of the line (%(default)s)")
        if several:
            sub.add_argument("--ports", nargs="+", metavar="PORT", help="these ports; * and ? stand for several")
            sub.add_argument("--all", action="store_true", help="built-in ports as well, not only USB adapters")
        else:
            sub.add_argument("port", metavar="PORT")
        return sub

    line(verb("ports", "which ports there are, and which terminal answers at each"), True)
    line(verb("status", "what a terminal runs and does"), False)
    line(verb("watch", "its status after every change, until interrupted"), False)
    run = line(verb("run", "update every terminal that is found, and follow each to the end"), True)
    run.add_argument("--bundle", type=Path, help="send this bundle (default: terminals fetch from their repository)")
    run.add_argument("--key", type=Path, required=True, help="the engineer's certificate, KEY-cert.pub")
    run.add_argument("--role", default="update", help="role to unlock (%(default)s)")
    run.add_argument("--now", action="store_true", help="do not wait for maintenance windows")
    run.add_argument("--count", type=int, default=0, help="wait until so many terminals are done")
    run.add_argument("--minutes", type=float, default=240.0, help="without the live screen: leave then (%(default)s)")
    run.add_argument("--plain", action="store_true", help="lines instead of the live screen")
    run.add_argument("--out", type=Path, default=Path("posagent-visits"), help="directory of reports (%(default)s)")
    support = line(verb("support", "have a terminal make a support bundle, and fetch it"), False)
    support.add_argument("--key", type=Path, required=True, help="the engineer's certificate, KEY-cert.pub")
    support.add_argument("--out", type=Path, default=Path(), help="directory to put it into (%(default)s)")
    signed = {
        "rollback": "go back to the version in the other slot, and follow it to the end",
        "allow": "have a bundle installed although its validity has ended",
    }
    for name, text in signed.items():
        sub = line(verb(name, f"{text}; what is signed is shown before"), False)
        if name == "allow":
            sub.add_argument("bundle", metavar="sha256:DIGEST", help="as the refusal names it")
            sub.add_argument("--role", default="update", help="role to unlock (%(default)s)")
        sub.add_argument("--key", type=Path, required=True, help="the engineer's certificate, KEY-cert.pub")
        sub.add_argument("--sign", default="", metavar="ACTION", help="sign exactly this without asking")
    line(verb("console", "the terminal's own prompt; Ctrl-] leaves"), False)
    reports = verb("report", "read visit reports")
    what = reports.add_subparsers(dest="what", required=True)
    for name, text in (("show", "show a report"), ("verify", "who signed it, and whether it was changed")):
        sub = what.add_parser(name, help=text, description=text)
        sub.add_argument("file", type=Path)
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        if name == "verify":
            sub.add_argument("--ca", type=Path, help="public key of the engineers' authority, engineer-ca.pub")
    verb("version", "version of this program")
    return made
