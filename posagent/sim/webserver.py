"""A real nginx on loopback that serves one directory: the repository of demos, tests and rigs."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from posagent.core.errors import PosagentError

START_S = 10.0

CONFIG = """\
daemon off;
master_process off;
pid {base}/nginx.pid;
error_log {base}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    server {{ listen 127.0.0.1:{port} {tls}; root {root}; {limit} {more} }}
}}
"""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class WebServer:
    """One nginx process. `rate_limit` is in nginx' words, such as "8m" bytes a second; empty for none. With a
    certificate (and its key, PEM files) it speaks TLS. `more` are directives of the server's own; like `certify`
    they count from the next start."""

    def __init__(
        self,
        base: Path,
        root: Path,
        *,
        rate_limit: str = "",
        certificate: Path | None = None,
        key: Path | None = None,
        more: str = "",
    ) -> None:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        if not Path(program).exists():
            raise PosagentError("bad_request", "nginx is not installed (Debian package nginx-light)")
        base.mkdir(parents=True, exist_ok=True)
        root.mkdir(parents=True, exist_ok=True)
        self._program = program
        self._base = base.resolve()
        self.root = root.resolve()
        self.port = free_port()
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._tls, self.more = "", more
        if certificate is not None and key is not None:
            self.certify(certificate, key)
        self._process: subprocess.Popen[bytes] | None = None
        self.rate_limit = rate_limit
        self.start()

    def certify(self, certificate: Path, key: Path) -> None:
        """What it says who it is with."""
        self._tls = f"ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"

    def start(self) -> None:
        """Start, or start again after `kill`, on the same port."""
        limit = f"limit_rate {self.rate_limit};" if self.rate_limit else ""
        config = self._base / "nginx.conf"
        config.write_text(
            CONFIG.format(base=self._base, root=self.root, port=self.port, limit=limit, tls=self._tls, more=self.more)
        )
        self._process = subprocess.Popen(
            [self._program, "-p", str(self._base), "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.01)
        raise PosagentError("bad_request", f"nginx did not start; see {self._base}/error.log")

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    stop = kill
