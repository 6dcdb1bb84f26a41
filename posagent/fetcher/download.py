"""The verbs `look`, `fetch` and `discard`: what the repository offers, and moving it into the spool.

Rules: one attempt a call; the agent decides about the next. Whatever happens, what is in the spool stays, unless the
server's file has become another one; that is tried again from nothing a bounded number of times.
The announced digest only saves a useless verification: it is as unsigned as the announcement, the installer judges.
Where none was announced, what is in the spool counts only after the source was asked whether it is still that file:
sticks are swapped, and a server may offer another version under the same address.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.core.ports import ByteSource, Clock, Files, Message
from posagent.fetcher.http import CHUNK_BYTES, Answer, Asked, HttpClient
from posagent.fetcher.spool import Entry, Spool

POINTER_BYTES_MAX = 64 * 1024
RESTARTS_MAX = 3
_POINTER_FORMAT = 1
_POINTER_TEXTS = {
    "version": re.compile(r"[!-~]{1,64}"),
    "bundle": re.compile(r"(?!.*\.\.)[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+){0,8}"),  # stays below the repository
    "sha256": re.compile(r"[0-9a-f]{64}"),
}
_DIGEST = re.compile(r"([0-9a-fA-F]{64})?")


class Client(Protocol):
    """How a server is asked; see fetcher.http."""

    def get(self, asked: Asked) -> Answer: ...


class ClosableSource(ByteSource, Protocol):
    """An opened local file. Its `mtime_ns`, if it has one, says when it was last changed."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A download as the agent asks for it; `length` and `sha256` are what the repository announced."""

    id: str
    source: str
    length: int | None = None
    sha256: str = ""

    @staticmethod
    def of(args: Mapping[str, Any]) -> Wanted:
        """Raises FetchError `bad_request`."""
        length, texts = args.get("length"), (args.get("id"), args.get("source"), args.get("sha256") or "")
        name, source, sha256 = (text if isinstance(text, str) else None for text in texts)
        if not name or not source or sha256 is None or not _DIGEST.fullmatch(sha256):
            raise FetchError("bad_request", "a fetch needs an id, a source, and a digest in hexadecimal if any")
        if length is not None and (type(length) is not int or length <= 0):
            raise FetchError("bad_request", f"not a length in bytes: {length!r:.40}")
        return Wanted(id=name, source=source, length=length, sha256=sha256.lower())


