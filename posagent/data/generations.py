"""Which generation of the merchant's data belongs to what was booted, and how one becomes the next.

Owns: the record of the generations, and what the payment application finds under the name that it opens. Selection is
a function of the record and of what was booted; nothing is remembered anywhere else.
Never: a version on trial on anything but a copy; a generation published that the running version does not read.
Rules: every verb may be repeated at any time and after a power cut between any two of its steps. The orders that
matter:
* a copy is migrated, compared with what it was made from, and durable, before the record names it;
* counters of a generation that is left are raised durably before the one that is gone on with is published;
* the record names another generation as current before the old one is removed;
* what the record does not name is removed first, so that interrupted attempts take no room.
The switch is durable before the update's end is. Where the version before runs after all, it goes on with the
generation before, if no payment was taken in between: the money in both says so.
Payments taken on the old generation after the copy was made show in its digest: then the copy is made anew.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from posagent.config_data import DataConfig
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ledger import compare
from posagent.core.ports import Clock, Databases, Message, Publisher, Steps, Trees
from posagent.data.migration import Migration, Working
from posagent.data.money import Money
from posagent.data.parameters import ParameterSets
from posagent.data.place import Place
from posagent.data.record import UNKNOWN, BackupNote, Generation, Next, Record, followed, switched, without_old


class Generations:
    """The verbs `select`, `migrate`, `switch`, `tidy` and `parameters` (`alone`). `slot` and `version` are what was
    booted; `on_trial` says whether that was not confirmed yet; `parameters` go the same way as the data. Each raises
    PosagentError."""

    def __init__(
        self,
        *,
        trees: Trees,
        databases: Databases,
        steps: Steps,
        publisher: Publisher,
        clock: Clock,
        data: DataConfig,
        slot: str,
        version: str,
        on_trial: Callable[[], bool],
        parameters: ParameterSets,
    ) -> None:
        self._clock, self._data, self.parameters = clock, data, parameters
        self.slot, self.version, self._on_trial = slot, version, on_trial
        self.place = Place(trees, databases, publisher, data.root_dir)
        self.money = Money(trees, databases)
        self._migration = Migration(self.place, self.money, steps)

    # verbs

    def select(self) -> Iterator[Message]:
        """At the start of the system, before the payment application: result `{published, problem}`. What is on trial
        gets nothing before `migrate`. A confirmed version goes on with its copy, if that was not switched to yet, and
        takes older data over at once: the bootloader has left it, and it has come back."""
        with trouble():
            found, problem = self.known(), self.parameters.select()
            self.place.withhold()
            if not self._on_trial() and (self._mine(found) is not None or found.current.format < self._data.format):
                found = yield from self._switch(found, self._clock.wall())
            yield {"result": self._selected(found, problem)}

    def migrate(self) -> Iterator[Message]:
        """At every start of a trial: the copy that it works on, made where there is none that is up to date. Result
        `{generation, changed, format_from, format_to, ledger, parameters, took_s}`."""
        began = self._clock.monotonic()
        with trouble():
            found = self.known()
            used, changed, parameters = found.current, False, self.parameters.take_over()
            if self._trying(found):
                trial = yield from self._up_to_date(found)
                used, changed = trial.generation, trial.changed
                self.place.publish(used, trial=True)
            else:  # nothing is on trial, as far as the installer knows: the data is left as it is
                self._publish_current(found)
            summary = self.money.summary(self.place.inside(used.name), used.ledger)
            result = {
                "generation": used.name,
                "changed": changed,
                "format_from": found.current.format,
                "format_to": used.format,
                "ledger": None if summary is None else summary.as_dict(),
                "parameters": parameters,
                "took_s": round(self._clock.monotonic() - began, 3),
            }
            yield {"result": result}

    def switch(self, committed_at: float) -> Iterator[Message]:
        """The version on trial is confirmed: its copy is the data from now on. Result `{published, retired}`. Where the
        copy was made anew and that was cut short, older data is all there is, and is brought up to date here."""
        with trouble():
            found, retired = self.record(), ""
            if self._mine(found) is not None or found.current.format < self._data.format:
                found = yield from self._switch(found, committed_at)
                retired = found.retired[-1].name
            self.parameters.keep()
            self._publish_current(found)
            yield {"result": {"published": found.current.name, "retired": retired}}

    def tidy(self, now: float) -> Iterator[Message]:
        """After an update, however it ended: result `{removed, published, problem}`. A copy that the running version
        works on although no update is under way is the data: payments are taken on it."""
        with trouble():
            found, problem = self.known(), self.parameters.tidy()
            trial = self._mine(found)
            if trial is not None and not self._on_trial():
                found = self._kept(found, trial, now)
            elif found.next is not None and trial is None:
                found = self._drop_next(found)
            found = self._forget_old(found, now)
            removed = self.place.sweep(found)
            yield {"result": {"removed": removed, **self._selected(found, problem)}}

    def alone(self, do: str, update_id: str) -> Iterator[Message]:
        """Of an update that brings parameters alone: `begin` tries them, with the result `{version, before}`;
        `commit` keeps them, `withdraw` does not: `{reloaded}`, whether the application has read what it finds now."""
        with trouble():
            match do:
                case "begin":
                    version, before = self.parameters.begin(update_id)
                    yield {"result": {"version": version, "before": before}}
                case "commit":
                    yield {"result": {"reloaded": self.parameters.commit(update_id)}}
                case "withdraw":
                    yield {"result": {"reloaded": self.parameters.withdraw()}}
                case _:
                    raise Refusal("bad_request", f"parameters: there is no {do[:40]!r}")

    # looking

    def record(self) -> Record:
        """Raises PosagentError `data_unreadable` where there is none."""
        found = self.place.load()
        if found is None:
            raise PosagentError("data_unreadable", "there is no record of the data")
        return found

    def known(self) -> Record:
        """The record; at the very first start, that of an empty generation. Where that is a trial, another version has
        kept its data elsewhere until now, and a migration step has to fetch it."""
        found = self.place.load()
        if found is None:
            if self.place.has_backups:
                raise PosagentError("data_unreadable", "there is no record of the data, but there are backups")
            first = Generation(name="g-1", format=UNKNOWN) if self._on_trial() else self._described("g-1")
            found = Record(current=first)
            self.place.sweep(None)
            self.place.begin_first(found.current.name)
            self.place.store(found)
        return found

    def _mine(self, found: Record) -> Next | None:
        """The copy that the running version works on."""
        trial = found.next
        if trial is None or (trial.slot, trial.version) != (self.slot, self.version):
            return None
        return trial if trial.generation.format == self._data.format else None

    def _trying(self, found: Record) -> bool:
        return self._on_trial() or self._mine(found) is not None

    def _described(self, name: str) -> Generation:
        """A generation as the running version has it."""
        data = self._data
        return Generation(name=name, format=data.format, ledger=data.ledger, counters=data.counters)

    def note_backup(self, note: BackupNote) -> None:
        """Durably; one of the same name gives way."""
        found = self.record()
        others = [one for one in found.backups if one.name != note.name]
        self.place.store(dataclasses.replace(found, backups=(*others, note)))

    def adopt(self, new: Generation, at: float) -> Record:
        """A complete and durable generation that is current from now on, and published at the next start of the system;
        what was, is retired."""
        found = self.record()
        found = found if found.next is None else self._drop_next(found)
        found = followed(found, new, at, self._reached(new))
        self.place.store(found)
        return found

    def check_readable(self, found: Record) -> None:
        """Raises PosagentError `data_newer`, `data_older` where the running version does not read the current data."""
        if problem := self._format_problem(found):
            raise self._wrong_format(problem, found)

    # publishing

    def _selected(self, found: Record, minor: str) -> dict[str, str]:
        """What is published now, and why it is not what it should be, or else the `minor` trouble."""
        problem = ""
        if not self._on_trial():
            found = self._returned(found)
            problem = self._format_problem(found)
            if problem:
                self.place.withhold()
            else:
                problem = self._raise_counters(found)
                self.place.publish(found.current)
        return {"published": self.place.published(), "problem": problem or minor}

    def _returned(self, found: Record) -> Record:
        """For a version that does not read the current generation: the one before is current again where nothing was
        paid since. The money in both is the same, and no counter has moved since the switch: a batch that was paid and
        settled in between left no money, but used numbers."""
        older = [one for one in found.retired if one.generation.format == self._data.format]
        if found.current.format <= self._data.format or not older or found.next is not None:
            return found
        last = older[-1]
        try:
            before = self.money.summary(self.place.inside(last.name), last.generation.ledger)
            after = self.money.summary(self.place.inside(found.current.name), found.current.ledger)
            reached = self._reached(found.current)
        except PosagentError:
            return found
        if before is None or after is None or compare(before, after) or reached != last.counters:
            return found
        if not reached and not after.payments:
            return found  # nothing says that nothing happened
        self.money.raise_counters(self.place.inside(last.name), last.generation.counters, reached)
        new = followed(found, last.generation, self._clock.wall(), {})
        self.place.store(new)
        return new

    def _publish_current(self, found: Record) -> None:
        if self._format_problem(found):
            self.place.withhold()
        self.check_readable(found)
        self.place.publish(found.current)

    def _format_problem(self, found: Record) -> str:
        if found.current.format == self._data.format:
            return ""
        return "data_newer" if found.current.format > self._data.format else "data_older"

    def _wrong_format(self, problem: str, found: Record) -> PosagentError:
        has, reads = found.current.format, self._data.format
        detail = f"the data has format {has}, this version reads {reads}"
        return PosagentError(problem, detail, measure="format", measured=has, limit=reads)

    # changing

    def _up_to_date(self, found: Record) -> Working[Next]:
        """The copy for the running version, complete and in the record."""
        trial = self._mine(found)
        # what is kept elsewhere may have changed since the last start
        seen = found.current.format != UNKNOWN or (trial and self.place.published() == trial.generation.name)
        if trial and seen and trial.source == (yield from self._migration.digest(found.current)):
            self._migration.need_all_of(found.current, trial.generation)
            return trial
        reached = {} if trial is None else self._reached(trial.generation)
        self.place.withhold()
        if found.current.format > self._data.format:
            raise self._wrong_format("data_newer", found)
        if found.next is not None:
            found = self._drop_next(found)
        self.place.sweep(found)
        self.place.need_room(found.current)
        new = self._described(found.new_name())
        try:
            source = yield from self._migration.make(found.current, new)
            self.money.raise_counters(self.place.inside(new.name), new.counters, reached)
        except (PosagentError, OSError):
            self.place.sweep(found)
            raise
        trial = Next(
            generation=new,
            slot=self.slot,
            version=self.version,
            source=source,
            changed=found.current.format != new.format,
        )
        self.place.store(dataclasses.replace(found, next=trial))
        return trial

    def _raise_counters(self, found: Record) -> str:
        """Those of the current generation to where the copy for another version has got, durably. What a broken version
        left of its copy must not keep the good one from working: then the code of the trouble."""
        if found.next is None:
            return ""
        trial, current = found.next.generation, found.current
        reached, wrong = self.money.legible(self.place.inside(trial.name), trial.counters)
        try:
            self.money.raise_counters(self.place.inside(current.name), current.counters, reached)
        except PosagentError as error:
            wrong = wrong or error
        return wrong.code if wrong is not None else ""

    def _switch(self, found: Record, at: float) -> Working[Record]:
        """The copy for the running version is current from now on."""
        trial = yield from self._up_to_date(found)
        return self._kept(self.record(), trial, at)

    def _kept(self, found: Record, trial: Next, at: float) -> Record:
        new = switched(found, trial, at, self._reached(trial.generation))
        self.place.store(new)
        return new

    def _reached(self, generation: Generation) -> dict[str, int]:
        """Where its counters are, those that can be read."""
        return self.money.legible(self.place.inside(generation.name), generation.counters)[0]

    def _drop_next(self, found: Record) -> Record:
        self._raise_counters(found)
        dropped = dataclasses.replace(found, next=None)
        self.place.store(dropped)
        return dropped

    def _forget_old(self, found: Record, now: float) -> Record:
        new = without_old(found, now, self._data.backup_keep_h * 3600)
        if new != found:
            self.place.store(new)
        return new


@contextmanager
def trouble() -> Iterator[None]:
    """What the operating system says, as an error with a code."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        detail = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        raise PosagentError("data_no_space" if full else "data_io", detail) from error


def result_of(work: Iterator[Message]) -> dict[str, Any]:
    """Of a verb, for those who do not watch it."""
    *_, last = work
    result: dict[str, Any] = last["result"]
    return result
