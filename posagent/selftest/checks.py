"""The sequence of self-tests: each check of the configuration, in order, within one deadline, all results kept.

Rules: no checks configured is a failure, not a pass. A check that fails may be tried again for its `retry_for_s`,
because services need a moment after a start. What the deadline leaves no time for counts as failed, and so does a
run that ends after it. All evidence together fits into one message to the agent and one record of its journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from posagent.config import CheckConfig, SelftestConfig
from posagent.core.errors import Refusal
from posagent.core.ports import Clock, Message

RETRY_PAUSE_S = 0.2
DETAIL_CHARACTERS_MAX = 2100
DETAILS_CHARACTERS_MAX = 6 * 1024
"""Of all checks together, the first failures first: JSON may need six bytes for one character, the agent repeats the
first detail, and a record of its journal has 64 KiB."""


class Probes(Protocol):
    """How a check looks at the system; None means all is well, a text says what was wrong."""

    def pause(self, seconds: float) -> None: ...

    def command(self, words: Sequence[str], timeout_s: float) -> str | None: ...

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None: ...

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None: ...

    def free_space(self, path: str, free_bytes_min: int) -> str | None: ...


def run(config: SelftestConfig, probes: Probes, clock: Clock, suite: str = "") -> Iterator[Message]:
    """The verb `run`: progress `{check, passed, done, total}`, result `{passed, deadline, checks}`.

    A person may ask for the checks of one kind, the `suite`. Raises Refusal `bad_request` where there is none of it.
    """
    chosen = [check for check in config.checks if suite in ("", check.kind)]
    if suite and not chosen:
        kinds = ", ".join(sorted({check.kind for check in config.checks})) or "none"
        raise Refusal("bad_request", f"no self-tests of the kind {suite[:40]!r} are configured; there are: {kinds}")
    deadline = clock.monotonic() + config.deadline_s
    results: list[dict[str, Any]] = []
    room = DETAILS_CHARACTERS_MAX
    for check in chosen:
        results.append(_result(check, probes, clock, deadline, min(DETAIL_CHARACTERS_MAX, max(0, room) // 2)))
        room -= len(results[-1]["detail"])
        yield {
            "progress": {
                "check": check.name,
                "passed": results[-1]["passed"],
                "done": len(results),
                "total": len(chosen),
            }
        }
    if not results:
        results.append(_failure("configured", "none", "no self-tests are configured"))
    late = clock.monotonic() >= deadline
    if late and all(result["passed"] for result in results):
        results.append(_failure("deadline", "none", f"the checks did not end within {config.deadline_s} s"))
    passed = all(result["passed"] for result in results)
    yield {"result": {"passed": passed, "deadline": late, "checks": results}}


def _failure(name: str, kind: str, detail: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "passed": False, "seconds": 0.0, "detail": detail}


def _result(check: CheckConfig, probes: Probes, clock: Clock, deadline: float, detail_max: int) -> dict[str, Any]:
    started = clock.monotonic()
    if started >= deadline:
        return _failure(check.name, check.kind, "not run: the deadline had passed")
    retry_until = min(started + check.retry_for_s, deadline)
    while True:
        wrong = _probe(check, probes, min(float(check.timeout_s), max(deadline - clock.monotonic(), 0.1)))
        if wrong is None or clock.monotonic() + RETRY_PAUSE_S >= retry_until:
            break
        probes.pause(RETRY_PAUSE_S)
    return {
        "name": check.name,
        "kind": check.kind,
        "passed": wrong is None,
        "seconds": round(clock.monotonic() - started, 3),
        "detail": _shortened(wrong or "", detail_max),
    }


def _shortened(detail: str, characters_max: int) -> str:
    """The beginning says what failed, the end says why; the middle can go."""
    if len(detail) <= characters_max:
        return detail
    return f"{detail[: characters_max // 8]}…{detail[len(detail) - characters_max // 2 :]}"


def _probe(check: CheckConfig, probes: Probes, timeout_s: float) -> str | None:
    match check.kind:
        case "command":
            return probes.command(check.command, timeout_s)
        case "tcp":
            return probes.tcp(check.host, check.port, timeout_s)
        case "digest":
            return probes.digest(check.path, check.sha256, timeout_s)
        case _:
            return probes.free_space(check.path, check.free_bytes_min)
