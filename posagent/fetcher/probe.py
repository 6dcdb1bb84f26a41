"""The verb `probe`: tries the way to the update server step by step, and says which step fails.

Owns: what each failure means (a code of the catalogue, whose remedy is told). The steps: `link` (is a network link up),
`dns` (the server's name), `connect`, `tls` (its certificate), `repository` (what it offers, and for how long that is
signed), `rate` (how fast bytes come).
Rules: each step depends on the one before, so the first that fails is the last; only `link` is no more than a hint.
Nothing is kept of what is fetched, and little is: `RATE_BYTES`, less on a metered link. What the server says of itself
is unsigned; the installer judges.
"""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from posagent.config import FetchConfig
from posagent.core.bundle import Bundle
from posagent.core.errors import BundleError, FetchError
from posagent.core.ports import Clock, Message
from posagent.fetcher import announcement
from posagent.fetcher.http import Asked, Client
from posagent.fetcher.wanted import HEAD_BYTES

STEP_S = 10.0
RATE_BYTES, RATE_BYTES_METERED = 256 << 10, 64 << 10
RATE_S = 5.0
RATE_CHUNK_BYTES = 16 << 10
DETAIL_CHARACTERS_MAX = 300
PORTS = {"https": 443, "http": 80}
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_CERTIFICATE = {
    **dict.fromkeys((_NOT_YET_VALID, _EXPIRED), "tls_clock"),
    **dict.fromkeys((_OTHER_NAME, _OTHER_ADDRESS), "tls_name"),
}
"""OpenSSL's X509_V_ERR codes (x509_vfy.h); any other is about who signed it."""


class Link(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def addresses(self) -> Sequence[str]: ...

    @property
    def is_default(self) -> bool: ...


class Net(Protocol):
    """The network from below; see platform.net.LinuxNet."""

    def links(self) -> Sequence[Link]: ...

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]: ...

    def connect(self, address: str, port: int, timeout_s: float) -> Any:
        """A connected socket."""


class Probe:
    """One look at the network."""

    def __init__(self, config: FetchConfig, client: Client, net: Net, clock: Clock) -> None:
        self._config, self._client, self._net, self._clock = config, client, net, clock

    def probe(self, _: Mapping[str, Any]) -> Iterator[Message]:
        """Progress `{step, ok, ms, detail, code?}` for each step; result `{ok, steps, bytes_per_s}`."""
        trial = _Trial(self._config, self._client, self._net, self._clock)
        steps: list[dict[str, Any]] = []
        for name, attempt in trial.steps:
            began = self._clock.monotonic()
            told: dict[str, Any] = {"step": name, "ok": True}
            try:
                told["detail"] = attempt()
            except (FetchError, BundleError) as error:
                told |= {"ok": False, "code": error.code, "detail": error.detail}
            told["detail"] = told["detail"][:DETAIL_CHARACTERS_MAX]
            told["ms"] = round(1000 * (self._clock.monotonic() - began))
            steps.append(told)
            yield {"progress": told}
            if not told["ok"] and name != "link":
                break
        yield {"result": {"ok": steps[-1]["ok"], "steps": steps, "bytes_per_s": trial.bytes_per_s}}


