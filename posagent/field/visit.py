"""The work at one terminal: unlock, assess, send or have it fetch, update, follow to the end, collect help.

Rules: whatever was begun before goes on - an update under way is followed, not begun twice, also where the answer that
began it was lost with the cable. A terminal that runs the version already is left alone. Where an update did not end
well, a support bundle is made and fetched, if the engineer's certificate allows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from posagent.core.errors import Kind, PosagentError
from posagent.field.diary import TOUCH, Diary, Ending, Stage
from posagent.field.parcel import Parcels
from posagent.field.signing import Engineer

Progress = Callable[[dict[str, Any]], None]

PATIENCE_S = 900.0
"""A terminal that was not heard of for so long is lost: time enough to find the cable again."""
QUIET_S = 300.0
AGAIN_S = 2.0
NOT_YET = ("busy", "unlock_wait", "line_lost")
"""Why an unlocking is tried again: the installer is at work, too many tries, the terminal restarted meanwhile."""
BEGUN_ALREADY = ("busy", "same_bundle", "line_lost")
"""What becomes of asking for an update that has begun already, as well as of one whose answer was lost."""
NEEDS_MORE = ("bundle_partial", "source_differs", "codec_differs")
"""How an update ends to which a part of the bundle was not enough."""
BEGIN_TRIES = 3
TICKET_S = 20.0
COLLECT_S = 60.0
SUPPORT = "support"


class Line(Protocol):
    """field.link.Terminal, as far as it is used here."""

    def call(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        on_progress: Progress | None = None,
        timeout_s: float = ...,
    ) -> dict[str, Any]: ...

    def unlock(self, role: str, sign: Callable[[str], str]) -> dict[str, Any]: ...

    def upload(self, path: Path, *, name: str = "", on_progress: Progress | None = None) -> dict[str, Any]: ...

    def download(self, what: str, out: Path, *, on_progress: Progress | None = None) -> Path: ...

    def follow(self, update_id: str, on_status: Progress, *, quiet_s: float = ...) -> dict[str, Any]: ...

    def tend(self, seconds: float) -> None: ...

    def estimate_s(self, count: int) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What shall be done at each terminal. Without `parcels` terminals fetch from their repository."""

    engineer: Engineer
    out: Path
    parcels: Parcels | None = None
    role: str = "update"
    at_once: bool = False


