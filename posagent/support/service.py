"""posagent-support: the unprivileged worker that makes a support bundle. A composition root.

Rules: it reads the agent's journal (by its group), the configuration and the vendor's public key, is told the rest by
the agent, and writes nothing: the sealed file is its answer. Nothing leaves it that was not redacted and sealed; where
there is no key it refuses. docs/adr/0012 has why this is a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import posagent
from posagent import worker
from posagent.agent.journal import READ_BYTES_MAX, decode
from posagent.config import Config
from posagent.core import envelope
from posagent.core.errors import PosagentError
from posagent.core.ports import Clock, Files, Message, Verb
from posagent.core.redact import Redactor
from posagent.core.spoken import code_of
from posagent.platform.host import LinuxClock
from posagent.platform.storage import LinuxFiles
from posagent.support.contents import Contents

FILE_BYTES_MAX = 176 << 10
"""What the answer, one line of JSON, has room for."""
KEY_BYTES_MAX = 4096
REASON_CHARACTERS_MAX = 200
_PART = re.compile(r"[a-z_]{1,32}")
LOG_SHARE = 0.3
"""Of what room is left, as much for the agent's log; the journal has the rest."""


class Maker:
    """The verb `make`. `system` is what is told of the machine."""

    def __init__(self, config: Config, files: Files, clock: Clock, system: Mapping[str, str]) -> None:
        self._config, self._files, self._clock, self._system = config, files, clock, system

    def make(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{reason, live: {part: value}, log: [line]}`, newest lines last: result `{file, size, sha256, code, redacted,
        left_out}`, the file in base64. Raises PosagentError `support_no_key`, `support_failed`."""
        key = self._vendor_key()
        bytes_max = self._config.support.bytes_max
        while True:
            contents = self._filled(args, bytes_max)
            file = envelope.sealed(contents.text(self._about(args)), key)
            if len(file) <= FILE_BYTES_MAX:
                break
            bytes_max //= 2  # it did not compress: whatever was in it, older lines go
        digest = hashlib.sha256(file)
        yield {
            "result": {
                "file": base64.b64encode(file).decode("ascii"),
                "size": len(file),
                "sha256": digest.hexdigest(),
                "code": code_of(digest.digest()),
                "redacted": sum(contents.redactor.counts.values()),
                "left_out": contents.left_out,
            }
        }

    def _vendor_key(self) -> bytes:
        path = self._config.support.vendor_key_file
        if not path:
            raise PosagentError("support_no_key", "support.vendor_key_file is not set")
        try:
            return self._files.read(path, 0, KEY_BYTES_MAX)
        except OSError as error:
            raise PosagentError("support_no_key", f"{path}: {error.strerror or error}") from None

    def _about(self, args: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "terminal": self._config.terminal.id,
            "made_at": round(self._clock.wall(), 3),
            "reason": str(args.get("reason", ""))[:REASON_CHARACTERS_MAX],
            "versions": {"agent": posagent.__version__, **self._system},
        }

    def _filled(self, args: Mapping[str, Any], bytes_max: int) -> Contents:
        contents = Contents(bytes_max=bytes_max, redactor=Redactor())
        live = args.get("live")
        for name, value in (live if isinstance(live, dict) else {}).items():
            if _PART.fullmatch(name):
                contents.document(f"{name}.json", value)
        contents.configuration("configuration.json", self._config)
        log = args.get("log")
        contents.lines("log.jsonl", reversed(log if isinstance(log, list) else []), LOG_SHARE)
        contents.lines("journal.jsonl", self._records())
        return contents

    def _records(self) -> Iterator[dict[str, Any]]:
        """The journal's records, newest first; what is damaged is told."""
        try:
            size = self._files.size(self._config.journal_path) or 0
            length = min(size, READ_BYTES_MAX)
            data = self._files.read(self._config.journal_path, size - length, length)
        except OSError as error:
            yield {"detail": f"journal: {error.strerror or error}"}
            return
        for line in reversed(data.split(b"\n")):
            if text := line.strip(b"\0"):
                record = decode(text)
                yield {"detail": "damaged"} if record is None else record


def system() -> dict[str, str]:
    """What this runs on."""
    return {"python": sys.version.split()[0], "kernel": os.uname().release, "system": os.uname().machine}


def _verbs(config: Config) -> dict[str, Verb]:
    return {"make": Maker(config, LinuxFiles(), LinuxClock(), system()).make}


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-support", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
