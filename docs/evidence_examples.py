"""The examples and the table of docs/evidence.md, made by the code that they show. Used by docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from posagent import evidence_texts, status_report
from posagent.core.results import RESULT_OF, Result
from posagent.core.update_record import shown

TERMINAL = "pos-0001"
NOW_S = 1_796_090_400.0
DIGEST = "9f0c6c1d2b7e4a58" * 4
OUTCOME: Mapping[str, Any] = {
    "outcome": "rolled_back",
    "code": "selftest_failed",
    "detail": "printer: no answer within 5 s",
    "id": "3f9c2a71d0b4",
    "version": "2.1.0",
    "from_version": "2.0.3",
    "at": NOW_S - 600,
    "started_at": NOW_S - 1350,
    "checks": [
        {"name": "payment", "passed": True, "seconds": 0.2, "detail": ""},
        {"name": "printer", "passed": False, "seconds": 5.0, "detail": "no answer within 5 s"},
    ],
    "ticket": {"code": "7K3M-Q2XA"},
    "record": {
        "by": "uid 1000",
        "phases": {
            "download": 41.2,
            "verify": 1.4,
            "ready": 612.0,
            "install": 20.5,
            "activate": 37.3,
            "selftest": 5.6,
            "rollback": 32.0,
        },
        "waited": {"window": {"s": 580.0, "why": "the maintenance window: it begins at 22:00"}},
        "consent": {"by": "acme-pay (uid 999)", "at": NOW_S - 1200},
        "deferrals": 1,
        "deferred_by": "uid 1000",
        "reason": "security",
        "kind": "delta",
        "bytes": 1_234_567,
        "digests": {"bundle": DIGEST[::-1], "image": DIGEST, "slot": DIGEST},
    },
}
RECORD = shown(OUTCOME, TERMINAL)


def _block(lines: list[str]) -> str:
    return "\n".join(("```", *lines, "```"))


def _results() -> str:
    rows = [
        "| result | our codes |",
        "|---|---|",
        "| `SUCC`, `WARN` | committed; with something that should be known |",
    ]
    for result in Result:
        codes = ", ".join(f"`{code}`" for code, one in RESULT_OF.items() if one is result)
        rows += [f"| `{result}` | {codes} |"] if codes and result is not Result.SUCC else []
    return "\n".join(rows)


def _report() -> str:
    made = status_report.document([RECORD], terminal=TERMINAL, running="2.0.3", manager="tms.example", now_s=NOW_S)
    return _block(made.decode().splitlines())


def examples() -> dict[str, str]:
    """By the name in the page."""
    return {
        "line": _block([evidence_texts.line(RECORD, "en")]),
        "full": _block(evidence_texts.lines(RECORD, "en")),
        "json": _block(json.dumps(RECORD, indent=1, ensure_ascii=False).splitlines()),
        "ticket": _block(evidence_texts.ticket(RECORD, "en", 32)),
        "ticket-zh": _block(evidence_texts.ticket(RECORD, "zh", 32)),
        "report": _report(),
        "results": _results(),
    }
