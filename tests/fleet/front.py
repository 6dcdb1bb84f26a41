"""A real nginx with TLS in front of a fleet server and its bundles, and the faults that such a thing has.

Behind it is tests.fleet.server over HTTP. A fault is of one of two places: `server`, what terminals ask, and `bundles`,
what they download.
"""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from posagent.core.errors import FetchError
from posagent.sim.webserver import WebServer, free_port
from tests.fleet.server import BASE, Server

SERVER = """\
    if ($ssl_client_s_dn ~ CN=(?<name>[^,]+)) {{ set $terminal $name; }}
    location /bundles/ {{ {bundles} }}
    location / {{ {server} }}
"""
PASS = "proxy_pass http://127.0.0.1:{port}; proxy_set_header X-Controller-Id $terminal;"
NGINX: Mapping[str, str] = {
    "reset": "return 444;",
    "500": "return 500;",
    "503": "add_header Retry-After 20 always; return 503;",
    "bad gateway": "proxy_pass http://127.0.0.1:{closed};",
    "portal": "default_type text/html; return 200 '<html>please pay for the network</html>';",
}
"""Faults that nginx itself has."""
BEHIND = ("slow", "truncated", "too short", "too long")
"""Faults of what is behind it: silence in the midst of an answer; an end before the announced one; an announced length
that is below, or above, that of what comes."""


class Front:
    """nginx at `url`; `fault(place, name)` from now on, "" for none. `mutual`: it asks terminals for a certificate of
    its own authority (`client`, whose name is `name`)."""

    def __init__(self, base: Path, server: Server, *, mutual: bool = False, name: str = "t") -> None:
        base.mkdir()
        self._base, self._server = base, server
        self._closed = free_port()
        certify(base / "good", "localhost", days=2)
        certify(base / "expired", "localhost", days=-2)
        certify(base / "client", name, days=2)
        self.ca = base / "ca.pem"
        self.ca.write_bytes((base / "good.pem").read_bytes() + (base / "expired.pem").read_bytes())
        self.client = base / "client"
        self._tls = f"ssl_verify_client on; ssl_client_certificate {base}/client.pem;" if mutual else ""
        self._faults = {"server": "", "bundles": ""}
        self.names: list[str] = []
        """Whom nginx found terminals to be, by their certificates."""
        self._backend = _Backend(self)
        threading.Thread(target=self._backend.serve_forever, daemon=True).start()
        self._web = WebServer(
            base / "nginx",
            base / "root",
            certificate=base / "good.pem",
            key=base / "good.key",
            more=self._places(),
        )
        self.url = self._web.url
        server.address = lambda path: f"{self.url}/bundles/{path}"

    def fault(self, place: str, name: str = "") -> None:
        self._faults[place] = name
        self._web.kill()
        own = self._base / ("expired" if "expired" in self._faults.values() else "good")
        self._web.certify(own.with_suffix(".pem"), own.with_suffix(".key"))
        self._web.more = self._places()
        self._web.start()

    def behind(self, place: str) -> str:
        """The fault of what is behind nginx now."""
        return self._faults[place] if self._faults[place] in BEHIND else ""

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, bytes, int | None]:
        """Of the fleet server."""
        reply = self._server.call(method, BASE + path.removeprefix("/DEFAULT"), body)
        return reply.status, reply.body, reply.retry_after_s

    def close(self) -> None:
        self._web.stop()
        self._backend.released.set()
        self._backend.shutdown()
        self._backend.server_close()

    def _places(self) -> str:
        """What nginx does in each of them."""
        port = self._backend.server_port
        does = {place: NGINX.get(name, PASS) for place, name in self._faults.items()}
        return self._tls + SERVER.format(
            **{place: text.format(port=port, closed=self._closed) for place, text in does.items()}
        )


class _Backend(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, front: Front) -> None:
        self.front, self.released, self.one = front, threading.Event(), threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        return None  # whoever asked had enough


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Backend

    def log_message(self, *_: object) -> None:
        return None

    def do_GET(self) -> None:
        front = self.server.front
        if self.path.startswith("/bundles/"):
            self._file(Path(self.path.removeprefix("/bundles/")), front.behind("bundles"))
            return
        if name := self.headers.get("X-Controller-Id"):
            front.names.append(name)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        with self.server.one:
            try:
                status, data, retry_after_s = front.answer(self.command, self.path, body)
            except FetchError:
                return  # the connection ends
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self._send(status, data, headers, front.behind("server"))

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def _file(self, path: Path, fault: str) -> None:
        data = path.read_bytes()
        tag, headers, status = f'"{len(data)}"', {"Accept-Ranges": "bytes"}, 200
        asked = self.headers.get("Range", "")
        if asked and self.headers.get("If-Range", tag) == tag:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
            data, status = data[begin : end + 1], 206
        self._send(status, data, {**headers, "ETag": tag}, fault)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str], fault: str) -> None:
        half = data[: len(data) // 2]
        length = {"too short": len(half), "too long": 2 * len(data) + 1}.get(fault, len(data))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(half if fault in ("slow", "truncated") else data)
        self.wfile.flush()
        if fault == "slow":
            self.server.released.wait(30)


def certify(path: Path, name: str, *, days: int) -> None:
    """A certificate of its own authority for that many days from now, ended where negative: `path`.pem and .key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    begin = now - datetime.timedelta(days=10)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.with_suffix(".pem").write_bytes(made.public_bytes(Encoding.PEM))
    path.with_suffix(".key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
