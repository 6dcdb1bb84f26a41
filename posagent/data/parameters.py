"""The sets of parameters that this terminal has, and which of them the payment application finds.

    parameters.json        the record                parameters/p-3    a set, as it was signed

Owns: the record of the sets, and what the name beside that of the data leads to. Sets are never changed, so there is
nothing to copy and no money to compare: a version on trial, or an update of parameters alone, *tries* a set; it is the
current one when it is *kept*, and the one before stays until the next is. Which is found is a function of the record
and of what was booted: the newest that was kept and that the running image's schema accepts.
Never: a set that the schema of the running image does not accept, or whose bytes are not those that were signed.
Rules: every verb may be repeated at any time and after a power cut between any two of its steps. A set is durable
before the record names it; what the record does not name is a leftover.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from posagent.core import durable, parameters
from posagent.core.errors import PosagentError
from posagent.core.parameters import Staged
from posagent.core.ports import Files, Publisher, Schema

FORM = 1
RECORD, FOLDER = "parameters.json", "parameters"
_FILE = re.compile(r"p-([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSet:
    """`file` has it; `schema` is the digest of the schema that accepted it last."""

    file: str
    version: str
    sha256: str
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """`tried` is of its `holder` (core.parameters)."""

    current: ParameterSet | None = None
    before: ParameterSet | None = None
    tried: ParameterSet | None = None
    holder: str = ""

    @property
    def files(self) -> list[str]:
        return [one.file for one in (self.current, self.before, self.tried) if one is not None]


class ParameterSets:
    """`mine` is the holder that the running version is; `staged` is what the installer left; `reload` has the payment
    application read its parameters while it runs, None where it cannot. `files` can be read by everybody. Raises
    PosagentError `parameters_invalid`, `parameters_alone`, `parameters_reload`, `data_unreadable`; OSError."""

    def __init__(
        self,
        *,
        files: Files,
        publisher: Publisher,
        schema: Schema,
        root: str,
        staged: Callable[[], Staged | None],
        reload: Callable[[], None] | None,
        mine: str,
        on_trial: Callable[[], bool],
    ) -> None:
        self._files, self._publisher, self._schema, self._root = files, publisher, schema, root
        self._staged, self._reload, self._mine, self._on_trial = staged, reload, mine, on_trial

    # as parts of the verbs of data.generations

    def select(self) -> str:
        """At the start of the system, and after an update: the code of the trouble, or nothing. What is on trial gets
        none yet; a confirmed version keeps what it has tried, because nothing else can have ended its trial well."""
        if self._on_trial():
            self._publisher.withhold()
            return ""
        return self._whatever(lambda: self._show(self._kept(self._load(), self._mine)))

    def take_over(self) -> str:
        """On a trial boot, before the application gets its data: the set that came with the version, or the one that is
        there; the version of what is found now."""
        found, new = self._load(), self._staged()
        if new is not None and new.holder == self._mine:
            found = self._tried(found, new)
        if found.holder == self._mine and found.tried is not None:
            self._publish(found.tried)
            return found.tried.version
        problem = self._show(found)
        if problem:
            raise PosagentError(problem, "the parameters that are here do not fit this version, and it brought none")
        return self.version()

    def keep(self) -> None:
        """The version on trial is confirmed."""
        self._show(self._kept(self._load(), self._mine))

    def tidy(self) -> str:
        """When no update is under way any more: as `select`, and nothing is on trial but the running version."""

        def drop() -> str:
            found = self._load()
            if found.tried is not None and found.holder != self._mine:
                self._store(dataclasses.replace(found, tried=None, holder=""))
            return ""

        return self._whatever(drop) or (self.select() if not self._on_trial() else "")

    def _whatever(self, work: Callable[[], str]) -> str:
        """What is wrong with parameters must not keep the merchant from the data: none are published then."""
        try:
            return work()
        except PosagentError as error:
            self._publisher.withhold()
            return error.code
        except OSError:
            self._publisher.withhold()
            return "data_io"

    # verbs of an update that brings nothing else

    def begin(self, update_id: str) -> tuple[str, str]:
        """Try the set that the installer left for this update: its version, and that of the one before."""
        if self._reload is None:
            raise PosagentError("parameters_alone", "data.reload_command is not configured")
        new = self._staged()
        if new is None or new.holder != parameters.update_of(update_id):
            raise PosagentError("data_io", "the installer left no parameters for this update")
        found = self._tried(self._load(), new)
        if found.tried is not None:
            trouble = self._change(lambda: self._publish(found.tried))
            if trouble is not None:
                self._publisher.withhold()  # so that the next attempt makes it read them
                raise trouble
        elif self._show(found):  # it is the current one already
            raise PosagentError("parameters_invalid", "the schema of this image does not accept them")
        return new.version, found.current.version if found.current is not None else ""

    def commit(self, update_id: str) -> bool:
        """Whether the application has read what it finds now. That it has not holds nothing up: no payment may begin
        until the update has ended, and it reads them when it is started."""
        found = self._kept(self._load(), parameters.update_of(update_id))
        return self._change(lambda: self._show(found)) is None

    def withdraw(self) -> bool:
        """The set that was tried is dropped, the one before is found again; else as `commit`."""
        found = self._load()
        if found.tried is not None:
            found = dataclasses.replace(found, tried=None, holder="")
            self._store(found)
        return self._change(lambda: self._show(found)) is None

    # looking

    def version(self) -> str:
        """Of the set that the application finds, or nothing."""
        name, found = self._publisher.published().rpartition("/")[2], self._load()
        sets = (found.current, found.before, found.tried)
        return next((one.version for one in sets if one is not None and one.file == name), "")

    def _load(self) -> Sets:
        path = f"{self._root}/{RECORD}"
        if self._files.size(path) is None:
            return Sets()
        told = durable.read_json(self._files, path)
        try:
            if told["v"] != FORM or not isinstance(told["holder"], str):
                raise ValueError(f"its form is {told['v']!r}")
            return Sets(holder=told["holder"], **{name: _set(told[name]) for name in ("current", "before", "tried")})
        except (ValueError, KeyError, TypeError) as error:
            raise PosagentError("data_unreadable", f"{path}: {error}") from None

    def _fits(self, one: ParameterSet) -> bool:
        """Whether the running image accepts it, and it is what was signed."""
        try:
            data = self._files.read(self._path(one))
            if hashlib.sha256(data).hexdigest() != one.sha256:
                return False
            if one.schema != self._schema.digest:
                self._schema.check(parameters.decoded(data))
        except (FileNotFoundError, ValueError, PosagentError):
            return False
        return True

    def _path(self, one: ParameterSet) -> str:
        return f"{self._root}/{FOLDER}/{one.file}"

    # changing

    def _show(self, found: Sets) -> str:
        """Publish the newest that fits; the code of the trouble where none does."""
        for one in (found.current, found.before):
            if self._schema.digest and one is not None and self._fits(one):
                self._publish(one)
                return ""
        self._publisher.withhold()
        return "parameters_invalid" if self._schema.digest and found.current is not None else ""

    def _publish(self, one: ParameterSet | None) -> None:
        if one is not None and self._publisher.published() != self._path(one):
            self._publisher.publish(self._path(one))

    def _change(self, show: Callable[[], object]) -> PosagentError | None:
        """While the application runs: it reads its parameters again if they are others now; why it could not."""
        before = self._publisher.published()
        show()
        if self._publisher.published() != before and self._reload is not None:
            try:
                self._reload()
            except PosagentError as error:
                return error
        return None

    def _tried(self, found: Sets, new: Staged) -> Sets:
        """With the set on trial for its holder; the schema of the running image has accepted it."""
        if found.tried is not None and found.holder == new.holder and _same(found.tried, new):
            return found
        if found.current is not None and _same(found.current, new):
            return dataclasses.replace(found, tried=None, holder="")  # it was kept before the power went
        self._schema.check(_decoded(new.data))
        self._sweep(found)
        name = f"p-{1 + max((_number(name) for name in found.files), default=0)}"
        self._files.make_dir(f"{self._root}/{FOLDER}")
        durable.replace(self._files, f"{self._root}/{FOLDER}/{name}", new.data)
        tried = ParameterSet(file=name, version=new.version, sha256=new.sha256, schema=self._schema.digest)
        found = dataclasses.replace(found, tried=tried, holder=new.holder)
        self._store(found)
        return found

    def _kept(self, found: Sets, holder: str) -> Sets:
        """What that holder tries is current from now on; without such a set nothing changes."""
        if found.tried is None or found.holder != holder:
            return found
        found = Sets(current=found.tried, before=found.current)
        self._store(found)
        self._sweep(found)
        return found

    def _store(self, found: Sets) -> None:
        durable.replace_json(self._files, f"{self._root}/{RECORD}", {"v": FORM, **dataclasses.asdict(found)})

    def _sweep(self, found: Sets) -> None:
        for name in self._files.names(f"{self._root}/{FOLDER}"):
            if name not in found.files:
                self._files.unlink(f"{self._root}/{FOLDER}/{name}")


def _set(told: Any) -> ParameterSet | None:
    if told is None:
        return None
    names = ("file", "version", "sha256", "schema")
    if not all(isinstance(told[name], str) for name in names) or not _FILE.fullmatch(told["file"]):
        raise ValueError("a set is not as it was written")
    return ParameterSet(**{name: told[name] for name in names})


def _same(one: ParameterSet, new: Staged) -> bool:
    return (one.version, one.sha256) == (new.version, new.sha256)


def _number(name: str) -> int:
    found = _FILE.fullmatch(name)
    return int(found[1]) if found else 0


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        return parameters.decoded(data)
    except ValueError as error:
        raise PosagentError("parameters_invalid", str(error)) from None
