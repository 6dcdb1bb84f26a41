"""What the repository offers: the pointer of a channel, read with suspicion. It is advice, as unsigned as it comes."""

from __future__ import annotations

import json
import re
from typing import Any

from posagent.config import FetchConfig
from posagent.core import manifest
from posagent.core.errors import BundleError, FetchError
from posagent.core.ports import Clock
from posagent.fetcher.http import Answer, Asked, Client

BYTES_MAX = 64 * 1024
PAYLOADS_MAX = 64
_DIGEST_OR_NONE = re.compile(r"([0-9a-f]{64})?")
_FORMAT = 1
_TEXTS = {
    "version": re.compile(r"[!-~]{1,64}"),
    "bundle": re.compile(r"(?!.*\.\.)[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+){0,8}"),  # stays below the repository
    "sha256": re.compile(r"[0-9a-f]{64}"),
}


def asked_for(client: Client, config: FetchConfig, clock: Clock) -> dict[str, Any]:
    """`{version, url, length, sha256}` as the repository says, or the first of its mirrors that can. Raises
    FetchError."""
    trouble = FetchError("fetch_pointer", "no repository is configured (fetch.repository_url)")
    for base in config.repositories:
        try:
            return _asked_for(client, config, clock, base.rstrip("/"))
        except FetchError as error:
            trouble = error
    raise trouble


def _asked_for(client: Client, config: FetchConfig, clock: Clock, base: str) -> dict[str, Any]:
    answer = client.get(Asked(url=f"{base}/channels/{config.channel}.json"))
    try:
        if answer.status != 200:
            raise answer.trouble()
        if answer.html:
            raise FetchError("fetch_portal")
        return offer(bounded(answer, clock, config.stall_timeout_s), base)
    finally:
        answer.close()


def bounded(answer: Answer, clock: Clock, seconds: float, bytes_max: int = BYTES_MAX) -> bytes:
    """The whole body of a small file. Raises FetchError."""
    data, deadline = b"", clock.monotonic() + seconds
    for chunk in answer.chunks():
        data += chunk
        if len(data) > bytes_max:
            raise FetchError("fetch_pointer", f"the announcement is larger than {bytes_max} bytes")
        if clock.monotonic() > deadline:
            raise FetchError("fetch_stalled", "the announcement does not come to an end")
    return data


def offer(data: bytes, base: str) -> dict[str, Any]:
    """The pointer `{format, version, bundle, length, sha256}`, checked. Raises FetchError `fetch_pointer`."""
    try:
        pointer = json.loads(data)
        found = {key: pointer[key] for key in ("version", "bundle", "length", "sha256")}
        sound = pointer["format"] == _FORMAT and all(
            isinstance(found[key], str) and pattern.fullmatch(found[key]) for key, pattern in _TEXTS.items()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound or type(found["length"]) is not int or found["length"] <= 0:
        raise FetchError("fetch_pointer", "the repository's announcement is not understood")
    path = found.pop("bundle")
    return {**found, "url": f"{base}/{path}", **_told(pointer)}


def _told(pointer: dict[str, Any]) -> dict[str, Any]:
    """What else the pointer says of the update. Raises FetchError `fetch_pointer`."""
    payloads = pointer.get("payloads", [])
    numbers = ("bytes", "image_bytes")
    sound = isinstance(payloads, list) and len(payloads) <= PAYLOADS_MAX
    sound = sound and all(
        isinstance(one, dict)
        and isinstance(one.get("from"), str)
        and _DIGEST_OR_NONE.fullmatch(one["from"])
        and all(type(one.get(name)) is int and 0 < one[name] <= manifest.LENGTH_MAX for name in numbers)
        for one in payloads
    )
    try:
        terms = manifest.terms_of(pointer)
    except BundleError:
        sound = False
    if not sound:
        raise FetchError("fetch_pointer", "the repository's announcement is not understood")
    kept = [{name: one[name] for name in ("from", *numbers)} for one in payloads]
    return {"payloads": kept, **{name: list(v) if isinstance(v, tuple) else v for name, v in terms.items()}}