class Fetcher:
    """The fetcher's verbs. `open_local` opens a regular file such as one on a USB stick; it raises OSError."""

    def __init__(
        self,
        config: FetchConfig,
        files: Files,
        clock: Clock,
        open_local: Callable[[str], ClosableSource],
        client: Client | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._open_local = open_local
        self._client: Client = client or HttpClient(config)
        self._chunk_bytes = min(CHUNK_BYTES, config.checkpoint_bytes)
        self._spool = Spool(files, config.spool_dir, keep_free_bytes=config.keep_free_bytes)

    # look

    def look(self, _: Mapping[str, Any]) -> Iterator[Message]:
        """Result `{"offer": null | {version, url, length, sha256}}`: the repository's unsigned advice."""
        base = self._config.repository_url.rstrip("/")
        if not base:
            raise FetchError("fetch_pointer", "no repository is configured (fetch.repository_url)")
        answer = self._client.get(Asked(url=f"{base}/channels/{self._config.channel}.json"))
        try:
            if answer.status != 200:
                raise _bad_status(answer)
            yield {"result": {"offer": _offer(self._bounded(answer), base)}}
        finally:
            answer.close()

    def _bounded(self, answer: Answer) -> bytes:
        data, deadline = b"", self._clock.monotonic() + self._config.stall_timeout_s
        for chunk in answer.chunks():
            data += chunk
            if len(data) > POINTER_BYTES_MAX:
                raise FetchError("fetch_pointer", f"the announcement is larger than {POINTER_BYTES_MAX} bytes")
            if self._clock.monotonic() > deadline:
                raise FetchError("fetch_stalled", "the announcement does not come to an end")
        return data

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
        """`{"id", "source", "length"?, "sha256"?}`: progress, then result `{bundle, length, bytes_refetched}`."""
        wanted = Wanted.of(args)
        entry = self._spool.entry(wanted.id, wanted.source)
        if not (entry.complete and wanted.sha256):
            try:
                yield from self._complete(entry, wanted)
            except FetchError as error:
                error.facts["bytes_done"] = entry.done
                raise
        yield {
            "result": {
                "bundle": entry.bundle,
                "length": entry.done,
                "bytes_refetched": entry.record.bytes_refetched,
            }
        }

    def _complete(self, entry: Entry, wanted: Wanted) -> Iterator[Message]:
        if wanted.length is not None and wanted.length > self._config.download_bytes_max:
            raise FetchError("fetch_too_large", f"{wanted.length} bytes are announced")
        if not (wanted.sha256 and entry.whole(wanted.length)):
            yield from self._local(entry, wanted) if wanted.source.startswith("/") else self._http(entry, wanted)
        if not entry.done:
            raise FetchError("fetch_length", "the file is empty")
        if wanted.sha256:
            yield from self._compare(entry, wanted.sha256)
        entry.finish()

    def _compare(self, entry: Entry, sha256: str) -> Iterator[Message]:
        """The whole file against the announced digest; another file is given up, a bounded number of times."""
        found = hashlib.sha256()
        for piece in entry.pieces(CHUNK_BYTES):
            found.update(piece)
            yield _progress(entry, entry.done)
        if found.hexdigest() != sha256:
            if entry.record.restarts < RESTARTS_MAX:
                entry.restart()
            raise FetchError("fetch_changed", f"the file's digest is {found.hexdigest()}, {sha256} was announced")

    def _http(self, entry: Entry, wanted: Wanted) -> Iterator[Message]:
        answer = self._begin(entry, wanted)
        try:
            if not entry.whole(wanted.length):
                yield from self._receive(entry, answer.chunks(self._chunk_bytes), entry.record.length)
        finally:
            answer.close()

    def _begin(self, entry: Entry, wanted: Wanted) -> Answer:
        """Ask for what is missing, of a whole file for its last byte, to know whether it is still the same; begin
        again where the server's file is another one. Raises FetchError."""
        while True:
            record, whole = entry.record, entry.whole(wanted.length)
            offset = max(0, entry.done - 1) if whole else entry.done
            asked = Asked(url=wanted.source, offset=offset, validator=record.etag or record.last_modified)
            answer = self._client.get(asked)
            try:
                if self._continues(entry, answer, wanted):
                    length = wanted.length if answer.length is None else answer.length
                    if whole:
                        return answer
                    entry.expect(length=length, etag=answer.etag, last_modified=answer.last_modified)
                    return answer
            except BaseException:
                answer.close()
                raise
            answer.close()
            if record.restarts >= RESTARTS_MAX:
                raise FetchError("fetch_changed", f"began again {RESTARTS_MAX} times")
            entry.restart()

    def _continues(self, entry: Entry, answer: Answer, wanted: Wanted) -> bool:
        """Whether the body goes on where the spool ends; False to begin again. Raises FetchError."""
        expected = wanted.length
        if answer.status == 416:
            return False
        if answer.status not in (200, 206):
            raise _bad_status(answer)
        known = entry.record.length if expected is None else expected
        if answer.html and (known is None or answer.length != known):
            raise FetchError("fetch_status", "the network answered with a web page of its own")
        if answer.encoded:
            raise FetchError("fetch_status", "the server compressed the file although it was told not to")
        if expected is not None and answer.length is not None and answer.length != expected:
            raise FetchError("fetch_changed", f"{answer.length} bytes on the server, {expected} announced")
        if answer.length is not None and answer.length > self._config.download_bytes_max:
            raise FetchError("fetch_too_large", f"{answer.length} bytes are offered")
        if entry.done == 0:
            return answer.offset == 0
        whole = entry.whole(expected)
        return (whole or answer.offset == entry.done) and self._same_file(entry, answer, bool(wanted.sha256), whole)

    @staticmethod
    def _same_file(entry: Entry, answer: Answer, judged: bool, whole: bool) -> bool:
        """Whether the server still has the file the spool has bytes of; what a digest will judge may be believed."""
        record = entry.record
        length = entry.done if whole else record.length
        if length is not None and answer.length not in (None, length):
            return False
        if record.etag and answer.etag:
            return record.etag == answer.etag
        if record.last_modified and answer.last_modified:
            return record.last_modified == answer.last_modified
        if judged:
            return True
        if answer.etag or answer.last_modified:
            return False
        # a 206 need not repeat the validator it was asked with (RFC 9110, 15.3.7); without any, the half of another
        # file would be refused by the installer, but a whole one may be good and yet not the one that is wanted
        return answer.status == 206 if record.etag or record.last_modified else not whole

    def _local(self, entry: Entry, wanted: Wanted) -> Iterator[Message]:
        path = wanted.source
        try:
            source = self._open_local(path)
        except OSError as error:
            code = "fetch_network" if entry.done else "fetch_source"  # a stick that was pulled out may come back
            raise FetchError(code, f"{path}: {error.strerror or error}") from error
        try:
            if wanted.length not in (None, source.size):
                raise FetchError("fetch_changed", f"{path}: {source.size} bytes, {wanted.length} announced")
            if source.size > self._config.download_bytes_max:
                raise FetchError("fetch_too_large", f"{path}: {source.size} bytes")
            mtime_ns, known = getattr(source, "mtime_ns", 0), entry.record
            if entry.done and not (known.length == source.size and (wanted.sha256 or known.mtime_ns == mtime_ns)):
                entry.restart()
            entry.expect(length=source.size, mtime_ns=mtime_ns)
            yield from self._receive(entry, _pieces(source, entry.done, path, self._chunk_bytes), source.size)
        finally:
            source.close()

    def _receive(self, entry: Entry, chunks: Iterator[bytes], length: int | None) -> Iterator[Message]:
        """Move bytes into the spool until the whole file is there. Raises FetchError; keeps what came."""
        deadline = self._clock.monotonic() + self._config.download_timeout_s
        limit = self._config.download_bytes_max if length is None else length
        try:
            for chunk in chunks:
                if entry.done + len(chunk) > limit:
                    code = "fetch_too_large" if length is None else "fetch_length"
                    raise FetchError(code, f"more than {limit} bytes arrived")
                entry.append(chunk)
                # a cut costs what is not synced and the chunk in hand: together never more than one checkpoint
                if entry.done + self._chunk_bytes - entry.record.durable_bytes > self._config.checkpoint_bytes:
                    entry.checkpoint()
                    entry.check_space()
                if self._clock.monotonic() > deadline:
                    raise FetchError("fetch_timeout")
                yield _progress(entry, length)
        finally:
            entry.checkpoint()
        if length is not None and entry.done != length:
            raise FetchError("fetch_length", f"{entry.done} of {length} bytes arrived")


def _progress(entry: Entry, length: int | None) -> Message:
    """`bytes_total` is 0 where the server does not say."""
    return {
        "progress": {
            "bytes_done": entry.done,
            "bytes_total": length or 0,
            "bytes_refetched": entry.record.bytes_refetched,
        }
    }


def _pieces(source: ByteSource, offset: int, path: str, length_max: int) -> Iterator[bytes]:
    try:
        while data := source.pread(offset, length_max):
            yield data
            offset += len(data)
    except OSError as error:
        raise FetchError("fetch_network", f"{path}: {error.strerror or error}") from error


def _bad_status(answer: Answer) -> FetchError:
    error = FetchError("fetch_status", f"the server answered {answer.status}")
    wait_s = answer.retry_after_s()
    if answer.status in (429, 503) and wait_s is not None:
        error.facts["retry_after_s"] = wait_s
    return error


def _offer(data: bytes, base: str) -> dict[str, Any]:
    """The pointer `{format, version, bundle, length, sha256}`, checked. Raises FetchError `fetch_pointer`."""
    try:
        pointer = json.loads(data)
        offer = {key: pointer[key] for key in ("version", "bundle", "length", "sha256")}
        sound = pointer["format"] == _POINTER_FORMAT and all(
            isinstance(offer[key], str) and pattern.fullmatch(offer[key]) for key, pattern in _POINTER_TEXTS.items()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound or type(offer["length"]) is not int or offer["length"] <= 0:
        raise FetchError("fetch_pointer", "the repository's announcement is not understood")
    path = offer.pop("bundle")
    return {**offer, "url": f"{base}/{path}"}
