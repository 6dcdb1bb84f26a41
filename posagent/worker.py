"""The frame of an on-demand worker process: takes verbs over a socket, one at a time, and exits when idle.

Rules: a worker is started by socket activation (descriptor 3) and serves one connection after the other. When the
peer hangs up it stops the verb at its next operation; a request that was given up before it was read is not begun at
all: it may be old, and what it asked for no longer wanted. The peer's user is checked by the kernel's credentials.
"""

from __future__ import annotations

import argparse
import os
import pwd
import select
import socket
import struct
from collections.abc import Callable, Collection, Mapping, Sequence

from posagent import config, wire
from posagent.config import Config
from posagent.core.errors import EXIT_CODES, PosagentError
from posagent.core.ports import Message, Verb

IDLE_EXIT_S = 5.0
REQUEST_TIMEOUT_S = 10.0


def peer_uid(connection: socket.socket) -> int:
    """The user id at the other end of an AF_UNIX connection, as the kernel says."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def activated_socket() -> socket.socket:
    """The listening socket that systemd (or the simulator) handed over. Raises PosagentError `bad_request`."""
    if os.environ.get("LISTEN_PID") not in (str(os.getpid()), None) or os.environ.get("LISTEN_FDS") != "1":
        raise PosagentError("bad_request", "start this worker through its socket unit")
    return socket.socket(fileno=3)


def _hung_up(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


def _read_request(connection: socket.socket) -> Message | None:
    buffer = wire.LineBuffer()
    while data := connection.recv(65536):
        lines = buffer.feed(data)
        if lines:
            return wire.decode(lines[0])
    return None


def _answer(connection: socket.socket, verbs: Mapping[str, Verb]) -> None:
    try:
        connection.settimeout(REQUEST_TIMEOUT_S)
        request = _read_request(connection)
        if request is None:
            return
        name, args = wire.request_of(request)
        verb = verbs.get(name)
        if verb is None:
            raise PosagentError("unknown_verb", f"no verb {name[:40]!r}")
        if _hung_up(connection):
            return
        for message in verb(args):
            if _hung_up(connection):
                return
            connection.sendall(wire.encode(message))
    except PosagentError as error:
        connection.sendall(wire.encode({"error": error.as_dict()}))


def serve(
    listener: socket.socket,
    verbs: Mapping[str, Verb],
    *,
    uids: Collection[int],
    idle_exit_s: float = IDLE_EXIT_S,
) -> None:
    """Answer connections from `uids` until none came for `idle_exit_s` seconds."""
    while True:
        readable, _, _ = select.select([listener], [], [], idle_exit_s)
        if not readable:
            return
        connection, _ = listener.accept()
        with connection:
            try:
                if peer_uid(connection) not in uids:
                    connection.sendall(wire.encode({"error": PosagentError("not_allowed").as_dict()}))
                    continue
                _answer(connection, verbs)
            except OSError as error:  # the peer went away; the next one is served
                report("connection_lost", detail=str(error))


def main(name: str, verbs_of: Callable[[Config], Mapping[str, Verb]], argv: Sequence[str] | None) -> int:
    """The entry point of every worker: configuration, activated socket, verbs; returns the exit code."""
    parser = argparse.ArgumentParser(prog=name, description="A worker of posagentd; started by its socket.")
    parser.add_argument("--config", default=config.DEFAULT_PATH, help="configuration file")
    arguments = parser.parse_args(argv)
    try:
        loaded = config.load(arguments.config)
        serve(activated_socket(), verbs_of(loaded), uids=_agent_uids(loaded))
    except PosagentError as error:
        report("cannot_run", code=error.code, detail=error.detail, remedy=error.spec.remedy)
        return EXIT_CODES[error.spec.kind]
    return 0


def report(event: str, **fields: str) -> None:
    """Log; structlog costs 10 MiB and is imported only when there is something to say."""
    from posagent import log

    log.configure()
    log.get("worker").error(event, **fields)


def _agent_uids(loaded: Config) -> set[int]:
    """Root, this very user, and the agent's user where it exists."""
    uids = {0, os.getuid()}
    try:
        uids.add(pwd.getpwnam(loaded.terminal.agent_user).pw_uid)
    except KeyError:
        pass  # a terminal without that user has no agent of that name either
    return uids
