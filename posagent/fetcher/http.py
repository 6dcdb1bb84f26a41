"""One HTTP request, for a part of a file or to a service: ranges, validators, redirects, limits; urllib3 does the
protocol.

Rules: TLS is always verified; no way leads from https to http; a server is never believed about what belongs to the
bytes that are there: Content-Range, length and validator must agree with them. Credentials go to the server that they
are for, and to no other, wherever it redirects to.
Source: RFC 9110 (ranges, If-Range, Retry-After).
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3 import exceptions

from posagent.config import FetchConfig
from posagent.core.errors import FetchError

REDIRECTS_MAX = 5
TEXT = "text/plain; version=0.0.4"
"""What texts are sent as: Prometheus' format is the only one."""
CHUNK_BYTES = 256 * 1024
BODY_BYTES_MAX = 256 << 10
"""Of a service's answer."""
RETRY_AFTER_S_MAX = 86400
VALIDATOR_LENGTH_MAX = 256
_CODES = {407: "fetch_proxy", 511: "fetch_portal"}
"""Proxy authentication required (RFC 9110), network authentication required (RFC 6585)."""
_REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which part of which file is wanted, all of it without a length. `validator` is a strong ETag or a Last-Modified
    date, or empty."""

    url: str
    offset: int = 0
    length: int | None = None
    validator: str = ""


class Answer:
    """A server's answer. `offset` and `end` say which part of the file its body is: what was asked for or the beginning
    of it, or the whole file; `length` is of the whole file. The last two are None where the server does not say."""

    def __init__(self, response: urllib3.BaseHTTPResponse, asked: Asked) -> None:
        self._response = response
        self.status = response.status
        self.html = response.headers.get("Content-Type", "").lower().startswith("text/html")
        self.encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        self.etag = _sent_back(response.headers.get("ETag", ""), '"')
        self.last_modified = _sent_back(response.headers.get("Last-Modified", ""))
        self.offset, self.end, self.length = self._extent(asked)

    def _extent(self, asked: Asked) -> tuple[int, int | None, int | None]:
        text = self._response.headers.get("Content-Length", "")
        body = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
        if self.status != 206:
            return 0, body, body
        found = _CONTENT_RANGE.fullmatch(self._response.headers.get("Content-Range", ""))
        if found is None:
            raise FetchError("fetch_length", "the server answered a range without saying which")
        first, last, total = (int(text) for text in found.groups())
        wanted = total if asked.length is None else min(total, asked.offset + asked.length)
        if first != asked.offset or not first <= last < wanted:
            raise FetchError("fetch_length", f"asked for bytes {asked.offset} to {wanted - 1}, was offered {found[0]}")
        if body not in (None, last + 1 - first):
            raise FetchError("fetch_length", f"{body} bytes are announced for {found[0]}")
        return first, last + 1, total

    def chunks(self, length_max: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The body as it arrives. Raises FetchError."""
        with _coded():
            while data := self._response.read1(length_max, decode_content=False):
                yield data

    def close(self) -> None:
        self._response.close()

    def trouble(self) -> FetchError:
        """An answer that is none, with the seconds that the server asks to wait."""
        error = FetchError(_CODES.get(self.status, "fetch_status"), f"the server answered {self.status}")
        wait_s = _retry_after_s(self._response)
        if self.status in (429, 503) and wait_s is not None:
            error.facts["retry_after_s"] = wait_s
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """For the server at `url`: a header, or a certificate with its key (files)."""

    url: str
    authorization: str = ""
    certificate_file: str = ""
    certificate_key_file: str = ""

    def header(self, url: str) -> dict[str, str]:
        same = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        return {"Authorization": self.authorization} if self.authorization and same else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a service answered, of at most BODY_BYTES_MAX."""

    status: int
    body: bytes
    retry_after_s: int | None = None
    html: bool = False


class Client(Protocol):
    """How a server is asked."""

    def get(self, asked: Asked) -> Answer: ...


class HttpClient:
    """Makes requests with the configuration's limits."""

    def __init__(self, config: FetchConfig, credentials: Credentials | None = None) -> None:
        self._config, self._credentials = config, credentials
        self._pool: urllib3.PoolManager | None = None

    def _manager(self) -> urllib3.PoolManager:
        if self._pool is None:
            try:
                context = ssl.create_default_context(cafile=self._config.ca_file or None)
            except OSError as error:
                raise FetchError("fetch_tls", f"ca_file {self._config.ca_file}: {error}") from error
            self._certify(context)
            context.hostname_checks_common_name = False  # a host is its subjectAltName, as RFC 9525 says
            timeout = urllib3.Timeout(
                connect=float(self._config.connect_timeout_s), read=float(self._config.stall_timeout_s)
            )
            self._pool = urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False, num_pools=2)
        return self._pool

    def _certify(self, context: ssl.SSLContext) -> None:
        own = self._credentials
        if own is None or not own.certificate_file:
            return
        try:
            context.load_cert_chain(own.certificate_file, own.certificate_key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise FetchError("fleet_credentials", f"{own.certificate_file}: {error}") from error

    def call(self, method: str, url: str, body: Mapping[str, Any] | str | None = None) -> Reply:
        """A service's answer to JSON, to text, or to a plain request. Raises FetchError."""
        self._check(url)
        headers = {"Accept": "application/hal+json, application/json", "User-Agent": "posagent", **self._own(url)}
        data = None
        if isinstance(body, str):
            headers["Content-Type"], data = TEXT, body.encode()
        elif body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        with _coded():
            response = self._manager().request(
                method, url, headers=headers, body=data, redirect=False, preload_content=False
            )
            try:
                found = b""
                while len(found) <= BODY_BYTES_MAX and (more := response.read1(CHUNK_BYTES)):
                    found += more
            finally:
                response.close()
        if len(found) > BODY_BYTES_MAX:
            raise FetchError("fleet_answer", f"the answer has more than {BODY_BYTES_MAX} bytes")
        html = response.headers.get("Content-Type", "").lower().startswith("text/html")
        return Reply(status=response.status, body=found, retry_after_s=_retry_after_s(response), html=html)

    def _own(self, url: str) -> dict[str, str]:
        return {} if self._credentials is None else self._credentials.header(url)

    def get(self, asked: Asked) -> Answer:
        """The answer, with its body not yet read. Raises FetchError."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "posagent"}
        if asked.length is not None:
            headers["Range"] = f"bytes={asked.offset}-{asked.offset + asked.length - 1}"
            if asked.validator:
                headers["If-Range"] = asked.validator
        url = asked.url
        for _ in range(REDIRECTS_MAX + 1):
            self._check(url)
            with _coded():
                sent = {**headers, **self._own(url)}
                response = self._manager().request("GET", url, headers=sent, redirect=False, preload_content=False)
            if response.status not in _REDIRECTS:
                return _answer(response, asked)
            response.close()
            url = self._redirected(url, response.headers.get("Location", ""))
        raise FetchError("fetch_status", f"more than {REDIRECTS_MAX} redirects")

    def _check(self, url: str) -> None:
        with _coded():
            scheme = urlsplit(url).scheme
        if scheme != "https" and not (scheme == "http" and self._config.allow_http):
            raise FetchError("fetch_insecure", f"only https is allowed, not {url[:200]}")

    @staticmethod
    def _redirected(url: str, location: str) -> str:
        if not location or len(location) > 2048:
            raise FetchError("fetch_status", "a redirect without a usable address")
        with _coded():
            target = urljoin(url, location)
            left = urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https"
        if left:
            raise FetchError("fetch_insecure", f"redirected from https to {target[:200]}")
        return target


def _retry_after_s(response: urllib3.BaseHTTPResponse) -> int | None:
    """Seconds, or a date by the server's own clock; None where it is neither."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(int(text), RETRY_AFTER_S_MAX)
    try:
        until, now = (parsedate_to_datetime(one) for one in (text, response.headers.get("Date", "")))
        return int(min(max((until - now).total_seconds(), 0), RETRY_AFTER_S_MAX))
    except (ValueError, TypeError, OverflowError):
        return None


def _sent_back(text: str, start: str = "") -> str:
    """A validator that can be sent in If-Range, or none; a weak ETag must not (RFC 9110, 13.1.5)."""
    fit = text.startswith(start) and len(text) <= VALIDATOR_LENGTH_MAX and text.isascii() and text.isprintable()
    return text if fit else ""


def _answer(response: urllib3.BaseHTTPResponse, asked: Asked) -> Answer:
    try:
        return Answer(response, asked)
    except FetchError:
        response.close()
        raise


@contextmanager
def _coded() -> Iterator[None]:
    """urllib3's and http.client's troubles as ours."""
    try:
        yield
    except exceptions.SSLError as error:
        # a link that breaks during the handshake says nothing about the certificate
        broken = any(isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError) for cause in error.args)
        raise FetchError("fetch_network" if broken else "fetch_tls", str(error)[:300]) from error
    except exceptions.ReadTimeoutError as error:
        raise FetchError("fetch_stalled", "no bytes arrived for too long") from error
    except exceptions.ProtocolError as error:
        if isinstance(error.__cause__, exceptions.IncompleteRead | http.client.IncompleteRead):
            raise FetchError("fetch_length", "the connection ended before the announced length") from error
        raise FetchError("fetch_network", f"{type(error).__name__}: {error}"[:300]) from error
    except (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise FetchError("fetch_network", f"{type(error).__name__}: {error}"[:300]) from error