class _Trial:
    """What one step has found for the next."""

    def __init__(self, config: FetchConfig, client: Client, net: Net, clock: Clock) -> None:
        self._config, self._client, self._net, self._clock = config, client, net, clock
        self._https, self._host, self._port = False, "", 0
        self._addresses: list[str] = []
        self._connection: Any = None
        self._offer: dict[str, Any] = {}
        self.bytes_per_s: int | None = None

    @property
    def steps(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        return (
            ("link", self._link),
            ("dns", self._dns),
            ("connect", self._connect),
            ("tls", self._tls),
            ("repository", self._repository),
            ("rate", self._rate),
        )

    def _link(self) -> str:
        links = [link for link in self._net.links() if link.addresses]
        if not links:
            raise FetchError("net_link", "no interface is up and has an address")
        return ", ".join(
            f"{link.name} {link.addresses[0]}{' (default route)' if link.is_default else ''}" for link in links
        )

    def _dns(self) -> str:
        try:
            url = urlsplit(self._config.repository_url)
            self._https, self._host = url.scheme == "https", url.hostname or ""
            self._port = url.port or PORTS.get(url.scheme, 0)
        except ValueError as error:
            raise FetchError("fetch_pointer", f"fetch.repository_url: {error}") from None
        if not self._host:
            raise FetchError("fetch_pointer", "no repository is configured (fetch.repository_url)")
        try:
            self._addresses = self._net.resolve(self._host, self._port, STEP_S)
        except OSError as error:
            raise FetchError("net_dns", f"{self._host}: {error.strerror or error}") from error
        return f"{self._host} is {', '.join(self._addresses)}"

    def _connect(self) -> str:
        trouble = "it has no address"
        for address in self._addresses:
            try:
                self._connection = self._net.connect(address, self._port, STEP_S)
            except OSError as error:
                trouble = f"{address} port {self._port}: {error.strerror or error}"
            else:
                return f"{address} port {self._port} answers"
        raise FetchError("net_connect", trouble)

    def _tls(self) -> str:
        try:
            if not self._https:
                return "not used: the repository's address is http"
            with self._context().wrap_socket(self._connection, server_hostname=self._host) as secured:
                until = str((secured.getpeercert() or {}).get("notAfter", "?"))
                return f"{secured.version()}, certificate valid until {until}"
        except ssl.SSLCertVerificationError as error:
            code = _CERTIFICATE.get(error.verify_code, "tls_authority")
            date = f"; {self._today}" if code == "tls_clock" else ""
            raise FetchError(code, f"{error.verify_message}{date}") from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:  # that says nothing about a certificate
            raise FetchError("fetch_network", "the connection ended during the handshake") from error
        except ssl.SSLError as error:
            raise FetchError("fetch_tls", error.reason or str(error)) from error
        except OSError as error:
            raise FetchError("fetch_network", f"during the handshake: {error.strerror or error}") from error
        finally:
            self._connection.close()

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._config.ca_file or None)
        except OSError as error:
            raise FetchError("fetch_tls", f"ca_file {self._config.ca_file}: {error}") from error
        context.hostname_checks_common_name = False
        return context

    def _repository(self) -> str:
        self._offer = announcement.asked_for(self._client, self._config, self._clock)
        until_s = expires_s(b"".join(self._fetched(HEAD_BYTES)))
        said = f"version {self._offer['version']} is offered"
        if until_s is None:
            return said
        said += f", signed until {_day(until_s)}"
        if until_s <= self._clock.wall():
            raise FetchError("repository_stale", f"{said}; {self._today}")
        return said

    def _rate(self) -> str:
        most = RATE_BYTES_METERED if self._config.metered else RATE_BYTES
        began, count = self._clock.monotonic(), 0
        for chunk in self._fetched(most):
            count += len(chunk)
            if self._clock.monotonic() - began > RATE_S:
                break
        seconds = max(self._clock.monotonic() - began, 0.001)
        self.bytes_per_s = round(count / seconds)
        return f"{count} bytes in {seconds:.1f} s"

    def _fetched(self, most: int) -> Iterator[bytes]:
        """The beginning of the offered bundle. Raises FetchError."""
        length = min(most, self._offer["length"])
        answer = self._client.get(Asked(url=self._offer["url"], offset=0, length=length))
        try:
            if answer.status not in (200, 206):
                raise answer.trouble()
            if answer.html:
                raise FetchError("fetch_portal")
            left = length
            for chunk in answer.chunks(RATE_CHUNK_BYTES):
                yield chunk[:left]
                left -= len(chunk)
                if left <= 0:
                    return
        finally:
            answer.close()

    @property
    def _today(self) -> str:
        return f"this terminal's date is {_day(self._clock.wall())}"


def _day(at_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at_s, datetime.UTC):%Y-%m-%d}"


class _Head:
    """The beginning of a bundle as a source of bytes that claims to be as long as any."""

    size = 1 << 50

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pread(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


def expires_s(head: bytes) -> float | None:
    """Until when the bundle's timestamp says it is fresh, in seconds since 1970; None where that cannot be read."""
    try:
        signed = json.loads(Bundle(_Head(head)).metadata("timestamp.json") or b"")["signed"]
        return datetime.datetime.fromisoformat(signed["expires"]).timestamp()
    except (BundleError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
