"""The payment application's part: dummy transactions and its own peripherals, asked for with one JSON line.

Request `{"selftest": 1, "test": …, "expect": …}`, answer `{"outcome": …, "detail"?: …, "ms"?: …}`, one line each, over
a local socket or a command's standard input and output. docs/selftest.md is the page for whoever builds the other side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from posagent.config import CheckConfig
from posagent.selftest.finding import Finding, System, shortened

_EXPECTED: Mapping[str, str] = {"transaction": "approved"}


class NoAnswer(Exception):
    """The application said nothing that can be understood."""


def expected(check: CheckConfig) -> str:
    return check.expect or _EXPECTED.get(check.test, "ok")


def ask(system: System, check: CheckConfig, test: str, expect: str, timeout_s: float) -> dict[str, Any]:
    """Raises NoAnswer, OSError."""
    line = json.dumps({"selftest": 1, "test": test, "expect": expect}).encode() + b"\n"
    if check.command:
        said = system.output(check.command, timeout_s, line)
    else:
        said = system.exchange(check.path, check.host, check.port, line, timeout_s)
    try:
        answer = json.loads(said)
        if not isinstance(answer["outcome"], str):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NoAnswer(f"no answer of the protocol: {shortened(said)!r}") from None
    return dict(answer)


def look(system: System, check: CheckConfig, timeout_s: float) -> Finding:
    """Of the kind `payment`. Raises NoAnswer, OSError."""
    wanted = expected(check)
    answer = ask(system, check, check.test, wanted, timeout_s)
    outcome, detail = shortened(answer["outcome"]), shortened(str(answer.get("detail", "")))
    wrong = "" if outcome == wanted else f"{check.test}: {outcome}, expected {wanted}" + (f": {detail}" * bool(detail))
    return Finding(wrong=wrong, measure=f"{check.test}_outcome", value=outcome, limit=wanted)
