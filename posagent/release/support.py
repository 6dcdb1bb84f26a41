"""Opens support bundles at the vendor's desk: which are anybody's bytes until they are opened, and hardly more after.

Rules: what is written has a name from a short list of characters, into a directory of its own; nothing is overwritten.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from posagent.core import envelope
from posagent.core.errors import PosagentError, Refusal
from posagent.core.spoken import code_of, heard
from posagent.release import files, keys

FILE_BYTES_MAX = 4 << 20
PARTS_MAX = 64
_NAME = re.compile(r"[a-z][a-z_-]{0,31}\.(json|jsonl)")


def code(file: Path, said: str = "") -> dict[str, Any]:
    """The code of a bundle; where somebody `said` one over the phone, whether it is that. Raises Refusal `bad_request`
    for what cannot be a code, PosagentError `support_unreadable` for another bundle's."""
    found = code_of(hashlib.sha256(_read(file)).digest())
    if said:
        try:
            wanted = heard(said)
        except ValueError as error:
            raise Refusal("bad_request", str(error)) from None
        if wanted != found:
            raise PosagentError("support_unreadable", f"the code of {file.name} is {found}, not {wanted}")
    return {"code": found}


def open_bundle(file: Path, key: Path, out: Path) -> dict[str, Any]:
    """Write the parts into the directory `out`, made by this; returns what the bundle says of itself.

    Raises ReleaseError, PosagentError `support_unreadable`.
    """
    data = _read(file)
    contents = _contents(envelope.opened(data, keys.vendor_pem(key)))
    about, parts = contents["about"], contents["parts"]
    with files.coded():
        out.mkdir(parents=True)
        for name, text in parts.items():
            (out / name).write_text(text, encoding="utf-8")
        files.replace_json(out / "about.json", about)
    return {"code": code_of(hashlib.sha256(data).digest()), "out": str(out), **about}


def _read(file: Path) -> bytes:
    with files.coded(), file.open("rb") as stream:
        data = stream.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise PosagentError("support_unreadable", f"{file.name} is larger than {FILE_BYTES_MAX} bytes")
    return data


def _contents(text: bytes) -> dict[str, Any]:
    try:
        contents = json.loads(text)
        about, parts = contents["about"], contents["parts"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise PosagentError("support_unreadable", "what is in it is no support bundle's") from None
    sound = isinstance(about, dict) and isinstance(parts, dict) and len(parts) <= PARTS_MAX
    if not sound or not all(_NAME.fullmatch(name) and isinstance(part, str) for name, part in parts.items()):
        raise PosagentError("support_unreadable", "it has parts of strange names")
    return {"about": about, "parts": parts}
