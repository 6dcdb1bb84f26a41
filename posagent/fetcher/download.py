"""The verbs `look`, `fetch` and `discard`: what the repository offers, and moving it into the spool.

Only the parts of a file that are wanted are fetched, each with a request of its own.
Rules: one attempt a call; the agent decides about the next. Whatever happens, what is in the spool stays, unless the
server's file has become another one; that is tried again from nothing a bounded number of times.
The announced digest only saves a useless verification: it is as unsigned as the announcement, the installer judges.
Where none was announced, what is in the spool counts only after the source was asked whether it is still that file:
sticks are swapped, and a server may offer another version under the same address.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.core.pieces import Piece
from posagent.core.ports import ByteSource, Clock, Files, Message
from posagent.fetcher import announcement, local
from posagent.fetcher.http import CHUNK_BYTES, Answer, Asked, Client, HttpClient
from posagent.fetcher.media import USB, Media
from posagent.fetcher.spool import BLOCK_BYTES, Entry, Spool
from posagent.fetcher.wanted import HEAD_BYTES, Wanted

RESTARTS_MAX = 3
ROOM_BYTES_MIN = 256 << 10
"""With less it does not begin to put a bundle into the slot part by part."""


class ClosableSource(ByteSource, Protocol):
    """An opened local file. Its `mtime_ns`, if it has one, says when it was last changed."""

    def close(self) -> None: ...


class Fetcher:
    """The fetcher's verbs. `open_local` opens a regular file such as one on a USB stick, it raises OSError; `pause`
    waits so many seconds, to be no faster than allowed."""

    def __init__(
        self,
        config: FetchConfig,
        files: Files,
        clock: Clock,
        open_local: Callable[[str], ClosableSource],
        client: Client | None = None,
        pause: Callable[[float], None] = lambda _: None,
        head_bytes: int = HEAD_BYTES,
        room_bytes_min: int = ROOM_BYTES_MIN,
        media: Media | None = None,
    ) -> None:
        self._head_bytes, self._room_bytes_min = head_bytes, room_bytes_min
        self._pause, self._media = pause, media
        self._config = config
        self._clock = clock
        self._open_local = open_local
        self._client: Client = client or HttpClient(config)
        chunk = min(CHUNK_BYTES, config.checkpoint_bytes, config.bytes_per_s_max or CHUNK_BYTES)
        self._chunk_bytes = max(chunk - chunk % BLOCK_BYTES, min(chunk, BLOCK_BYTES))
        self._spool = Spool(files, config.spool_dir, keep_free_bytes=config.keep_free_bytes)

    def look(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{"source"?}`; result `{"offer": {version, url, length, sha256, payloads, room, …}}`: the unsigned advice of
        the repository, or of a stick with the source `usb`, and how many bytes there is room for."""
        if self._media is not None and args.get("source") == USB:
            offer = self._media.newest()
        else:
            offer = announcement.asked_for(self._client, self._config, self._clock)
        yield {"result": {"offer": {**offer, "room": self._spool.room()}}}

    # discard

    def discard(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{"id"}` removes that download; `{"keep": id | null}` removes all others."""
        if "id" in args:
            self._spool.discard(str(args["id"]))
        else:
            keep = args.get("keep")
            self._spool.keep_only(None if keep is None else str(keep))
        yield {"result": {}}

    # fetch

    def fetch(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{"id", "source", "length"?, "sha256"?, "pieces"?, "tables"?, "make_room"?}`: progress, then `{bundle,
        length, complete, bytes_refetched}`.

        `pieces` are the parts of the file that are wanted; without them its beginning is, in which an installer finds
        what it needs of the rest. With `tables`, parts that are needed to the end, only as many of the pieces come as
        the spool has room for; to `make_room`, what is behind the tables is given up.
        """
        wanted = Wanted.of(args, self._head_bytes)
        entry = self._spool.entry(wanted.id, wanted.source)
        try:
            yield from self._complete(entry, wanted)
        except FetchError as error:
            error.facts["bytes_done"] = entry.done
            raise
        yield {
            "result": {
                "bundle": entry.bundle,
                "length": entry.done,
                "complete": not entry.missing(wanted.needed),
                "bytes_refetched": entry.record.bytes_refetched,
            }
        }

    def _complete(self, entry: Entry, wanted: Wanted) -> Iterator[Message]:
        if wanted.length is not None and wanted.length > self._config.download_bytes_max:
            raise FetchError("fetch_too_large", f"{wanted.length} bytes are announced")
        asked: Sequence[Piece] = wanted.asked
        self._check_meter(entry, wanted, _size(entry.missing(asked)))
        if wanted.tables is not None:
            asked = self._fitting(entry, wanted, wanted.tables)
        elif wanted.pieces is None and entry.record.bytes_given_up:
            asked = ()  # what of the beginning made room for others is not missed
        try:
            yield from self._local(entry, wanted, asked) if wanted.is_local else self._http(entry, wanted, asked)
        finally:
            entry.checkpoint(last=True)
        if not entry.done:
            raise FetchError("fetch_length", "the file is empty")
        if wanted.sha256 and entry.whole:
            yield from self._compare(entry, wanted.sha256)

    def _fitting(self, entry: Entry, wanted: Wanted, tables: Sequence[Piece]) -> Sequence[Piece]:
        """What of the pieces that are asked for can be there together with the tables. Raises FetchError."""
        if _size(entry.missing(wanted.asked)) <= entry.room():
            return wanted.asked
        end = entry.end_of(tables)
        if entry.behind(end, wanted.needed) and not wanted.make_room:
            return ()  # let that be used first
        entry.shorten(end, wanted.needed)
        if (room := entry.room()) < self._room_bytes_min:
            entry.check_space(self._room_bytes_min)
        fitting = []
        for offset, length in entry.missing(wanted.needed):
            fitting.append((offset, min(length, room)))
            room -= length
            if room <= 0:
                break
        return fitting

    def _check_meter(self, entry: Entry, wanted: Wanted, carried: int | None) -> None:
        """Raises FetchError where the bytes that were and will be `carried` for this update are more than allowed; None
        where nobody knows how many will be."""
        if not self._config.metered or wanted.is_local:
            return
        most = self._config.metered_bytes_max
        needed = entry.carried + (carried or 0)
        if carried is None or needed > most:
            said = "a number of bytes that the server does not tell" if carried is None else f"{needed} bytes"
            raise FetchError("fetch_metered", f"{said} would be needed, {most} are allowed on this link")

    def _compare(self, entry: Entry, sha256: str) -> Iterator[Message]:
        """The whole file against the announced digest; another file is given up, a bounded number of times."""
        found = hashlib.sha256()
        for piece in entry.all_of_it(CHUNK_BYTES):
            found.update(piece)
            yield _progress(entry, entry.done)
        if found.hexdigest() != sha256:
            if entry.record.restarts < RESTARTS_MAX:
                entry.restart()
            raise FetchError("fetch_changed", f"the file's digest is {found.hexdigest()}, {sha256} was announced")

    def _http(self, entry: Entry, wanted: Wanted, asked: Sequence[Piece]) -> Iterator[Message]:
        # without an announced digest the server is asked at least once whether its file is still the same
        known = bool(wanted.sha256) or not entry.done
        while (missing := entry.missing(asked)) or not known:
            part = missing[0] if missing else _last_byte(entry)
            answer = self._begin(entry, wanted, part, missing)
            if answer is None:
                continue
            known = True
            try:
                if missing:
                    body = answer.offset, answer.end if answer.end is not None else entry.record.length
                    yield from self._receive(entry, body, answer.chunks(self._chunk_bytes), missing)
            finally:
                answer.close()

    def _begin(self, entry: Entry, wanted: Wanted, part: Piece, missing: Sequence[Piece]) -> Answer | None:
        """Ask for a part of the file; None where the server's file is another one, and nothing is left of ours. Raises
        FetchError."""
        record = entry.record
        validator = record.etag or record.last_modified if entry.done else ""
        answer = self._client.get(Asked(url=wanted.source, offset=part[0], length=part[1], validator=validator))
        try:
            if answer.status != 416:
                self._check_answer(answer, wanted, record.length)
                if entry.done == 0 or _same_file(entry, answer, bool(wanted.sha256), bool(missing)):
                    known = wanted.length if wanted.length is not None else record.length if entry.done else None
                    length = known if answer.length is None else answer.length
                    self._check_meter(entry, wanted, _carried(answer, missing))
                    needed = 0 if answer.end is None else _size(_within(missing, answer.offset, answer.end))
                    entry.expect(needed, length=length, etag=answer.etag, last_modified=answer.last_modified)
                    return answer
        except BaseException:
            answer.close()
            raise
        answer.close()
        if record.restarts >= RESTARTS_MAX:
            raise FetchError("fetch_changed", f"began again {RESTARTS_MAX} times")
        entry.restart(earlier=entry.whole)
        return None

    def _check_answer(self, answer: Answer, wanted: Wanted, known: int | None) -> None:
        """Whether the answer can be a part of a bundle at all. Raises FetchError."""
        expected = wanted.length
        if answer.status not in (200, 206):
            raise answer.trouble()
        if answer.html and (answer.length is None or answer.length != (expected or known)):
            raise FetchError("fetch_portal")
        if answer.encoded:
            raise FetchError("fetch_status", "the server compressed the file although it was told not to")
        if expected is not None and answer.length is not None and answer.length != expected:
            raise FetchError("fetch_changed", f"{answer.length} bytes on the server, {expected} announced")
        if answer.length is not None and answer.length > self._config.download_bytes_max:
            raise FetchError("fetch_too_large", f"{answer.length} bytes are offered")

    def _local(self, entry: Entry, wanted: Wanted, asked: Sequence[Piece]) -> Iterator[Message]:
        path, in_inbox = wanted.source, local.in_inbox(self._config, wanted.source)
        try:
            source = self._open(wanted)
        except OSError as error:
            if in_inbox and entry.whole:
                return  # it was moved into the spool
            code = "fetch_network" if entry.done else "fetch_source"  # a stick that was pulled out may come back
            raise FetchError(code, f"{path}: {error.strerror or error}") from error
        try:
            if wanted.length not in (None, source.size):
                raise FetchError("fetch_changed", f"{path}: {source.size} bytes, {wanted.length} announced")
            if source.size > self._config.download_bytes_max:
                raise FetchError("fetch_too_large", f"{path}: {source.size} bytes")
            if in_inbox and entry.take(path, length=source.size):
                return
            mtime_ns, known = getattr(source, "mtime_ns", 0), entry.record
            same = wanted.sha256 or wanted.on_stick or known.mtime_ns == mtime_ns
            if entry.done and not (known.length == source.size and same):
                entry.restart(earlier=entry.whole)
            entry.expect(0, length=source.size, mtime_ns=mtime_ns)
            missing = entry.missing(asked)
            entry.check_space(_size(missing))
            for offset, length in missing:
                data = local.pieces(source, offset, offset + length, path, self._chunk_bytes)
                yield from self._receive(entry, (offset, offset + length), data, missing)
        finally:
            source.close()

    def _open(self, wanted: Wanted) -> ClosableSource:
        find = self._media.open if wanted.on_stick and self._media is not None else self._open_local
        return find(wanted.source)

    def _receive(
        self, entry: Entry, body: tuple[int, int | None], chunks: Iterator[bytes], missing: Sequence[Piece]
    ) -> Iterator[Message]:
        """Move what is `missing` of a body, the bytes from one place to another of the file, into the spool; all of it
        where nobody knows how long the file is. A server that knows no ranges sends more than is missing, which is
        passed over. Raises FetchError; keeps what came."""
        at, end = body
        begun = self._clock.monotonic()
        deadline, first = begun + self._config.download_timeout_s, at
        limit = self._config.download_bytes_max if end is None else end
        if end is None:
            missing = [(at, limit)]
        last = max(sum(part) for part in _within(missing, at, limit))
        try:
            for chunk in chunks:
                if at + len(chunk) > limit:
                    code = "fetch_too_large" if end is None else "fetch_length"
                    raise FetchError(code, f"more than {limit} bytes arrived")
                entry.count_twice(at, len(chunk))
                for begin, length in _within(missing, at, at + len(chunk)):
                    entry.append(begin, chunk[begin - at : begin - at + length])
                at += len(chunk)
                # a cut costs what is not synced and the chunk in hand: together never more than one checkpoint
                if entry.done + self._chunk_bytes - entry.record.stored > self._config.checkpoint_bytes:
                    entry.checkpoint()
                    entry.check_space()
                now = self._clock.monotonic()
                if now > deadline:
                    raise FetchError("fetch_timeout")
                if self._config.bytes_per_s_max:
                    self._pause(max(0.0, begun + (at - first) / self._config.bytes_per_s_max - now))
                yield _progress(entry, None if end is None else entry.done + _size(_within(missing, at, None)))
                if last <= at < limit:
                    break  # a whole file was sent, and the rest of it is not wanted
        finally:
            entry.checkpoint()
        if end is None:
            entry.record = dataclasses.replace(entry.record, length=at)
            entry.told()
        elif at < last:
            raise FetchError("fetch_length", f"{at} of {last} bytes arrived")


def _carried(answer: Answer, missing: Sequence[Piece]) -> int | None:
    """Bytes that will come over the link until the last missing one of the body is there."""
    if answer.end is None:
        return None
    return max((at + length for at, length in _within(missing, answer.offset, answer.end)), default=0) - answer.offset


def _same_file(entry: Entry, answer: Answer, judged: bool, missing: bool) -> bool:
    """Whether the server still has the file the spool has bytes of; what a digest will judge may be believed."""
    record, partial = entry.record, answer.status == 206
    if record.length is not None and answer.length not in (None, record.length):
        return False
    if record.etag and answer.etag:
        return record.etag == answer.etag
    if record.last_modified and answer.last_modified:
        return record.last_modified == answer.last_modified
    if judged:
        return partial or answer.length == record.length is not None
    if answer.etag or answer.last_modified or (missing and not partial):
        return False
    # a 206 need not repeat the validator it was asked with (RFC 9110, 15.3.7); without any, the half of another
    # file would be refused by the installer, but a whole one may be good and yet not the one that is wanted
    return partial if record.etag or record.last_modified else missing


def _within(parts: Sequence[Piece], begin: int, end: int | None) -> list[Piece]:
    """What of the parts lies between those places of the file."""
    cut = ((max(at, begin), min(at + length, end if end is not None else at + length)) for at, length in parts)
    return [(at, stop - at) for at, stop in cut if at < stop]


def _size(parts: Sequence[Piece]) -> int:
    return sum(length for _, length in parts)


def _last_byte(entry: Entry) -> Piece:
    """A part of the file that is there: to ask whether it is still the same."""
    offset, length = entry.pieces[-1]
    return offset + length - 1, 1


def _progress(entry: Entry, length: int | None) -> Message:
    """`length` is what the spool will have; `bytes_total` is 0 where the server does not say."""
    gone = entry.record.bytes_given_up
    return {
        "progress": {
            "bytes_done": gone + entry.done,
            "bytes_total": gone + length if length else 0,
            "bytes_refetched": entry.record.bytes_refetched,
        }
    }
