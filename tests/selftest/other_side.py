"""The other side of self-tests, in threads: a payment application's socket, peripherals on their serial lines."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from posagent.platform.host import LinuxClock
from posagent.platform.loop import Loop
from posagent.sim import layout
from posagent.sim.peripherals import Peripherals

Answer = Callable[[dict[str, Any]], dict[str, Any] | bytes | None]


def as_expected(asked: dict[str, Any]) -> dict[str, Any]:
    return {"outcome": asked["expect"], "ms": 120}


def slow(seconds: float) -> Answer:
    """A transaction takes it so long."""

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.sched_yield()
        return as_expected(asked)

    return answer


@contextmanager
def payment_application(path: Path, answer: Answer = as_expected) -> Iterator[list[dict[str, Any]]]:
    """Answers at the socket `path`; gives what it was asked. Where `answer` gives None it says nothing."""
    asked: list[dict[str, Any]] = []
    silent = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(json.loads(self.rfile.readline()))
            said = answer(asked[-1])
            if said is None:
                silent.wait()
                return
            with suppress(BrokenPipeError):  # whoever asked has not waited
                self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode() + b"\n")

    server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield asked
    finally:
        silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def peripherals(root: Path) -> Iterator[Peripherals]:
    """Of a simulated terminal, under `root`/dev."""
    (root / "dev").mkdir()
    loop = Loop(LinuxClock())
    reader, writer = os.pipe()
    made = Peripherals(layout.Layout(root), loop)
    loop.watch(reader, loop.stop)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield made
    finally:
        os.write(writer, b".")
        thread.join()
        os.close(reader)
        os.close(writer)
