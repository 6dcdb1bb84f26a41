"""A set of parameters on its way: what the installer leaves for the data worker, which decides whether it is used.

Parameters are an acquirer's: terminal settings, keys of card schemes, currencies, limits. They are one JSON object,
signed and versioned as a component of a bundle, alone or beside a system image. `for` says who may take the set over:
the version in that slot on its trial boot, or one update that brings nothing else.
Rules: the file is the installer's, and always of its last write; whoever it is not for leaves it alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from posagent.core import durable
from posagent.core.ports import Files

FORM = 1
FILE = "parameters.json"
"""In the installer's directory."""
BYTES_MAX = 256 << 10
_FILE_BYTES_MAX = 8 * BYTES_MAX
"""JSON may need six bytes for one, and says the rest beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """`data` is the set as it was signed, `sha256` its digest in hexadecimal."""

    holder: str
    version: str
    sha256: str
    data: bytes


def trial_of(slot: str, version: str) -> str:
    """The holder that is a version on trial."""
    return f"slot {slot} {version}"


def update_of(update_id: str) -> str:
    """The holder that is an update of parameters alone."""
    return f"update {update_id}"


def decoded(data: bytes) -> dict[str, Any]:
    """The set's JSON object. Raises ValueError."""
    if len(data) > BYTES_MAX:
        raise ValueError(f"{len(data)} bytes are more than {BYTES_MAX}")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def stage(files: Files, directory: str, staged: Staged | None) -> None:
    """Leave the set, or that there is none; durable. Raises OSError."""
    path = f"{directory}/{FILE}"
    if staged is None:
        durable.remove(files, path)
        return
    text = staged.data.decode()
    told = {"v": FORM, "for": staged.holder, "version": staged.version, "sha256": staged.sha256, "text": text}
    durable.replace_json(files, path, told)


def left(files: Files, directory: str) -> Staged | None:
    """What was left, or None: also where it cannot be read. Raises OSError."""
    told = durable.read_json(files, f"{directory}/{FILE}", _FILE_BYTES_MAX)
    try:
        texts = [told[name] for name in ("for", "version", "sha256", "text")]
        if told["v"] != FORM or not all(isinstance(one, str) for one in texts):
            return None
        return Staged(holder=texts[0], version=texts[1], sha256=texts[2], data=texts[3].encode())
    except (KeyError, TypeError, UnicodeEncodeError):
        return None
