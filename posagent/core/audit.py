"""The audit log's lines: records in a chain of hashes, checkpoints over it, and whether a log is whole. Pure.

Owns: the format. A line is a JSON object `{"seq": n, "prev": hash of the line before, "at": …, "event": …, …}`; its
hash is the SHA-256 of its bytes without the blanks and the line end behind it, and the hash of the last line is the
log's head. A checkpoint is a signed note (C2SP signed-note, tlog-checkpoint) over size and head:

    posagent-audit/TERMINAL
    SIZE                     number of records, those that were rotated away included
    HEAD                     base64
    lost SIZE HEAD           where the log does not go on from what was sealed before

    — posagent-audit/TERMINAL KEY-ID-AND-SIGNATURE

It stands in the log as the record `checkpoint` with the `signer`'s public key. `rotated` says which record is the
first that is kept. What follows the last checkpoint is not protected yet.
Rules: a record has no secrets: of arguments only plain values, without the user and the query of addresses, and without
what looks like a card number. Never raises for what is in a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posagent.core.notes import Note, decoded, parse_note

FILE = "audit.log"
"""In the agent's directory."""
GENESIS = "0" * 64
LINE_BYTES_MAX = 2048
TEXT_CHARACTERS_MAX = 120
LOOKED_AT_MAX = 2100
"""Characters of a text that are looked at: longer than any address that is accepted."""
FIELDS_MAX = 12
BREAKS_MAX = 20
LOST = "lost"
_ADDRESS = re.compile(r"(?<!\w)(\w{1,16}://)(?:[^/@\s]*@)?([^?#\s]*)\S*")
_CARD = re.compile(r"(?<![0-9a-fA-F])\d{13,19}(?![0-9a-fA-F])")
_HASH = re.compile(r"[0-9a-f]{64}")


# records


def head_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def line_of(seq: int, prev: str, fields: Mapping[str, Any]) -> bytes:
    """A record's line without its end; from one that would be too long the arguments go, or all but what happened."""
    record = {"seq": seq, "prev": prev, **fields}
    for left_out in ((), ("args",), set(fields) - {"at", "event", "skipped", "lost"}):
        kept = {name: value for name, value in record.items() if name not in left_out}
        line = json.dumps({**kept, **({"cut": True} if left_out else {})}, separators=(",", ":")).encode()
        if len(line) <= LINE_BYTES_MAX:
            return line
    raise AssertionError("a record of a few numbers is too long")


