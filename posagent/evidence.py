"""`posagent evidence` and `posagent ticket`: from what the agent remembers of updates to what is printed or written.

Rules: a verb gives its answer for programs and its lines for people; the agent is asked through `Call`. XML comes in
only where a report is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from posagent import evidence_texts
from posagent.core import update_record
from posagent.core.errors import PosagentError
from posagent.core.model import HISTORY_MAX

Call = Callable[..., dict[str, Any]]
"""Asks the agent: a verb of its API with its arguments."""
Told = tuple[dict[str, Any], list[str]]


def told(given: argparse.Namespace, call: Call, lang: str, now_s: float) -> Told:
    """`posagent evidence [show|export]`. Raises PosagentError."""
    about = call("version")
    records = _records(call, about["terminal"], given.id, given.count)
    if given.what == "export":
        return _export(given, about, records, lang, now_s)
    lines = [line for one in records for line in evidence_texts.shown(one, lang, full=bool(given.id))]
    return {"records": records}, lines or [evidence_texts.say("none_yet", lang)]


def ticket(given: argparse.Namespace, call: Call, lang: str) -> Told:
    """`posagent ticket`. Raises PosagentError."""
    records = _records(call, call("version")["terminal"], given.id, 1)
    lines = [line for one in records for line in evidence_texts.ticket(one, lang, given.width)]
    return {"records": records, "lines": lines}, lines or [evidence_texts.say("none_yet", lang)]


def _export(
    given: argparse.Namespace, about: dict[str, Any], records: list[dict[str, Any]], lang: str, now_s: float
) -> Told:
    from posagent import status_report

    names = {"terminal": about["terminal"], "running": about["running"], "manager": given.manager}
    report = status_report.document(records, **names, now_s=now_s)
    if given.out is None:
        return {"report": report.decode()}, report.decode().splitlines()
    try:
        given.out.write_bytes(report)
    except OSError as error:
        raise PosagentError("evidence_io", f"{given.out}: {error.strerror or error}") from None
    done = evidence_texts.say("exported", lang, len(records), given.out)
    return {"updates": len(records), "path": str(given.out)}, [done]


def _records(call: Call, terminal: str, update_id: str, count: int) -> list[dict[str, Any]]:
    """Of the last `count` updates, or of that one."""
    outcomes = call("history", count=HISTORY_MAX if update_id else count)["history"]
    if update_id:
        outcomes = [one for one in outcomes if one.get("id") == update_id]
        if not outcomes:
            raise PosagentError("bad_request", f"no update {update_id[:40]} is remembered")
    return [update_record.shown(one, terminal) for one in outcomes]
