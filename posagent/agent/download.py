"""The dialogue of a download: the fetcher fetches, the installer says what else it needs, until that is all there.

The installer cannot know what it needs before it has read the bundle's tables, and each may tell of another one: it is
asked again until its plan is complete. Where the spool has no room for everything, what fits is fetched, put into the
spare slot ("streamed") and makes room for more; what is in the slot is in no later plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from posagent.core.errors import PosagentError
from posagent.core.pieces import Piece


class Plan(NamedTuple):
    """The parts of the bundle that are needed; `complete` if these and the `tables`, by which they are known, are all.
    See the installer's verb `plan`."""

    wanted: list[Piece]
    tables: list[Piece]
    complete: bool


class Fetched(NamedTuple):
    """Where the bundle is, whether everything that was asked for is there, and how many bytes came twice."""

    bundle: str
    complete: bool
    bytes_refetched: int


class Download:
    """`fetch`, `plan` and `stage` ask the workers and hand on what they answer. `done` gets what is known of the
    download then, as fields of core.model.Update."""

    def __init__(
        self,
        args: Mapping[str, Any],
        *,
        fetch: Callable[[Mapping[str, Any], Callable[[Fetched], None]], None],
        plan: Callable[[str, Callable[[Plan], None]], None],
        stage: Callable[[str, Callable[[object], None]], None],
        done: Callable[[Mapping[str, Any]], None],
        failed: Callable[[PosagentError], None],
    ) -> None:
        self._args = args
        self._fetch, self._plan, self._stage = fetch, plan, stage
        self._done, self._failed = done, failed
        self._asked: list[tuple[list[Piece], bool]] = []
        self._streamed = False

    def begin(self, _: object = None) -> None:
        self._fetch(self._args, self._look)

    def _look(self, fetched: Fetched) -> None:
        self._plan(fetched.bundle, self._planned)

    def _planned(self, plan: Plan) -> None:
        if (plan.wanted, self._streamed) in self._asked:
            missing = sum(length for _, length in plan.wanted)
            code = "spool_full" if plan.complete else "bundle_unreadable"
            self._failed(PosagentError(code, f"{missing} bytes of the bundle stay missing"))
            return
        self._asked.append((plan.wanted, self._streamed))
        args = {**self._args, "pieces": plan.wanted}
        if plan.complete:
            self._fetch({**args, "tables": plan.tables, "make_room": self._streamed}, self._arrived)
        else:
            self._fetch(args, self._look)

    def _arrived(self, fetched: Fetched) -> None:
        if fetched.complete:
            facts = {"streamed": self._streamed, "bytes_refetched": fetched.bytes_refetched}
            self._done({"bundle": fetched.bundle, **facts})
        else:
            self._streamed = True
            self._stage(fetched.bundle, lambda _: self._look(fetched))
