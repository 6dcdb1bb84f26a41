"""The visit report: who was where with what, and how each terminal fared; signed by the engineer.

Owns: the report's shape (docs/field.md) and its files: `visit-….json`, its signature `….json.sig`, a page to print.
Rules: what is signed are the bytes of the JSON file. It is written after every terminal that is done, so that a laptop
whose battery ends has it up to there; the signature comes at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import posagent
from posagent.core.errors import PosagentError
from posagent.field import laptop, page, signing
from posagent.field.signing import Engineer, Signed
from posagent.field.words import say, word

FORMAT = "posagent-visit-1"
BYTES_MAX = 16 << 20


def made(
    *,
    engineer: Engineer,
    role: str,
    bundle: Mapping[str, Any] | None,
    started_at: float,
    ended_at: float,
    terminals: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The report as it stands at `ended_at` (seconds since 1970, by the laptop)."""
    who = engineer.certificate
    counts: dict[str, int] = {}
    for one in terminals:
        counts[one["outcome"]] = counts.get(one["outcome"], 0) + 1
    return {
        "format": FORMAT,
        "made_by": f"posagent-field {posagent.__version__}",
        "engineer": {"name": who.name, "serial": who.serial, "key": who.fingerprint, "authority": who.authority},
        "role": role,
        "started_at": round(started_at),
        "ended_at": round(ended_at),
        "started": _utc(started_at),
        "ended": _utc(ended_at),
        "bundle": bundle,
        "summary": counts,
        "terminals": list(terminals),
    }


class Files:
    """Of one report, in the directory `folder`."""

    def __init__(self, folder: Path, started_at: float) -> None:
        self.json = folder / f"visit-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(started_at))}.json"
        self.signature = self.json.with_name(self.json.name + ".sig")
        self.html = self.json.with_suffix(".html")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PosagentError("laptop_io", f"{folder}: {error.strerror or error}") from None

    def keep(self, report: Mapping[str, Any]) -> bytes:
        """Write it, unsigned. Raises PosagentError `laptop_io`."""
        data = json.dumps(report, ensure_ascii=False, indent=1).encode() + b"\n"
        laptop.replace(self.json, data)
        return data

    def close(self, report: Mapping[str, Any], engineer: Engineer) -> None:
        """Write and sign it, and the page to print; the page also where the signing fails. Raises PosagentError."""
        data = self.keep(report)
        try:
            laptop.replace(self.signature, engineer.sign(data, signing.VISIT).encode())
        except PosagentError:
            self._print(data, report, None)
            raise
        self._print(data, report, Signed(by=engineer.certificate, authority=""))

    def _print(self, data: bytes, report: Mapping[str, Any], signed: Signed | None) -> None:
        laptop.replace(self.html, page.of(report, data, signed).encode())


def read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A report's bytes and content. Raises PosagentError `laptop_io`, `report_altered`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise ValueError("too long")
        report = json.loads(data)
        if not isinstance(report, dict) or report.get("format") != FORMAT:
            raise ValueError(f"not of the format {FORMAT}")
    except OSError as error:
        raise PosagentError("laptop_io", f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise PosagentError("report_altered", f"{path} is no visit report: {error}") from None
    try:
        page.of(report, data, None)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, OSError):
        raise PosagentError("report_altered", f"{path} cannot be shown: a field is missing or wrong") from None
    return data, report


def verify(path: Path, ca: Path | None) -> tuple[dict[str, Any], Signed]:
    """A report and who signed it, which must be whom it names. Raises PosagentError."""
    data, report = read(path)
    try:
        named, at_s = report["engineer"], int(report["ended_at"])
        claimed = (str(named["name"]), int(named["serial"]), str(named["key"]))
    except (KeyError, TypeError, ValueError):
        raise PosagentError("report_altered", f"{path} does not name its engineer") from None
    signed = signing.verify(data, path.with_name(path.name + ".sig"), at_s, ca)
    if claimed != (signed.by.name, signed.by.serial, signed.by.fingerprint):
        raise PosagentError("report_signer", f"it names {claimed[0]}, and {signed.by.name} signed it")
    return report, signed


def lines(report: Mapping[str, Any], lang: str) -> list[str]:
    """In short: who, when, and a line for each terminal."""
    who = report["engineer"]
    head = f"{who['name']}, {report['started']} - {report['ended']}"
    return [head, *(_line(one, lang) for one in report["terminals"])]


def _line(one: Mapping[str, Any], lang: str) -> str:
    text = f"{one['terminal']}: {one['before'] or '?'} > {one['after'] or '?'}, {word(one['outcome'], lang)}"
    if one["code"] not in ("", "ok"):
        text += f" - {one['detail']} [{one['code']}]"
    return text + (f", {say('support', lang)} {one['support']['code']}" if one["support"].get("code") else "")


def _utc(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
