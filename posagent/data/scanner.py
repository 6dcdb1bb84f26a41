"""What must never get into a backup: keys, and what authenticates a card holder. Found, it is named but never shown.

Owns: how such things look: private keys (PEM, DER), track data (ISO/IEC 7813, EMV tag 57), and fields whose name says
what they are: columns of tables, and `"name": value` or `name = value` in texts.
Rules: unlike in `core.redact`, where doubt is no loss, a false alarm here keeps a terminal from every update: a track
needs its structure and its check digit, a field something in it that can be such a value. Card numbers are allowed
inside, because it is sealed; they are counted. Nothing is unpacked: what is compressed or encoded is not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from posagent.core import redact
from posagent.core.errors import PosagentError

OVERLAP = 512
"""Of a block is looked at again with the next one: a finding may begin in one and end in the other."""

_KEY, _TRACK, _CVV, _PIN, _BLOCK = (
    "a private or secret key",
    "track data",
    "a card verification value",
    "a PIN",
    "a PIN block",
)

_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_DER = re.compile(  # PKCS #8: version, then the algorithm RSA, EC or one of RFC 8410
    r"\x02\x01[\x00\x01]0.\x06(?:\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01|\x07\x2a\x86\x48\xce\x3d\x02\x01|\x03\x2b\x65[\x6e-\x71])",
    re.DOTALL,
)
_AFTER = r"\d\d(?:0[1-9]|1[0-2])[125679][024][0-7]"  # YYMM and the service code
_TRACK_1 = re.compile(r"B(\d{12,19})\^[^\^\n]{2,26}\^" + _AFTER)
_TRACK_2 = re.compile(r"(?<![0-9A-Za-z])([1-9]\d{11,18})[=Dd]" + _AFTER)
_TAG_57 = re.compile(r"57(?:0[A-Fa-f]|1[0-3])([1-9]\d{11,18})[Dd]" + _AFTER)
_TAG_57_BINARY = re.compile(r"\x57([\x0a-\x13])")
_TRACK_2_BINARY = re.compile(r"([1-9]\d{11,18})d" + _AFTER + r"\d*f?")

_FIELD = re.compile(
    r"(?<![\w.-])([A-Za-z][\w.-]{1,40})\\{0,8}[\"']?\s{0,8}[:=]\s{0,8}\\{0,8}"
    r"(?:\"([^\"\\\n]{0,256})|'([^'\\\n]{0,256})|([^\s\"',;&}\]\\]{1,256}))",
    re.ASCII,
)
_MASKED = re.compile(r"[xX*#.\-_ 0]*")
_SOMETHING = re.compile(r"(?!(?:true|false|null|none|nil|absent|present|unknown)\Z)(?s:.{3,})", re.IGNORECASE)
_DIGITS = re.compile(r"\d{3,4}")
_PIN_DIGITS = re.compile(r"\d{4,12}")
_LONG = re.compile(r"(?s:.{8,})")
_HEX = re.compile(r"[0-9A-Fa-f]{16,}")
_NAMES: dict[str, tuple[str, re.Pattern[str]]] = {
    **dict.fromkeys(
        "cvv cvv2 cvc cvc2 cav2 cvvcode cardverificationvalue cardverificationcode".split(), (_CVV, _SOMETHING)
    ),
    **dict.fromkeys("cvn cardsecuritycode securitycode".split(), (_CVV, _DIGITS)),
    **dict.fromkeys("pin cardpin clearpin cardholderpin pincode".split(), (_PIN, _PIN_DIGITS)),
    **dict.fromkeys("pinblock encryptedpinblock encpinblock isopinblock pinblockdata".split(), (_BLOCK, _LONG)),
    **dict.fromkeys(
        "track1 track2 track3 trackdata track1data track2data track2equivalent track2equivalentdata magstripe".split(),
        (_TRACK, _LONG),
    ),
    **dict.fromkeys("privatekey tmk tpk zmk zpk bdk ipek masterkey pinkey mackey".split(), (_KEY, _HEX)),
}
"""By the name without what is no letter or digit: what it is, and what a value of it looks like."""
_NEEDLES = (
    "cvv",
    "cvc",
    "cav2",
    "cvn",
    "card",
    "security",
    "pin",
    "track",
    "mags",
    "key",
    "tmk",
    "tpk",
    "zmk",
    "zpk",
    "bdk",
    "ipek",
)
"""No name without one of these in it: most blocks are not looked at for fields at all."""


class Scanner:
    """Looks at everything that goes into one backup. Raises PosagentError `data_secret_found`."""

    def __init__(self) -> None:
        self.cards = 0

    def text(self, path: str, before: bytes, block: bytes, at: int, line: int) -> None:
        """A block of a file that begins at byte `at`, in that line. `before` are the last bytes before it."""
        text = (before + block).decode("latin-1")
        for what, place in _found(text):
            number = line + block.count(b"\n", 0, max(0, place - len(before)))
            raise _trouble(path, f"line {number}, byte {at - len(before) + place}", what)
        self.cards += redact.count(text) - (redact.count(text[: len(before)]) if before else 0)

    def row(self, path: str, table: str, number: int, columns: Sequence[str], row: Sequence[Any]) -> None:
        for column, cell in zip(columns, row, strict=True):
            if cell is None:
                continue
            text = _text_of(cell)
            what = _named(column, text)
            if what is None and isinstance(cell, str | bytes):
                what = next((one for one, _ in _found(text)), None)
            elif isinstance(cell, int):  # in a file's bytes nobody sees that it is one
                self.cards += redact.count(text)
            if what is not None:
                raise _trouble(path, f"table {table}, column {column}, row {number}", what)


def _trouble(path: str, place: str, what: str) -> PosagentError:
    return PosagentError("data_secret_found", f"{path}, {place}: {what}", file=path, place=place, what=what)


def _text_of(cell: Any) -> str:
    """Bytes one to one, so that what is looked for in files is found in cells."""
    if isinstance(cell, bytes):
        return cell.decode("latin-1")
    return cell if isinstance(cell, str) else str(cell)


def _found(text: str) -> Iterator[tuple[str, int]]:
    """What it is, and where."""
    for pattern in (_PEM, _DER):
        for one in pattern.finditer(text):
            yield _KEY, one.start()
    for pattern in (_TRACK_1, _TRACK_2, _TAG_57):
        for one in pattern.finditer(text):
            if redact.luhn(one[1]):
                yield _TRACK, one.start()
    for one in _TAG_57_BINARY.finditer(text):
        packed = text[one.end() : one.end() + ord(one[1])].encode("latin-1", "replace").hex()
        track = _TRACK_2_BINARY.fullmatch(packed)
        if track is not None and redact.luhn(track[1]):
            yield _TRACK, one.start()
    small = text.lower()
    if any(needle in small for needle in _NEEDLES):
        for one in _FIELD.finditer(text):
            what = _named(one[1], next(value for value in one.groups()[1:] if value is not None))
            if what is not None:
                yield what, one.start()


def _named(name: str, value: str) -> str | None:
    """What a field is by its name, if it can have such a value."""
    found = _NAMES.get("".join(filter(str.isalnum, name)).lower())
    if found is None or _MASKED.fullmatch(value):
        return None
    what, shape = found
    if shape is _HEX and not value.isprintable() and len(value) >= 8:
        return what  # as bytes
    return what if shape.fullmatch(value) else None
