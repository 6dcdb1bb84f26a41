"""The resident's AF_UNIX ends: as a client of the workers and as the server of the API socket.

Rules: never blocks the loop; a peer that does not read is dropped once its buffer is full; lines are bounded.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from posagent import wire, worker
from posagent.core.errors import PosagentError
from posagent.core.ports import Message, Notify
from posagent.platform.loop import Loop

BUFFER_BYTES_MAX = 1 << 20
CLIENTS_MAX = 32
USER_CLIENTS_MAX = 8
IDLE_S = 30.0


class Stream:
    """One connected socket on the loop: lines in, lines out."""

    def __init__(
        self,
        connection: socket.socket,
        loop: Loop,
        on_line: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        connection.setblocking(False)
        self._socket: socket.socket | None = connection
        self._loop = loop
        self._on_line = on_line
        self._on_end = on_end
        self._in = wire.LineBuffer()
        self._out = bytearray()
        loop.watch(connection.fileno(), self._readable)

    def send(self, message: Mapping[str, Any]) -> None:
        if self._socket is None:
            return
        self._out += wire.encode(message)
        self._writable()

    def close(self) -> None:
        """Hang up; `on_end` is not called."""
        if self._socket is not None:
            self._loop.watch(self._socket.fileno(), None)
            self._socket.close()
            self._socket = None

    def _end(self) -> None:
        if self._socket is not None:
            self.close()
            self._on_end()

    def _readable(self) -> None:
        if self._socket is None:  # closed by another callback of the same turn
            return
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        try:
            lines = self._in.feed(data)
        except wire.LineTooLong as error:
            lines = error.lines
            self.send({"error": error.as_dict()})
        for line in lines:
            if self._socket is not None:
                self._on_line(line)

    def _writable(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        if len(self._out) > BUFFER_BYTES_MAX:
            self._end()
            return
        self._loop.watch(self._socket.fileno(), self._readable, self._writable if self._out else None)


class SocketJob:
    """core.ports.Job over a connection to a worker."""

    def __init__(self, notify: Notify) -> None:
        self._notify: Notify | None = notify
        self.stream: Stream | None = None

    def cancel(self) -> None:
        self._notify = None
        if self.stream is not None:
            self.stream.close()

    def line(self, line: bytes) -> None:
        try:
            message = wire.decode(line)
            if not {"progress", "result", "error"} & message.keys():
                raise PosagentError("internal", "a worker's answer is not understood")
        except PosagentError as error:
            message = {"error": error.as_dict()}
        self.tell(message)

    def lost(self) -> None:
        self.tell({"error": PosagentError("worker_lost").as_dict()})

    def tell(self, message: Message) -> None:
        notify = self._notify
        if "progress" not in message:
            self.cancel()
        if notify is not None:
            notify(message)


class SocketWorker:
    """core.ports.Worker behind an AF_UNIX socket; the service manager starts the process on connection."""

    def __init__(self, path: str, loop: Loop) -> None:
        self._path = path
        self._loop = loop

    def start(self, verb: str, args: Mapping[str, Any], notify: Notify) -> SocketJob:
        job = SocketJob(notify)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            trouble = PosagentError("worker_lost", f"{self._path}: {error.strerror}")
            self._loop.call_later(0, lambda: job.tell({"error": trouble.as_dict()}))
            return job
        job.stream = Stream(connection, self._loop, job.line, job.lost)
        job.stream.send({"verb": verb, "args": dict(args)})
        return job


Call = Callable[[str, dict[str, Any], Callable[[Message], None], str], Callable[[], None]]
"""AgentApi.call: verb, args, reply, caller -> hang up."""


class ApiServer:
    """The API socket. Only root, the agent's own user and members of `admin_groups` may do more than look; members of
    `verb_groups[verb]` may that verb besides.

    Nobody can lock the others out: a user other than root and the agent's own has few connections, one that asks
    nothing for `IDLE_S` is dropped, and root always gets in.
    """

    def __init__(
        self,
        path: str,
        loop: Loop,
        call: Call,
        *,
        admin_groups: Collection[str],
        open_verbs: Collection[str],
        verb_groups: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._loop = loop
        self._call = call
        self._admin_groups = admin_groups
        self._open_verbs = open_verbs
        self._verb_groups = verb_groups
        self._clients: set[_Client] = set()
        self._sweeping = False
        Path(path).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        self._listener.bind(path)
        Path(path).chmod(0o666)  # everyone may look; what changes something is checked by the kernel's credentials
        self._listener.listen(16)
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        uid = worker.peer_uid(connection)
        if not self._has_room(uid):
            connection.close()
            return
        self._clients.add(_Client(self, connection, uid))
        self.idle()

    def _has_room(self, uid: int) -> bool:
        if uid == 0:
            return True
        theirs = sum(client.uid == uid for client in self._clients)
        return len(self._clients) < CLIENTS_MAX and (uid == os.getuid() or theirs < USER_CLIENTS_MAX)

    def idle(self) -> None:
        """Somebody is connected and asks nothing; one timer looks after all of them."""
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(IDLE_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        for client in [client for client in self._clients if client.idle_s >= IDLE_S]:
            client.drop()
        waits = [client.idle_s for client in self._clients if client.idle_since is not None]
        if waits:
            self._sweeping = True
            self._loop.call_later(IDLE_S - max(waits), self._sweep)

    def allowed(self, verb: str, uid: int) -> bool:
        if verb in self._open_verbs or uid in (0, os.getuid()):
            return True
        return _is_member(uid, (*self._admin_groups, *self._verb_groups.get(verb, ())))

    def read(self, line: bytes, uid: int) -> tuple[str, dict[str, Any]]:
        """Verb and arguments of a line. Raises PosagentError: not understood, or not allowed."""
        verb, args = wire.request_of(wire.decode(line))
        if not self.allowed(verb, uid):
            raise PosagentError("not_allowed", f"user {uid} may not {verb[:40]}")
        return verb, args

    def request(self, client: _Client, verb: str, args: dict[str, Any]) -> Callable[[], None]:
        """Have it answered. Returns how to hang up on it."""
        try:
            return self._call(verb, args, client.reply, f"uid {client.uid}")
        except PosagentError as error:
            client.reply({"error": error.as_dict()})
            return lambda: None

    def ended(self, client: _Client) -> None:
        self._clients.discard(client)

    @property
    def loop(self) -> Loop:
        return self._loop


def _is_member(uid: int, groups: Collection[str]) -> bool:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    for name in groups:
        try:
            group = grp.getgrnam(name)
        except KeyError:
            continue
        if user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem:
            return True
    return False


class _Client:
    """One caller on the API socket: one request at a time. `idle_since` is None while one is being answered."""

    def __init__(self, server: ApiServer, connection: socket.socket, uid: int) -> None:
        self._server = server
        self.uid = uid
        self.idle_since: float | None = server.loop.now()
        self._hang_up: Callable[[], None] = lambda: None
        self._gone = False
        self._stream = Stream(connection, server.loop, self._line, self._ended)

    @property
    def idle_s(self) -> float:
        return 0.0 if self.idle_since is None else self._server.loop.now() - self.idle_since

    def drop(self) -> None:
        self._stream.close()
        self._ended()

    def reply(self, message: Message) -> None:
        if "progress" not in message:
            self.idle_since = self._server.loop.now()
            self._server.idle()
        self._stream.send(message)

    def _line(self, line: bytes) -> None:
        """The next request takes the place of the last; a line that is none leaves that as it is."""
        try:
            verb, args = self._server.read(line, self.uid)
        except PosagentError as error:
            self.refuse(error)
            return
        self._hang_up()
        self.idle_since = None
        self._hang_up = self._server.request(self, verb, args)
        if self._gone:  # whoever asked did not wait for the answer
            self._hang_up()

    def refuse(self, error: PosagentError) -> None:
        if self.idle_since is None:
            self._stream.send({"error": error.as_dict()})
        else:
            self.reply({"error": error.as_dict()})

    def _ended(self) -> None:
        self._gone = True
        self._hang_up()
        self._server.ended(self)
