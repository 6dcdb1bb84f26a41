"""The JSON Schema by which the running image judges parameters.

Rules: the schema is a file of the verified image, so it is trusted; it refers to nothing outside of itself. The
library is imported when a set is judged, not before.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from posagent.core import redact
from posagent.core.errors import PosagentError

BYTES_MAX = 1 << 20
SHOWN_CHARACTERS_MAX = 200
_ELSEWHERE = ("http", "https", "ftp", "file", "data")


class SchemaFile:
    """core.ports.Schema in the file at `path`; "" is none."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest() if self._path else ""

    def check(self, value: Any) -> None:
        if not self._path:
            raise PosagentError("parameters_invalid", "this image declares no schema: it takes no parameters")
        import fastjsonschema

        try:
            judge = fastjsonschema.compile(
                _table(self._bytes), handlers=dict.fromkeys(_ELSEWHERE, _refuse), use_default=False
            )
        except (fastjsonschema.JsonSchemaDefinitionException, ValueError, RecursionError) as error:
            raise PosagentError("parameters_invalid", f"{self._path}: {_short(error)}") from None
        try:
            judge(value)
        except fastjsonschema.JsonSchemaValueException as error:
            raise PosagentError("parameters_invalid", redact.cards(_short(error.message))) from None
        except RecursionError:
            raise PosagentError("parameters_invalid", "nested too deeply") from None

    @cached_property
    def _bytes(self) -> bytes:
        try:
            with Path(self._path).open("rb") as file:
                found = file.read(BYTES_MAX + 1)
        except OSError as error:
            raise PosagentError("parameters_invalid", f"{self._path}: {error.strerror}") from None
        if len(found) > BYTES_MAX:
            raise PosagentError("parameters_invalid", f"{self._path} has more than {BYTES_MAX} bytes")
        return found


def _table(data: bytes) -> dict[str, Any]:
    import json

    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _refuse(uri: str) -> Any:
    raise ValueError(f"it refers to {uri[:SHOWN_CHARACTERS_MAX]}, which is outside of it")


def _short(what: object) -> str:
    return str(what)[:SHOWN_CHARACTERS_MAX]
