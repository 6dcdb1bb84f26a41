"""The sequence of self-tests: each check of the configuration, suite by suite, within its budget and one deadline.

Rules: no checks configured is a failure, not a pass. A check that fails may be tried again for its `retry_for_s`,
because services need a moment after a start. What the deadline or the suite's budget leaves no time for counts as
failed, and so does a suite or a run that ends after it. All evidence together fits into one message to the agent and
one record of its journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from posagent.config import CheckConfig, SelftestConfig
from posagent.config_selftest import COMPARED, SUITES
from posagent.core.errors import Refusal
from posagent.core.ports import Clock, Message
from posagent.selftest.finding import FIGURES_MAX, Finding, Given, Look, Unmeasured, trouble

RETRY_PAUSE_S = 0.2
DETAIL_CHARACTERS_MAX = 2100
VALUE_CHARACTERS_MAX = 80
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


def run(
    config: SelftestConfig, probes: Probes, clock: Clock, suite: str = "", *, look: Look, given: Given | None = None
) -> Iterator[Message]:
    """The verb `run`: progress `{check, suite, passed, done, total}`, result `{passed, deadline, checks}`.

    A person may ask for one `suite`, or for the checks of one kind. Raises Refusal `bad_request` where there is none of
    it. `look` is for kinds that the probes do not know.
    """
    chosen = _chosen(config, suite)
    run = _Run(config, probes, clock, look, given or Given())
    for number, check in enumerate(chosen, 1):
        result = run.test(check)
        step = {"check": check.name, "suite": result["suite"], "passed": result["passed"]}
        yield {"progress": {**step, "done": number, "total": len(chosen)}}
    yield {"result": run.result()}


def _chosen(config: SelftestConfig, suite: str) -> list[CheckConfig]:
    ordered = sorted(config.checks, key=lambda check: SUITES.index(check.suite_name))
    chosen = [check for check in ordered if suite in ("", check.suite_name, check.kind)]
    if suite and not chosen:
        there = sorted({check.kind for check in ordered} | {check.suite_name for check in ordered})
        names = ", ".join(there) or "none"
        raise Refusal("bad_request", f"no self-tests of {suite[:40]!r} are configured; there are: {names}")
    return chosen


class _Run:
    """One pass over the checks, all results kept."""

    def __init__(self, config: SelftestConfig, probes: Probes, clock: Clock, look: Look, given: Given) -> None:
        self._config, self._probes, self._clock, self._look, self._given = config, probes, clock, look, given
        self._deadline = clock.monotonic() + config.deadline_s
        self._results: list[dict[str, Any]] = []
        self._room = DETAILS_CHARACTERS_MAX
        self._suite, self._suite_until = "", 0.0

    def test(self, check: CheckConfig) -> dict[str, Any]:
        """The result of one more check."""
        if check.suite_name != self._suite:
            self._close_suite()
            self._suite = check.suite_name
            self._suite_until = self._clock.monotonic() + self._config.budget_s(self._suite)
        started = self._clock.monotonic()
        result = _result(check.name, check.kind, check.suite_name, self._found(check, started))
        result["seconds"] = round(self._clock.monotonic() - started, 3)
        for key in ("detail", "value", "limit"):
            if isinstance(result[key], str):
                most = DETAIL_CHARACTERS_MAX if key == "detail" else VALUE_CHARACTERS_MAX
                result[key] = _shortened(result[key], min(most, max(0, self._room) // 2))
                self._room -= len(result[key])
        self._results.append(result)
        return result

    def result(self) -> dict[str, Any]:
        """Of all of them."""
        if not self._results:
            wrong = Finding(wrong="no self-tests are configured", measure="checks", value=0, limit=1)
            self._results.append(_result("configured", "none", "", wrong))
        self._close_suite()
        late = self._clock.monotonic() >= self._deadline
        if late and all(result["passed"] for result in self._results):
            self._late("deadline", "", self._config.deadline_s)
        passed = all(result["passed"] for result in self._results)
        return {"passed": passed, "deadline": late, "checks": self._results}

    def _found(self, check: CheckConfig, started: float) -> Finding:
        if started >= self._deadline:
            return Finding(wrong="not run: the deadline had passed")
        if started >= self._suite_until:
            wrong = f"not run: the {self._suite} tests had used up their {self._config.budget_s(self._suite)} s"
            return Finding(wrong=wrong)
        until = min(self._deadline, self._suite_until)
        retry_until = min(started + check.retry_for_s, until)
        while True:
            timeout_s = min(float(check.timeout_s), max(until - self._clock.monotonic(), 0.1))
            found = _probe(check, self._probes, self._look, self._given, timeout_s)
            if not found.wrong or self._clock.monotonic() + RETRY_PAUSE_S >= retry_until:
                return found
            self._probes.pause(RETRY_PAUSE_S)

    def _close_suite(self) -> None:
        """All passed, but too late: that is a failure, too."""
        own = [result for result in self._results if result["suite"] == self._suite]
        late = self._clock.monotonic() >= self._suite_until
        if own and late and all(result["passed"] for result in own) and self._clock.monotonic() < self._deadline:
            self._late(f"{self._suite} budget", self._suite, self._config.budget_s(self._suite))

    def _late(self, name: str, suite: str, seconds: int) -> None:
        wrong = Finding(wrong=f"the checks did not end within {seconds} s", measure="duration_s", limit=seconds)
        self._results.append(_result(name, "none", suite, wrong))


def _result(name: str, kind: str, suite: str, found: Finding) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "suite": suite,
        "passed": not found.wrong,
        "seconds": 0.0,
        "detail": found.wrong or found.note,
        "measure": found.measure,
        "value": found.value,
        "limit": found.limit,
    }


def _shortened(detail: str, characters_max: int) -> str:
    """The beginning says what failed, the end says why; the middle can go."""
    if len(detail) <= characters_max:
        return detail
    return f"{detail[: characters_max // 8]}…{detail[len(detail) - characters_max // 2 :]}"


def _probe(check: CheckConfig, probes: Probes, look: Look, given: Given, timeout_s: float) -> Finding:
    match check.kind:
        case "command":
            wrong = probes.command(check.command, timeout_s)
            return Finding(wrong=wrong or "", measure="exit_code", value="none" if wrong else 0, limit=0)
        case "tcp":
            wrong = probes.tcp(check.host, check.port, timeout_s)
            return Finding(wrong=wrong or "", measure="connection", value="none" if wrong else "made", limit="made")
        case "free_space":
            wrong = probes.free_space(check.path, check.free_bytes_min)
            return Finding(wrong=wrong or "", measure="free_bytes", limit=check.free_bytes_min)
        case "digest" if not check.approved and not check.command:
            wrong = probes.digest(check.path, check.sha256, timeout_s)
            return Finding(wrong=wrong or "", measure="sha256", limit=check.sha256)
        case _:
            return look(check, given, timeout_s)


Figures = Callable[[CheckConfig, float], dict[str, float]]


def baseline(config: SelftestConfig, clock: Clock, figures: Figures) -> Iterator[Message]:
    """The verb `baseline`, for the version that runs, just before it is replaced: progress as of `run`, result
    `{figures: {name: number}, missing: {name: why}}`. What cannot be measured is missing, and no failure."""
    compared = [check for check in config.checks if check.kind in COMPARED]
    until = clock.monotonic() + config.performance_s_max
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for number, check in enumerate(compared, 1):
        left_s = until - clock.monotonic()
        try:
            if left_s <= 0:
                raise Unmeasured(f"no time left of {config.performance_s_max} s")
            found |= figures(check, min(float(check.timeout_s), left_s))
        except Unmeasured as error:
            missing[check.name] = str(error)
        except OSError as error:
            missing[check.name] = trouble(error)
        done = {"check": check.name, "suite": check.suite_name, "passed": check.name not in missing}
        yield {"progress": {**done, "done": number, "total": len(compared)}}
    kept = dict(list(found.items())[:FIGURES_MAX])
    yield {"result": {"figures": kept, "missing": {name: why[:DETAIL_CHARACTERS_MAX] for name, why in missing.items()}}}
