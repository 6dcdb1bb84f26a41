"""Where a terminal on a rig looks for updates: a directory on this machine, served on one address of it.

Never: on all addresses. A virtual terminal reaches the loopback; a board on a bench the address it is wired to.
"""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

from posagent.release import repository

LOOPBACK = "127.0.0.1"
PORT = 8000


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return None


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        return None  # a terminal that was switched off does not say goodbye


class Repository:
    """Serves from now until it is closed, on the address `bind`; the terminal knows this machine as `host`.

    Raises OSError where this machine does not have that address. Port 0 is any that is free.
    """

    def __init__(self, directory: Path, host: str, *, bind: str = LOOPBACK, port: int = PORT) -> None:
        directory.mkdir()
        self._directory, self._host = directory, host
        handler = functools.partial(_Quiet, directory=str(directory))
        self._server = _Server((bind, port), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def offer(self, bundle: Path) -> str:
        """Make this bundle the newest; its address."""
        pointer = repository.publish(bundle, self._directory)
        return self.url(pointer["bundle"])

    def url(self, name: str) -> str:
        """Where the terminal finds a file of the directory."""
        return f"http://{self._host}:{self._server.server_port}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
