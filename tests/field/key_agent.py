"""An SSH agent that holds a security key made of software: ssh-keygen speaks to it as to any other."""

from __future__ import annotations

import base64
import socket
import threading
from pathlib import Path

from tests.console.security_key import SecurityKey, string

IDENTITIES, IDENTITIES_ANSWER, SIGN, SIGN_ANSWER, FAILURE = 11, 12, 13, 14, 5
"""Source: draft-ietf-sshm-ssh-agent."""


class KeyAgent:
    """At the socket `path`, until `end`. `touches` counts the signatures that were given."""

    def __init__(self, path: Path, key: SecurityKey, certificate: Path) -> None:
        self._key = key
        self._blobs = [key.blob, base64.b64decode(certificate.read_bytes().split()[1])]
        self.touches = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as asked:
                while header := asked.read(4):
                    peer.sendall(string(self._answer(asked.read(int.from_bytes(header, "big")))))

    def _answer(self, message: bytes) -> bytes:
        if message[0] == IDENTITIES:
            listed = b"".join(string(blob) + string(b"") for blob in self._blobs)
            return bytes([IDENTITIES_ANSWER]) + len(self._blobs).to_bytes(4, "big") + listed
        if message[0] == SIGN:
            size = int.from_bytes(message[1:5], "big")
            data = message[5 + size :]
            self.touches += 1
            return bytes([SIGN_ANSWER]) + string(self._key.signature(data[4 : 4 + int.from_bytes(data[:4], "big")]))
        return bytes([FAILURE])