def record_of(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None where it is none."""
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    seq, prev = record.get("seq"), record.get("prev")
    whole = type(seq) is int and 0 <= seq < 2**53 and isinstance(prev, str) and _HASH.fullmatch(prev)
    return record if whole else None


def lines_in(data: bytes) -> list[tuple[int, bytes]]:
    """The lines of a log with their numbers from 1, without blanks behind them; empty ones are left out."""
    return [(number, line) for number, one in enumerate(data.split(b"\n"), 1) if (line := one.strip(b" \0\r"))]


def plain(value: Any, deep: bool = True) -> Any:
    """A value fit for a record: numbers and short texts stay, one level `deep`; the rest is named by its kind."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < 2**53 else type(value).__name__
    if isinstance(value, str):
        text = _CARD.sub("[masked]", _ADDRESS.sub(r"\1\2", value[:LOOKED_AT_MAX]))
        text = "".join(one if one.isprintable() else "?" for one in text[: TEXT_CHARACTERS_MAX + 1])
        return text if len(text) <= TEXT_CHARACTERS_MAX else text[: TEXT_CHARACTERS_MAX - 1] + "…"
    if isinstance(value, Mapping) and deep:
        return {plain(str(name)): plain(one, deep=False) for name, one in list(value.items())[:FIELDS_MAX]}
    return type(value).__name__


# checkpoints


@dataclass(frozen=True, slots=True)
class Sealed:
    """How much of a log was sealed: the number of records, and the hash of the last."""

    size: int = 0
    head: str = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    origin: str
    sealed: Sealed
    lost: Sealed | None = None


def origin_of(terminal: str) -> str:
    """The name of a terminal's log and key; notes have no blanks and no `+` in names."""
    return "posagent-audit/" + re.sub(r"[^A-Za-z0-9._-]", "_", terminal)[:64]


def text_of(checkpoint: Checkpoint) -> str:
    lines = [checkpoint.origin, *_size_and_head(checkpoint.sealed)]
    if checkpoint.lost is not None:
        lines.append(" ".join((LOST, *_size_and_head(checkpoint.lost))))
    return "".join(f"{line}\n" for line in lines)


def checkpoint_of(text: str) -> Checkpoint | None:
    """What a note says. Lines of later releases are ignored."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1]:
        return None
    sealed = _sealed(lines[1], lines[2])
    lost = None
    for line in lines[3:-1]:
        words = line.split(" ")
        if words[0] == LOST:
            lost = _sealed(words[1], words[2]) if len(words) == 3 else None
            if lost is None:
                return None
    return None if sealed is None else Checkpoint(origin=lines[0], sealed=sealed, lost=lost)


def _size_and_head(sealed: Sealed) -> tuple[str, str]:
    return str(sealed.size), base64.b64encode(bytes.fromhex(sealed.head)).decode()


def _sealed(size: str, head: str) -> Sealed | None:
    blob = decoded(head)
    if not size.isascii() or not size.isdecimal() or len(size) > 16 or blob is None or len(blob) != 32:
        return None
    return Sealed(int(size), blob.hex())


# following a log


@dataclass(slots=True)
class Run:
    """Records that follow each other without a break: from `first` on, `size` with those before it, and the head."""

    first: int = 0
    size: int = 0
    head: str = GENESIS

    def follows(self, record: Mapping[str, Any]) -> bool:
        return bool(record["seq"] == self.size and record["prev"] == self.head)


def goes_on(data: bytes, sealed: Sealed) -> tuple[Sealed, bool]:
    """How far a log goes, and whether it goes on from what was `sealed`, without a break from there to its end."""
    run, met = Run(), sealed == Sealed()
    for _, line in lines_in(data):
        record = record_of(line)
        if record is None:
            continue  # behind the end it is a torn record; before it, the next one does not follow
        if not run.follows(record):
            run = Run(record["seq"], record["seq"], record["prev"])
            met = sealed == Sealed()
        met = met or Sealed(run.size, run.head) == sealed
        run.size, run.head = record["seq"] + 1, head_of(line)
    return Sealed(run.size, run.head), met or Sealed(run.size, run.head) == sealed


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What is known of a log. `breaks` are line numbers (0: the file as a whole) with what is wrong there; `sealed` is
    how far the last good checkpoint reaches; `key` is whose they are; `skipped` records were too many to be written,
    `lost` ones could not be."""

    records: int = 0
    first: int = 0
    size: int = 0
    head: str = GENESIS
    sealed: int = 0
    key: str = ""
    skipped: int = 0
    lost: int = 0
    breaks: list[tuple[int, str]] = field(default_factory=list)


Genuine = Callable[[str, Note], bool]
"""Whether a note is signed by the key in a public line."""


def verify(data: bytes, genuine: Genuine, *, key: str = "", known: Sequence[Sealed] = ()) -> Verdict:
    """Look at a whole log. Without a `key` the first checkpoint's own must have signed all; `known` are seals that the
    log must contain, such as the installer's last."""
    verdict = Verdict(key=key)
    heads: dict[int, str] = {}
    run, rotated = Run(), (0, 0)
    for number, line in lines_in(data):
        record = record_of(line)
        if record is None:
            _broken(verdict, number, "not a record")
            continue
        if not verdict.records:
            verdict.first = record["seq"]
            run = Run(record["seq"], record["seq"], record["prev"] if verdict.first else GENESIS)
            heads[run.size] = run.head
        if not run.follows(record):
            _broken(verdict, number, _what_is_wrong(record, run))
        run.size, run.head = record["seq"] + 1, head_of(line)
        verdict.records += 1
        heads[run.size] = run.head
        verdict.skipped += _count(record, "skipped")
        verdict.lost += _count(record, "lost")
        if record.get("event") == "rotated":
            rotated = (_count(record, "first"), number)
        if record.get("event") == "checkpoint":
            _check_checkpoint(verdict, number, record, heads, genuine)
    verdict.size, verdict.head = run.size, run.head
    if verdict.records and verdict.first != rotated[0]:
        _broken(verdict, rotated[1], f"the log begins with record {verdict.first} instead of {rotated[0]}")
    for seal in known:
        if seal.size > verdict.size:
            _broken(verdict, 0, f"{seal.size} records were sealed, {verdict.size} are left: the end is missing")
        elif seal.size >= verdict.first and heads.get(seal.size) != seal.head:
            _broken(verdict, 0, f"the first {seal.size} records are not those that were sealed")
    return verdict


def _what_is_wrong(record: Mapping[str, Any], run: Run) -> str:
    if record["seq"] > run.size:
        return f"records {run.size} to {record['seq'] - 1} are missing"
    if record["seq"] < run.size:
        return f"record {record['seq']} comes again or too late"
    return f"record {record['seq']} does not follow the one before it: one of them was changed"


def _check_checkpoint(
    verdict: Verdict, number: int, record: Mapping[str, Any], heads: Mapping[int, str], genuine: Genuine
) -> None:
    note = parse_note(str(record.get("note", "")))
    said = checkpoint_of(note.text) if note is not None else None
    if note is None or said is None:
        _broken(verdict, number, "a checkpoint that is none")
        return
    verdict.key = verdict.key or str(record.get("signer", ""))
    if not genuine(verdict.key, note):
        _broken(verdict, number, "a checkpoint that is signed by another key")
        return
    if said.lost is not None:
        _broken(verdict, number, f"the log did not go on from the {said.lost.size} records that were sealed before")
    if said.sealed.size >= verdict.first and heads.get(said.sealed.size) != said.sealed.head:
        _broken(verdict, number, f"the first {said.sealed.size} records are not those that this checkpoint sealed")
        return
    verdict.sealed = max(verdict.sealed, said.sealed.size)


def _broken(verdict: Verdict, number: int, what: str) -> None:
    if len(verdict.breaks) < BREAKS_MAX:
        verdict.breaks.append((number, what))


def _count(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    return value if type(value) is int and 0 <= value < 2**53 else 0


def newest(lines: Iterable[bytes], bytes_max: int) -> list[bytes]:
    """The last of the lines that fit into so many bytes, in their order."""
    kept: list[bytes] = []
    for line in reversed(list(lines)):
        bytes_max -= len(line) + 1
        if bytes_max < 0:
            break
        kept.append(line)
    return kept[::-1]
