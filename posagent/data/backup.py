"""Backups of the merchant's data: sealed in one go while payments wait, and good only when one has been restored.

Rules: what is read last must still be what was read first, or everything is read again: so all files are of one moment.
A database is copied by SQLite into `scratch` first, which only root gets into and which is removed however this ends.
A backup gets its name when everything in it came back the same.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Databases, Message, Trees
from posagent.data import copying
from posagent.data.container import Header, Reader, Writer, corrupt
from posagent.data.keys import KeyStore
from posagent.data.place import BACKUPS, SCRATCH, SPARE_BYTES, SUFFIX
from posagent.data.sealing import PIECES_A_STEP, WRITTEN, Contents, Opening, Sealing, progress, reading

UNFINISHED = ".part"
ATTEMPTS = 3
FILES_MAX = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Backups:
    """Raises PosagentError `data_backup_corrupt`, `data_key`, `data_secret_found`, `data_unreadable`,
    `data_no_space`; OSError for the medium's trouble. One verb at a time: they share `scratch`."""

    def __init__(
        self,
        *,
        trees: Trees,
        databases: Databases,
        keys: KeyStore,
        clock: Clock,
        root_dir: str,
        sources: Sequence[str],
        excluded: Sequence[str],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._trees, self._databases, self._keys, self._clock, self._random = trees, databases, keys, clock, random
        self._dir, self._scratch = f"{root_dir}/{BACKUPS}", f"{root_dir}/{SCRATCH}"
        self._sources, self._excluded = tuple(one.strip("/") for one in sources), tuple(excluded)

    def names(self) -> list[str]:
        return [name.removesuffix(SUFFIX) for name in self._trees.names(self._dir) if name.endswith(SUFFIX)]

    def remove(self, name: str) -> None:
        """Durably; a missing one is no error."""
        path = self._path(name)
        if self._trees.size(path) is not None:
            self._trees.unlink(path)
            self._trees.sync_dir(self._dir)

    def opened(self, name: str) -> Header:
        """Who made it, when and for what: proved, but nothing is said of the rest of it."""
        return self._named(Reader(self._trees, self._path(name), self._keys), name).proved()

    def make(
        self, data_dir: str, *, name: str, update_id: str, slot: str, version: str, terminal: str
    ) -> Iterator[Message]:
        """Progress `{phase: "seal" | "test", done, total}` in bytes; result `{name, sha256, bytes, files, rows, cards,
        absent, took_s}`. `absent` are sources that are not there. Payments may go on from the phase `test` on."""
        began, path = self._clock.monotonic(), self._path(name)
        part = path + UNFINISHED
        header = Header(
            name=name, terminal=terminal, slot=slot, version=version, update_id=update_id, made_at=self._clock.wall()
        )
        self._trees.make_dir(self._dir)
        self._trees.protect(self._dir, passable=False)
        with self._own_scratch():
            try:
                sealed, contents = yield from self._sealed(data_dir, part, header)
                found = yield from self._opened_into(
                    Reader(self._trees, part, self._keys), f"{self._scratch}/data", "test"
                )
                if found != contents:
                    raise corrupt("what came back out of it is not what was sealed")
                self._trees.rename(part, path)
                self._trees.sync_dir(self._dir)
            finally:
                self._trees.unlink(part)
        yield {
            "result": {
                "name": name,
                "sha256": sealed.sha256,
                "bytes": sealed.bytes,
                "files": contents.files,
                "rows": contents.rows,
                "cards": contents.cards,
                "absent": [source for source in self._sources if self._trees.size(f"{data_dir}/{source}") is None],
                "took_s": round(self._clock.monotonic() - began, 3),
            }
        }

    def verify(self, name: str) -> Iterator[Message]:
        """Restores it into scratch. Progress `{phase: "test", …}`; result: its header, files, rows and cards. Payments
        go on meanwhile: it ends with `data_no_space` before there is no room for them."""
        with self._own_scratch():
            yield from self._restored(name, f"{self._scratch}/data", "test")

    def restore(self, name: str, target_dir: str) -> Iterator[Message]:
        """Everything in it into the new or empty `target_dir`. Nothing is durable yet, and where there is trouble, what
        was written until then stays: both are the caller's. Progress `{phase: "restore", …}`; result as of verify."""
        yield from self._restored(name, target_dir, "restore")

    # sealing

    def _sealed(self, data_dir: str, part: str, header: Header) -> Generator[Message, None, tuple[Writer, Contents]]:
        changed = ""
        for _ in range(ATTEMPTS):
            items = self._items(data_dir)
            total = sum(self._size(f"{data_dir}/{path}", kind) for path, kind in items)
            # the sealed file, which may not be smaller, and what is restored of it while it is tried out
            self._need_room(2 * total, f"backing up {total}")
            self._trees.unlink(part)
            sealing = Sealing(self._trees, self._databases, data_dir, self._scratch, total)
            writer = Writer(self._trees, part, header, self._keys, self._random)
            contents = yield from sealing.run(items, writer)
            changed = yield from sealing.changed(self._items(data_dir))
            if not changed:
                return writer, contents
        raise PosagentError("data_unreadable", f"{changed} was changed while it was read, {ATTEMPTS} times")

    def _items(self, data_dir: str) -> list[tuple[str, str]]:
        """Path and kind of what goes in."""
        with reading("", data_dir):
            found = [one for one in copying.walk(self._trees, self._databases, data_dir) if self._wanted(one[0])]
        if len(found) > FILES_MAX:
            raise PosagentError(
                "data_unreadable", f"more than {FILES_MAX} files: name what is to be kept in data.sources"
            )
        return found

    def _wanted(self, path: str) -> bool:
        """A source, in one, or a directory on the way to one; and no part of its path is excluded."""
        inside = any(path == one or path.startswith(f"{one}/") or one.startswith(f"{path}/") for one in self._sources)
        parts = path.split("/")
        ways = ["/".join(parts[: at + 1]) for at in range(len(parts))]
        return inside and not any(
            fnmatch.fnmatchcase(text, pattern) for pattern in self._excluded for text in (*parts, *ways)
        )

    def _size(self, path: str, kind: str) -> int:
        ends = ("", *WRITTEN) if kind == "database" else ("",)
        return 0 if kind == "dir" else sum(self._trees.size(path + end) or 0 for end in ends)

    def _need_room(self, total: int, what: str) -> None:
        free, needed = self._trees.free_bytes(self._dir), total + SPARE_BYTES
        if free < needed:
            detail = f"{free} bytes are free, {what} needs {needed}"
            raise PosagentError("data_no_space", detail, measure="free bytes", measured=free, limit=needed)

    # opening

    def _restored(self, name: str, target_dir: str, phase: str) -> Iterator[Message]:
        reader = self._named(Reader(self._trees, self._path(name), self._keys), name)
        self._need_room(reader.bytes, f"opening {reader.bytes}")
        contents = yield from self._opened_into(reader, target_dir, phase)
        header = {key: value for key, value in dataclasses.asdict(reader.header).items() if key != "key"}
        yield {"result": {**header, "bytes": reader.bytes, "files": contents.files, "rows": contents.rows}}

    def _named(self, reader: Reader, name: str) -> Reader:
        if reader.header.name != name:
            raise corrupt(f"it is {reader.header.name[:64]!r} by its header")
        return reader

    def _opened_into(self, reader: Reader, target_dir: str, phase: str) -> Generator[Message, None, Contents]:
        opening = Opening(self._trees, self._databases, target_dir)
        for number, (letter, data) in enumerate(reader.frames()):
            opening.take(letter, data)
            if number % PIECES_A_STEP == 0:
                self._need_room(0, "going on")  # how much it will be is not known before its end
                yield progress(phase, reader.at, reader.bytes)
        return opening.contents()

    # places

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise Refusal("bad_request", "the name of a backup is 1 to 64 letters, digits, dots, dashes")
        return f"{self._dir}/{name}{SUFFIX}"

    @contextmanager
    def _own_scratch(self) -> Iterator[None]:
        self._trees.remove_tree(self._scratch)
        self._trees.make_dir(self._scratch)
        self._trees.protect(self._scratch, passable=False)
        try:
            yield
        finally:
            self._trees.remove_tree(self._scratch)
