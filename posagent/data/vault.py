"""Backups of the merchant's data: made before an update, looked at, and taken back where nothing is lost by it.

Rules: a backup counts when it was tried out, and is in the record only then. Taking one back makes a new generation of
it; the present one is not changed. It is refused where a payment of the present data is not in the backup, and where
one of the backup is not in the present data any more: it was settled, and would be charged again. Only data that cannot
be read any more is replaced without that. The counters go on from where they are now, as far as they can be read. The
payment application has the old files open: nothing is published before the next start of the system.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, Protocol

from posagent.core import ledger
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Message
from posagent.data.generations import Generations, trouble
from posagent.data.migration import Working, progress
from posagent.data.record import BackupNote, Generation, Record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Sealer(Protocol):
    """Seals a data directory into one file, and opens it. Raises PosagentError `data_backup_corrupt`, `data_key`,
    `data_secret_found`, `data_unreadable`; OSError."""

    def make(
        self, data_dir: str, *, name: str, update_id: str, slot: str, version: str, terminal: str
    ) -> Iterator[Message]:
        """Progress `{phase: "seal" | "test", done, total}`, result `{name, sha256, bytes, files, rows, took_s}`."""

    def restore(self, name: str, target_dir: str) -> Iterator[Message]:
        """Everything in it into the empty directory `target_dir`."""

    def verify(self, name: str) -> Iterator[Message]:
        """Open it and look at all of it."""


class Vault:
    """The verbs `backup`, `verify` and `restore`. Each raises PosagentError."""

    def __init__(self, generations: Generations, sealer: Sealer, clock: Clock, terminal: str) -> None:
        self._generations, self._sealer, self._clock, self._terminal = generations, sealer, clock, terminal
        self._place, self._money = generations.place, generations.money

    def backup(self, update_id: str, version: str) -> Iterator[Message]:
        """Of the current generation, for an update to `version`: the progress and the result of Sealer.make. Afterwards
        there is room for the copy that the new version works on. The same update's earlier one is replaced."""
        if not _NAME.fullmatch(update_id):
            raise Refusal("bad_request", "update_id must be 1 to 64 letters, digits, dots, dashes")
        with trouble():
            found = self._generations.known()
            self._generations.check_readable(found)
            self._place.sweep(found)
            made = yield from _result_of(
                self._sealer.make(
                    self._place.inside(found.current.name),
                    name=update_id,
                    update_id=update_id,
                    slot=self._generations.slot,
                    version=self._generations.version,
                    terminal=self._terminal,
                )
            )
            note = BackupNote(
                name=update_id,
                at=self._clock.wall(),
                update_id=update_id,
                version=version,
                sha256=made["sha256"],
                generation=found.current,
            )
            self._generations.note_backup(note)
            self._place.need_room(found.current)
            yield {"result": made}

    def verify(self) -> Iterator[Message]:
        """All that is kept, looked at: result `{current, generations, backups, problems}` for people; trouble is told
        and ends nothing."""
        with trouble():
            found = self._generations.record()
            problems: list[str] = []
            current: dict[str, Any] = {"name": found.current.name, "format": found.current.format}
            try:
                self._generations.check_readable(found)
                current |= self._told(found.current)
                current["parameters"] = self._generations.parameters.version()
            except PosagentError as error:
                problems.append(error.code)
            backups = []
            for note in found.backups:
                wrong = ""
                try:
                    yield from _result_of(self._sealer.verify(note.name))
                except PosagentError as error:
                    wrong = error.code
                    problems.append(wrong)
                backups.append(
                    {
                        "name": note.name,
                        "at": note.at,
                        "version": note.version,
                        "format": note.generation.format,
                        "committed_at": note.committed_at,
                        "problem": wrong,
                    }
                )
            yield {"result": {"current": current, "generations": found.names, "backups": backups, "problems": problems}}

    def restore(self, name: str, *, dry_run: bool) -> Iterator[Message]:
        """Into a new generation, which is the current one at the end if it is no `dry_run`: result `{generation, now,
        then, lost, again, dry_run}` with the summaries of both; `now` is null where the present data cannot be read.
        Raises PosagentError `data_restore_loses`, `data_restore_doubles`."""
        with trouble():
            found = self._generations.record()
            note = next((one for one in found.backups if one.name == name), None)
            if note is None:
                raise Refusal("bad_request", f"there is no backup {name[:64]!r}")
            self._generations.check_readable(found)
            self._place.sweep(found)
            new = dataclasses.replace(note.generation, name=found.new_name())
            try:
                result = yield from self._restored(found, new, name)
                if not dry_run:
                    self._adopt(found, new)
            finally:  # a dry run's too, and where it was refused
                self._place.sweep(self._generations.record())
            yield {"result": {**result, "generation": "" if dry_run else new.name, "dry_run": dry_run}}

    def _restored(self, found: Record, new: Generation, name: str) -> Working[dict[str, Any]]:
        """The backup in a generation of its own, with the counters of now, durable."""
        current = found.current
        self._place.begin(new.name)
        yield from _result_of(self._sealer.restore(name, self._place.inside(new.name)))
        self._place.trees.like(self._place.inside(current.name), self._place.inside(new.name))
        try:
            reached = self._money.counters(self._place.inside(current.name), current.counters)
        except PosagentError:
            reached = {}
        self._money.raise_counters(self._place.inside(new.name), new.counters, reached)
        for path in self._place.settle(new.name):
            yield progress("sync", path)
        lost, again = self._differences(current, new)
        try:
            now = self._told(current)["ledger"]
        except PosagentError:
            now = None
        return {
            "now": now,
            "then": self._told(new)["ledger"],
            "lost": [dataclasses.asdict(one) for one in lost],
            "again": [dataclasses.asdict(one) for one in again],
        }

    def _differences(
        self, current: Generation, new: Generation
    ) -> tuple[list[ledger.Difference], list[ledger.Difference]]:
        """Payments of now that the backup has not, and of the backup that are not there any more; none of either where
        the present data cannot be read."""
        try:
            lost = ledger.lost(self._payments(current), self._payments(new))
            return lost, ledger.lost(self._payments(new), self._payments(current))
        except PosagentError:
            return [], []

    def _adopt(self, found: Record, new: Generation) -> None:
        """Looks once more: a payment may have been taken meanwhile."""
        if new.format != found.current.format:
            detail = f"the backup has format {new.format}, the data {found.current.format}"
            raise PosagentError("data_restore_loses", detail, measure="format", limit=found.current.format)
        self._place.withhold()
        lost, again = self._differences(found.current, new)
        if lost or again:
            self._generations.check_readable(found)
            self._place.publish(found.current)
        if lost:
            first = lost[0]
            detail = f"{first.measure}: {first.after} of {first.before} are in the backup"
            raise PosagentError("data_restore_loses", detail)
        if again:
            first = again[0]
            detail = f"{first.measure}: {first.before} in the backup, {first.after} of them are still there"
            raise PosagentError("data_restore_doubles", detail)
        self._generations.adopt(new, self._clock.wall())

    def _payments(self, generation: Generation) -> Iterator[ledger.Payment]:
        return self._money.payments(self._place.inside(generation.name), generation.ledger)

    def _told(self, generation: Generation) -> dict[str, Any]:
        inside = self._place.inside(generation.name)
        summary = self._money.summary(inside, generation.ledger)
        counters = self._money.counters(inside, generation.counters)
        return {"ledger": None if summary is None else summary.as_dict(), "counters": counters}


def _result_of(work: Iterator[Message]) -> Working[dict[str, Any]]:
    """Passes the progress on and ends with the result."""
    result: dict[str, Any] = {}
    for message in work:
        if "result" in message:
            result = message["result"]
        else:
            yield message
    return result