class Visit:
    """At one terminal; `run` returns when its diary has an ending."""

    def __init__(self, terminal: Line, name: str, diary: Diary, plan: Plan) -> None:
        self._terminal = terminal
        self._name = name
        self._diary = diary
        self._plan = plan

    def run(self) -> None:
        try:
            self._work()
        except PosagentError as error:
            self._diary.problem(error)
            lost = error.spec.kind is Kind.UNREACHABLE
            self._diary.end(Ending.LOST if lost else Ending.REFUSED, error.code, error.detail)

    def _work(self) -> None:
        self._diary.enter(Stage.ASSESSING)
        status = self._look()
        self._diary.versions(before=_booted(status, "version"))
        under_way = self._ours(status)
        outcome = self._follow(under_way) if under_way else self._update(status)
        if outcome is None:
            self._diary.versions(after=_booted(status, "version"))
            self._diary.end(Ending.CURRENT)
        else:
            self._conclude(outcome)

    def _look(self) -> dict[str, Any]:
        """Its status, as soon as it knows what it runs."""
        while True:
            status = self._terminal.call("status", timeout_s=PATIENCE_S)
            self._diary.status(status)
            if status.get("booted"):
                return status
            self._terminal.tend(AGAIN_S)

    def _ours(self, status: Mapping[str, Any]) -> str | None:
        """The id of an update under way, if it is to the wanted version or to one that is not known yet."""
        update, parcels = status.get("update"), self._plan.parcels
        if update is None:
            return None
        same = parcels is None or update.get("version") in ("", parcels.version)
        return str(update["id"]) if same else None

    # updating

    def _update(self, status: Mapping[str, Any]) -> dict[str, Any] | None:
        """The outcome; None where there is nothing newer. A part of the bundle is tried before the whole."""
        parcels, running = self._plan.parcels, _booted(status, "digest")
        if parcels is None:
            self._unlock()
            offer = self._terminal.call("check", timeout_s=PATIENCE_S)["offer"]
            return None if offer is None else self._follow(self._begin({}))
        self._diary.versions(wanted=parcels.version)
        if parcels.installs(running, _booted(status, "version")):
            return None
        self._unlock()
        part, *more = parcels.for_terminal(running)
        outcome = self._send(part)
        for part in more:
            if outcome["outcome"] != "failed" or outcome["code"] not in NEEDS_MORE:
                break
            self._diary.problem(PosagentError(outcome["code"], "what was sent is not enough; more of the bundle is"))
            self._unlock()
            outcome = self._send(part)
        return outcome

    def _unlock(self, role: str = "") -> None:
        """As soon as the terminal is ready for it."""
        self._diary.enter(Stage.UNLOCKING)
        if self._plan.engineer.certificate.needs_touch:
            self._diary.note(TOUCH)
        waited_s = 0.0
        while True:
            try:
                self._terminal.unlock(role or self._plan.role, self._plan.engineer.sign_challenge)
            except PosagentError as error:
                if error.code not in NOT_YET or waited_s > PATIENCE_S:
                    raise
                wait_s = float(error.facts.get("expected_s") or AGAIN_S)
                waited_s += wait_s
                self._terminal.tend(wait_s)
            else:
                self._diary.enter(Stage.ASSESSING)
                return

    def _send(self, path: Path) -> dict[str, Any]:
        total = path.stat().st_size
        self._diary.sent(0, total, self._terminal.estimate_s(total))
        self._diary.enter(Stage.SENDING)
        try:
            there = self._terminal.upload(
                path,
                name=f"{_file_name(path.stem)}.bundle",
                on_progress=lambda told: self._diary.sent(told["bytes_done"], total, told["expected_s"]),
            )
        except OSError as error:
            raise PosagentError("laptop_io", f"{path}: {error.strerror or error}") from None
        self._diary.sent(total, total, 0.0)
        return self._follow(self._begin({"source": there["path"]}))

    def _begin(self, source: dict[str, Any]) -> str:
        """The id of the update. Where the answer was lost it may have begun, and even ended: then that is the one."""
        self._diary.enter(Stage.ASSESSING)
        before = _last(self._look())
        for tries_left in reversed(range(BEGIN_TRIES)):
            try:
                return str(self._terminal.call("update", {**source, "now": self._plan.at_once})["id"])
            except PosagentError as error:
                if error.code in BEGUN_ALREADY:
                    status = self._look()
                    last = _last(status)
                    if begun := self._ours(status) or (str(last["id"]) if last and last != before else ""):
                        return begun
                if not tries_left or error.code not in ("line_lost", "not_allowed"):
                    raise
                self._unlock()
        raise AssertionError("unreachable")

    def _follow(self, update_id: str) -> dict[str, Any]:
        """Its outcome. A terminal that waits for a gate may have nothing to tell for hours: it is lost only when it
        does not answer any more."""
        while True:
            try:
                outcome: dict[str, Any] = self._terminal.follow(update_id, self._diary.status, quiet_s=QUIET_S)[
                    "outcome"
                ]
            except PosagentError as error:
                if error.code != "line_lost":
                    raise
                self._look()
            else:
                return outcome

    # the end

    def _conclude(self, outcome: Mapping[str, Any]) -> None:
        status = self._look()
        self._diary.versions(after=_booted(status, "version"), wanted=str(outcome.get("version") or ""))
        for problem in status.get("problems", ()):
            self._diary.problem(PosagentError.from_dict(problem))
        if outcome["outcome"] in ("failed", "rolled_back"):
            self._ticket(status)
            if SUPPORT in self._plan.engineer.certificate.roles:
                self._collect()
        self._diary.end(str(outcome["outcome"]), str(outcome["code"]), str(outcome.get("detail", "")))

    def _ticket(self, status: Mapping[str, Any]) -> None:
        """The code of the support bundle that a terminal with a ladder of help makes by itself after a failure."""
        waited_s = 0.0
        while "help" in status and not _last(status).get("ticket") and waited_s < TICKET_S:
            self._terminal.tend(AGAIN_S)
            waited_s += AGAIN_S
            status = self._look()
        if ticket := _last(status).get("ticket"):
            self._diary.support(code=str(ticket["code"]))

    def _collect(self) -> None:
        """A support bundle on the laptop, with the code that belongs to it."""
        try:
            self._unlock(SUPPORT)
            self._diary.support(**collect(self._terminal, self._name, self._plan.out))
        except PosagentError as error:
            self._diary.problem(error)


def _last(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the last update ended; empty where there was none."""
    last: Mapping[str, Any] = status.get("last_outcome") or {}
    return last


def collect(terminal: Line, name: str, out: Path) -> dict[str, str]:
    """Have an unlocked terminal make a support bundle and fetch it into the directory `out`: its `code` and `file`.
    Raises PosagentError."""
    code, waited_s = "", 0.0

    def told(progress: dict[str, Any]) -> None:
        nonlocal code
        code = str(progress.get("code", code))

    while True:
        try:
            out.mkdir(parents=True, exist_ok=True)
            path = terminal.download(SUPPORT, out / f"{_file_name(name)}-support.bin", on_progress=told)
            return {"code": code, "file": path.name}
        except OSError as error:
            raise PosagentError("laptop_io", f"{out}: {error.strerror or error}") from None
        except PosagentError as error:
            if error.code != "busy" or waited_s >= COLLECT_S:  # it makes one by itself
                raise
            terminal.tend(AGAIN_S)
            waited_s += AGAIN_S


def _file_name(called: str) -> str:
    """Whatever it is called, as a part of a file's name on any system."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", called)[:40] or "_"


def _booted(status: Mapping[str, Any], key: str) -> str:
    slots: Mapping[str, Mapping[str, Any]] = status.get("slots") or {}
    return str(slots.get(str(status.get("booted")), {}).get(key, ""))
