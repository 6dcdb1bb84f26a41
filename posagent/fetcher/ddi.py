"""One exchange with Eclipse hawkBit over its Direct Device Integration API: letters out, wishes in.

Owns: the protocol's addresses and forms. It keeps nothing: what is to be sent comes from the agent, and what was
acknowledged goes back to it at once, letter by letter, so that a power cut repeats at most one of them.
Rules: everything that a server says is bounded and read with suspicion. Credentials are only sent to the server that is
configured: an address that it names elsewhere is not followed, but for bundles, and then without them.
Source: hawkBit 1.0 (DDI), RFC 9110 (Retry-After), RFC 6585 (429).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from posagent.core import fleet
from posagent.core.errors import FetchError
from posagent.core.fleet import Artifact, Deployment, Heard
from posagent.core.ports import Message

BYTES_MAX = 256 << 10
CHUNKS_MAX = 16
LETTERS_MAX = 32
_VERSION = re.compile(r"[!-~]{1,64}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SLEEP = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)")
_SLEEP_ISO = re.compile(r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,3})H)?(?:(\d{1,4})M)?(?:(\d{1,6})(?:\.\d+)?S)?)?")
BUNDLE = ".bundle"
QUOTA = "quota.tooManyEntries"


class Answered(Protocol):
    """`status`, `retry_after_s` where the server says, the body, of at most BYTES_MAX, and whether it is `html`."""

    @property
    def status(self) -> int: ...
    @property
    def retry_after_s(self) -> int | None: ...
    @property
    def body(self) -> bytes: ...
    @property
    def html(self) -> bool: ...


class Caller(Protocol):
    """Makes requests with the credentials. Raises FetchError."""

    def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Answered: ...


class Ddi:
    """`base` is the server's address with its tenant, `controller` what this terminal is called there."""

    def __init__(self, caller: Caller, base: str, controller: str) -> None:
        self._caller = caller
        self._base = f"{base.rstrip('/')}/controller/v1/{quote(controller, safe='')}"

    def exchange(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """The verb `exchange`: `{letters: [{key, kind, action, body}], attributes, known}`. Progress `{acknowledged}`,
        and `{refused, why}` for what the server will never take; then the result, see `told`. `attributes` are sent
        where the server asks for them, or where it does not know them yet (`known` is false). Raises FetchError."""
        for letter in list(args.get("letters", ()))[:LETTERS_MAX]:
            why = self._send(letter)
            yield {"progress": {"refused": letter["key"], "why": why} if why else {"acknowledged": letter["key"]}}
        root = self._get(self._base)
        links = root.get("_links")
        links = links if isinstance(links, dict) else {}
        attributes = args.get("attributes")
        if isinstance(attributes, dict) and ("configData" in links or args.get("known") is not True):
            self._put(f"{self._base}/configData", {"mode": "merge", "data": attributes})
            yield {"progress": {"attributes": True}}
        yield {"result": told(self._heard(root, links))}

    # sending

    def _send(self, letter: Mapping[str, Any]) -> str:
        """Why the server will never take it; nothing where it has."""
        address, method = self._address(letter)
        answer = self._called(method, address, letter["body"])
        if answer.status < 300 or answer.status in (404, 410):
            return ""  # it is there, or what it is about is not: both times there is nothing to be said any more
        if answer.status == 429 and QUOTA.encode() in answer.body:
            return QUOTA
        if answer.status in (400, 403, 405, 406, 415) or (answer.status == 409 and letter["kind"] == fleet.CONSENT):
            return f"the server answered {answer.status}"
        raise _trouble(answer)

    def _address(self, letter: Mapping[str, Any]) -> tuple[str, str]:
        kind, action = letter["kind"], letter["action"]
        if kind == fleet.INSTALLED:
            return f"{self._base}/installedBase", "PUT"
        if not isinstance(action, str) or not _NUMBER.fullmatch(action):
            raise FetchError("bad_request", "a letter needs the number of an action")
        where = {fleet.CANCEL: "cancelAction", fleet.CONSENT: "confirmationBase"}.get(kind, "deploymentBase")
        return f"{self._base}/{where}/{action}/feedback", "POST"

    def _called(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Answered:
        """The server's own answer. A page that says that all is well is somebody else's: of a network that wants to be
        paid, or of a proxy."""
        answer = self._caller.call(method, url, body)
        if answer.status < 300 and answer.html:
            raise FetchError("fetch_portal")
        return answer

    def _put(self, url: str, body: Mapping[str, Any]) -> None:
        answer = self._called("PUT", url, body)
        if answer.status >= 300 and answer.status not in (404, 410):
            raise _trouble(answer)

    # hearing

    def _get(self, url: str) -> dict[str, Any]:
        answer = self._called("GET", url)
        if answer.status != 200:
            raise _trouble(answer)
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise _not_understood("it is no JSON") from None
        if not isinstance(found, dict):
            raise _not_understood("it is no JSON object")
        return found

    def _heard(self, root: Mapping[str, Any], links: Mapping[str, Any]) -> Heard:
        sleep_s = sleep_of(root)
        if "cancelAction" in links:
            found = self._get(self._followed(links["cancelAction"], "cancelAction"))
            stop = found.get("cancelAction")
            cancels = str(stop.get("stopId", "")) if isinstance(stop, dict) else ""
            number = str(found.get("id", ""))
            if not _NUMBER.fullmatch(number) or not _NUMBER.fullmatch(cancels):
                raise _not_understood("a wish to cancel names no action")
            return Heard(sleep_s=sleep_s, cancel=number, cancels=cancels)
        for name, part in (("confirmationBase", "confirmation"), ("deploymentBase", "deployment")):
            if name in links and _has_action(links[name], name):
                found = self._get(self._followed(links[name], name))
                deployment = deployment_of(found, part, asks=part == "confirmation")
                return Heard(sleep_s=sleep_s, deployment=deployment)
        return Heard(sleep_s=sleep_s)

    def _followed(self, link: Any, name: str) -> str:
        """The address of a link, which has to be of the same server, and of this terminal there."""
        path = _path(link)
        own = urlsplit(self._base)
        tail = path.rpartition(f"/{name}/")[2]
        if not tail or not re.fullmatch(r"[0-9]{1,18}(\?[A-Za-z0-9=&._-]{0,200})?", tail):
            raise _not_understood(f"its link {name} leads nowhere")
        return f"{own.scheme}://{own.netloc}{own.path}/{name}/{tail}"


def _path(link: Any) -> str:
    href = link.get("href") if isinstance(link, dict) else None
    if not isinstance(href, str) or len(href) > 2048:
        raise _not_understood("a link has no address")
    return href


def _has_action(link: Any, name: str) -> bool:
    """The confirmation's link is always there; it names an action where one has to be agreed to."""
    return f"/{name}/" in _path(link)


def sleep_of(root: Mapping[str, Any]) -> float:
    """Seconds between two polls, "HH:MM:SS" or ISO 8601. Raises FetchError."""
    try:
        text = str(root["config"]["polling"]["sleep"])
    except (KeyError, TypeError):
        raise _not_understood("it does not say when to ask again") from None
    found = _SLEEP.fullmatch(text)
    if found:
        hours, minutes, seconds = map(int, found.groups())
        return float(hours * 3600 + minutes * 60 + seconds)
    found = _SLEEP_ISO.fullmatch(text)
    if found is None or not any(found.groups()):
        raise _not_understood("it does not say when to ask again")
    days, hours, minutes, seconds = (int(one or 0) for one in found.groups())
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds)


def deployment_of(found: Mapping[str, Any], part: str, *, asks: bool = False) -> Deployment:
    """Of what the server says of an action; only bundles count among its artifacts, those of the operating system come
    first (it says them in any order). Raises FetchError."""
    try:
        number, told = str(found["id"]), found[part]
        chunks = sorted(list(told["chunks"])[:CHUNKS_MAX], key=lambda chunk: chunk.get("part") != "os")
        artifacts = [_artifact(one) for chunk in chunks for one in chunk["artifacts"] if _is_bundle(one)]
        version = next((str(chunk["version"]) for chunk in chunks if any(map(_is_bundle, chunk["artifacts"]))), "")
        how = [str(told[name]) for name in ("download", "update")]
        window = str(told.get("maintenanceWindow") or fleet.NO_WINDOW)
    except (KeyError, TypeError, AttributeError):
        raise _not_understood("a deployment is not complete") from None
    sound = _NUMBER.fullmatch(number) and set(how) <= set(fleet.HOW) and len(artifacts) <= fleet.ARTIFACTS_MAX
    if not sound or window not in (fleet.OPEN, fleet.CLOSED, fleet.NO_WINDOW) or not _VERSION.fullmatch(version or "-"):
        raise _not_understood(f"deployment {number[:20]!r}")
    return Deployment(
        action=number,
        version=version,
        artifacts=tuple(artifacts),
        download=how[0],
        update=how[1],
        window=window,
        asks=asks,
    )


def _is_bundle(artifact: Any) -> bool:
    return str(artifact["filename"]).endswith(BUNDLE)


def _artifact(told: Mapping[str, Any]) -> Artifact:
    name, length, sha256 = str(told["filename"])[:128], told["size"], told["hashes"]["sha256"]
    links = told["_links"]
    link = links.get("download") or links.get("download-http")
    if type(length) is not int or length <= 0 or not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
        raise _not_understood(f"artifact {name!r}")
    return Artifact(name=name, url=_path(link), length=length, sha256=sha256)


def told(heard: Heard) -> dict[str, Any]:
    """The result of `exchange`: what was heard, as JSON."""
    found = heard.deployment
    return {
        "sleep_s": heard.sleep_s,
        "cancel": heard.cancel,
        "cancels": heard.cancels,
        "seen": heard.seen,
        "deployment": None
        if found is None
        else {
            "action": found.action,
            "version": found.version,
            "download": found.download,
            "update": found.update,
            "window": found.window,
            "asks": found.asks,
            "standing": found.standing,
            "lasts_s": found.lasts_s,
            "artifacts": [
                {"name": one.name, "url": one.url, "length": one.length, "sha256": one.sha256}
                for one in found.artifacts
            ],
        },
    }


def _trouble(answer: Answered) -> FetchError:
    code = "fleet_credentials" if answer.status in (401, 403) else "fetch_status"
    error = FetchError(code, f"the fleet server answered {answer.status}")
    if answer.status in (429, 503) and answer.retry_after_s is not None:
        error.facts["retry_after_s"] = answer.retry_after_s
    return error


def _not_understood(trouble: str) -> FetchError:
    return FetchError("fleet_answer", f"the fleet server: {trouble}")
