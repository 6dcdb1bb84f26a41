"""The dialogue of a download: the fetcher fetches, the installer says what else it needs, until that is all there.

The installer cannot know what it needs before it has read the bundle's tables, and each may tell of another one: it is
asked again until its plan is complete. Where the spool has no room for everything, what fits is fetched, put into the
spare slot ("streamed") and makes room for more; what is in the slot is in no later plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from posagent.core.errors import PosagentError
from posagent.core.model import Event, Update
from posagent.core.pieces import Piece

TABLES_MAX = 128
"""How often a bundle's tables may tell of another one: each of its members may."""


class Plan(NamedTuple):
    """The parts of the bundle that are needed; `complete` if these and the `tables`, by which they are known, are all;
    `refused` is why there is a delta that cannot be used here, or nothing; so many bytes of the image are made of
    `large` and of `small` operations. See the installer's verb `plan`."""

    wanted: list[Piece]
    tables: list[Piece]
    complete: bool
    refused: str
    large: int = 0
    small: int = 0


class Fetched(NamedTuple):
    """Where the bundle is, how many bytes of it are there, whether these are all that was asked for, and how many bytes
    came twice."""

    bundle: str
    length: int
    complete: bool
    bytes_refetched: int


class Ask(Protocol):
    """Asks the worker that knows the verb (`probe`, `fetch`, `plan`, `stage`), and hands on what it answers."""

    def __call__(self, verb: str, args: Mapping[str, Any], then: Callable[[Any], None]) -> None: ...


class Download:
    """The download of one update. `post` raises events with what is known of it then; `failed` gets the trouble;
    `price` is what a large operation has to save now (core.packing); `probe` to have the network looked at before it
    begins."""

    def __init__(
        self,
        update: Update,
        *,
        ask: Ask,
        post: Callable[..., None],
        failed: Callable[[PosagentError], None],
        price: Callable[[], float],
        probe: bool = False,
    ) -> None:
        self._update, self._ask, self._post, self._failed = update, ask, post, failed
        self._price, self._probe = price, probe
        self._args: dict[str, Any] = {"id": update.spool, "source": update.source}
        if update.length is not None:
            self._args |= {"length": update.length, "sha256": update.sha256}
        self._streamed = False
        self._left: int | None = None
        """Bytes that were missing when parts were last put into the slot: fewer must be now."""
        self._tables = 0
        self._refused = bool(update.refused)
        self._made: dict[str, int] = {}
        self._whole = True
        """Whether large operations may be planned: they may not fit where parts are put into the slot."""

    def begin(self, _: object = None) -> None:
        if self._probe:
            self._ask("probe", {}, self._probed)
        else:
            self._ask("fetch", self._args, self._look)

    def _probed(self, found: str) -> None:
        """What is wrong with the network is only told: the attempt is made all the same."""
        if found != self._update.found:
            self._post(Event.PROGRESSED, update={"found": found})
        self._ask("fetch", self._args, self._look)

    def _look(self, fetched: Fetched) -> None:
        self._bundle = fetched.bundle
        self._ask("plan", {"bundle": fetched.bundle, "whole": self._whole, "price": self._price()}, self._planned)

    def _planned(self, plan: Plan) -> None:
        missing = sum(length for _, length in plan.wanted)
        self._tables += not plan.complete
        if plan.refused and not self._refused:
            self._refused = True
            self._post(Event.PROGRESSED, update={"refused": plan.refused})
        stuck = plan.complete and self._left is not None and missing >= self._left
        if stuck and self._whole:
            self._whole, self._left = False, None
            self._ask("plan", {"bundle": self._bundle, "whole": False}, self._planned)
            return
        if stuck or self._tables > TABLES_MAX:
            code = "spool_full" if stuck else "bundle_unreadable"
            self._failed(PosagentError(code, f"{missing} bytes of the bundle stay missing"))
            return
        if plan.complete and self._streamed:
            self._left = missing
        self._made = {"bytes_large": plan.large, "bytes_small": plan.small}
        args = {**self._args, "pieces": plan.wanted}
        if plan.complete:
            self._ask("fetch", {**args, "tables": plan.tables, "make_room": self._streamed}, self._arrived)
        else:
            self._ask("fetch", args, self._look)

    def _arrived(self, fetched: Fetched) -> None:
        if fetched.complete:
            twice = fetched.bytes_refetched + self._update.bytes_lost
            known = {"bundle": fetched.bundle, "bytes_fetched": fetched.length, "bytes_refetched": twice}
            self._post(Event.FETCHED, update={**known, **self._made})
            return
        if not (self._streamed or self._update.streamed):
            self._post(Event.PROGRESSED, update={"streamed": True})
        self._streamed = True
        args = {"bundle": fetched.bundle, "slot": self._update.target, "update_id": self._update.id}
        self._ask("stage", args, lambda _: self._look(fetched))
