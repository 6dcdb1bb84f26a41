"""The verbs `look`, `fetch` and `discard`: what the repository offers, and moving it into the spool.

Rules: one attempt a call; the agent decides about the next. Whatever happens, what is in the spool stays, unless the
server's file has become another one; that is tried again from nothing a bounded number of times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.core.ports import ByteSource, Clock, Files, Message
from posagent.fetcher.http import CHUNK_BYTES, Answer, Asked, Client
from posagent.fetcher.spool import Entry, Spool

POINTER_BYTES_MAX = 64 * 1024
RESTARTS_MAX = 3
_POINTER_FORMAT = 1
_POINTER_TEXTS = {
    "version": re.compile(r"[!-~]{1,64}"),
    "bundle": re.compile(r"(?!.*\.\.)[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+){0,8}"),  # stays below the repository
    "sha256": re.compile(r"[0-9a-f]{64}"),
}


class ClosableSource(ByteSource, Protocol):
    """An opened local file."""

    def close(self) -> None: ...


class Fetcher:
    """The fetcher's verbs. `open_local` opens a regular file such as one on a USB stick; it raises OSError."""

    def __init__(
        self, config: FetchConfig, files: Files, clock: Clock, open_local: Callable[[str], ClosableSource]
    ) -> None:
        self._config = config
        self._clock = clock
        self._open_local = open_local
        self._client = Client(config)
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
                raise _bad_status(answer, 0)
            yield {"result": {"offer": _offer(self._bounded(answer), base)}}
        finally:
            answer.close()

    @staticmethod
    def _bounded(answer: Answer) -> bytes:
        data = b""
        for chunk in answer.chunks():
            data += chunk
            if len(data) > POINTER_BYTES_MAX:
                raise FetchError("fetch_pointer", f"the announcement is larger than {POINTER_BYTES_MAX} bytes")
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
        source, expected = str(args["source"]), args.get("length")
        entry = self._spool.entry(str(args["id"]), source)
        if not entry.complete:
            if expected is not None and expected > self._config.download_bytes_max:
                raise FetchError("fetch_too_large", f"{expected} bytes are announced")
            yield from self._local(entry, source) if source.startswith("/") else self._http(entry, source, expected)
            entry.finish()
        yield {
            "result": {
                "bundle": entry.bundle,
                "length": entry.done,
                "bytes_refetched": entry.record.bytes_refetched,
            }
        }

    def _http(self, entry: Entry, url: str, expected: int | None) -> Iterator[Message]:
        answer = self._begin(entry, url, expected)
        try:
            yield from self._receive(entry, answer.chunks(), answer.length)
        finally:
            answer.close()

    def _begin(self, entry: Entry, url: str, expected: int | None) -> Answer:
        """Ask for what is missing; begin again where the server's file is another one. Raises FetchError."""
        while True:
            record = entry.record
            asked = Asked(url=url, offset=entry.done, validator=record.etag or record.last_modified)
            answer = self._client.get(asked)
            try:
                if self._continues(entry, answer, expected):
                    entry.expect(length=answer.length, etag=answer.etag, last_modified=answer.last_modified)
                    return answer
            except BaseException:
                answer.close()
                raise
            answer.close()
            if record.restarts >= RESTARTS_MAX:
                raise FetchError("fetch_changed", f"began again {RESTARTS_MAX} times", bytes_done=entry.done)
            entry.restart()

    def _continues(self, entry: Entry, answer: Answer, expected: int | None) -> bool:
        """Whether the body goes on where the spool ends; False to begin again. Raises FetchError."""
        if answer.status not in (200, 206, 416):
            raise _bad_status(answer, entry.done)
        if answer.status == 416:
            return False
        known = expected if expected is not None else entry.record.length
        if answer.html and known is not None and answer.length != known:
            raise FetchError("fetch_status", "the network answered with a web page of its own", bytes_done=entry.done)
        if expected is not None and answer.length is not None and answer.length != expected:
            detail = f"{answer.length} bytes on the server, {expected} announced"
            raise FetchError("fetch_changed", detail, bytes_done=entry.done)
        if answer.length is not None and answer.length > self._config.download_bytes_max:
            raise FetchError("fetch_too_large", f"{answer.length} bytes are offered")
        if answer.offset != entry.done:
            return False
        return entry.done == 0 or self._same_file(entry, answer)

    @staticmethod
    def _same_file(entry: Entry, answer: Answer) -> bool:
        record = entry.record
        if record.length is not None and answer.length != record.length:
            return False
        if record.etag and answer.etag:
            return record.etag == answer.etag
        return not (record.last_modified and answer.last_modified) or record.last_modified == answer.last_modified

    def _local(self, entry: Entry, path: str) -> Iterator[Message]:
        try:
            source = self._open_local(path)
        except OSError as error:
            raise FetchError("fetch_network", f"{path}: {error.strerror or error}") from error
        try:
            if source.size > self._config.download_bytes_max:
                raise FetchError("fetch_too_large", f"{path}: {source.size} bytes")
            if entry.done and entry.record.length != source.size:
                entry.restart()
            entry.expect(length=source.size, etag="", last_modified="")
            yield from self._receive(entry, _pieces(source, entry.done, path), source.size)
        finally:
            source.close()

    def _receive(self, entry: Entry, chunks: Iterator[bytes], length: int | None) -> Iterator[Message]:
        """Move bytes into the spool until the whole file is there. Raises FetchError; keeps what came."""
        deadline = self._clock.monotonic() + self._config.download_timeout_s
        limit = self._config.download_bytes_max if length is None else length
        try:
            for chunk in chunks:
                if entry.done + len(chunk) > limit:
                    raise FetchError("fetch_too_large", f"more than {limit} bytes arrived", bytes_done=entry.done)
                entry.append(chunk)
                if entry.done - entry.record.durable_bytes >= self._config.checkpoint_bytes:
                    entry.checkpoint()
                if self._clock.monotonic() > deadline:
                    raise FetchError("fetch_timeout", bytes_done=entry.done)
                yield {
                    "progress": {
                        "bytes_done": entry.done,
                        "bytes_total": length or 0,
                        "bytes_refetched": entry.record.bytes_refetched,
                    }
                }
        except FetchError as error:
            error.facts["bytes_done"] = entry.done
            raise
        finally:
            entry.checkpoint()
        if length is not None and entry.done != length:
            raise FetchError("fetch_length", f"{entry.done} of {length} bytes arrived", bytes_done=entry.done)


def _pieces(source: ByteSource, offset: int, path: str) -> Iterator[bytes]:
    try:
        while data := source.pread(offset, CHUNK_BYTES):
            yield data
            offset += len(data)
    except OSError as error:
        raise FetchError("fetch_network", f"{path}: {error.strerror or error}") from error


def _bad_status(answer: Answer, done: int) -> FetchError:
    error = FetchError("fetch_status", f"the server answered {answer.status}", bytes_done=done)
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
