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

_LEAST = len("pin=1234")
"""What is shorter has nothing in it."""
_CARD_DIGITS = range(13, 20)
_CARD_MIN = 10 ** (_CARD_DIGITS.start - 1)
_RUN = b"0" * 12
"""What no card number and no track is without, when every digit is made a 0: found far faster than digits are."""
_ZEROS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))

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
_TRACKS = {
    "^": (re.compile(r"B(\d{12,19})\^[^\^\n]{2,26}\^" + _AFTER, re.ASCII),),
    "=": (_TRACK_2 := re.compile(r"(?<![0-9A-Za-z])([1-9]\d{11,18})[=Dd]" + _AFTER, re.ASCII),),
    "D": (_TRACK_2, _TAG_57 := re.compile(r"57(?:0[A-Fa-f]|1[0-3])([1-9]\d{11,18})[Dd]" + _AFTER, re.ASCII)),
    "d": (_TRACK_2, _TAG_57),
}
"""By what follows the number."""
_TAG_57_BINARY = re.compile(r"\x57([\x0a-\x13])")
_TRACK_2_BINARY = re.compile(r"([1-9]\d{11,18})d" + _AFTER + r"\d*f?")

_FIELD = re.compile(
    r"(?<![\w.-])([A-Za-z][\w.-]{1,40})\\{0,8}[\"']?\s{0,8}[:=]\s{0,8}\\{0,8}"
    r"(?:\"([^\"\\\n]{0,256})|'([^'\\\n]{0,256})|([^\s\"',;&}\]\\]{1,256}))",
    re.ASCII,
)
_NAME_CHARACTERS = 41
_WORD = re.compile(r"[\w.-]+\Z", re.ASCII)
_TRACK_CHARACTERS = 40
"""Behind the number, as many as are needed to know a track."""
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

    def text(self, path: str, before: bytes, block: bytes, at: int, line: int, pages: bool = False) -> None:
        """A block of a file that begins at byte `at`, in that line; `before` are the last bytes before it. In `pages`
        of a database nobody knows where a number ends, because cells touch: its rows are counted."""
        text = (before + block).decode("latin-1")
        for what, place in _found(text):
            number = line - before.count(b"\n", place) + block.count(b"\n", 0, max(0, place - len(before)))
            raise _trouble(path, f"line {number}, byte {at - len(before) + place}", what)
        if not pages:
            self.cards += _cards(text) - _cards(text[: len(before)])

    def rows(self, path: str, table: str, first: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Some rows of a table, from that number on. They are looked at together: what is found is looked for again."""
        named = any(_known(column) for column in columns)
        cells = (cell for row in rows for cell in row if isinstance(cell, str | bytes) and len(cell) >= _LEAST)
        text = "\n".join(map(_text_of, cells))
        if named or any(_found(text)):
            for number, row in enumerate(rows, start=first):
                self._row(path, table, number, columns, row)
        numbers = (str(cell) for row in rows for cell in row if isinstance(cell, int) and cell >= _CARD_MIN)
        self.cards += _cards("\n".join((text, *numbers)))

    def _row(self, path: str, table: str, number: int, columns: Sequence[str], row: Sequence[Any]) -> None:
        for column, cell in zip(columns, row, strict=True):
            text = "" if cell is None else _text_of(cell)
            what = _named(column, text, is_bytes=isinstance(cell, bytes))
            if what is None and isinstance(cell, str | bytes):
                what = next((one for one, _ in _found(text)), None)
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
    for begin, end in _runs(text):
        for pattern in _TRACKS.get(text[end : end + 1], ()):
            track = pattern.search(text, max(0, begin - 4), end + _TRACK_CHARACTERS)
            if track is not None and redact.luhn(track[1]):
                yield _TRACK, track.start()
    for one in _TAG_57_BINARY.finditer(text):
        packed = text[one.end() : one.end() + ord(one[1])].encode("latin-1", "replace").hex()
        track = _TRACK_2_BINARY.fullmatch(packed)
        if track is not None and redact.luhn(track[1]):
            yield _TRACK, one.start()
    for field in _fields(text):
        what = _named(field[1], next(value for value in field.groups()[1:] if value is not None))
        if what is not None:
            yield what, field.start()


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Where there are 12 digits or more."""
    zeros = text.encode("latin-1", "replace").translate(_ZEROS) + b" "
    begin = zeros.find(_RUN)
    while begin >= 0:
        end = zeros.index(b" ", begin)
        yield begin, end
        begin = zeros.find(_RUN, end)


def _fields(text: str) -> Iterator[re.Match[str]]:
    """Fields that may have one of the names."""
    small = text.lower() if text.isascii() else text.encode("latin-1", "replace").lower().decode("latin-1")
    seen = set[int]()
    for needle in _NEEDLES:
        at = small.find(needle)
        while at >= 0:
            before = _WORD.search(text, max(0, at - _NAME_CHARACTERS), at)
            begin = at if before is None else before.start()
            field = None if begin in seen else _FIELD.match(text, begin)
            if field is not None:
                yield field
            seen.add(begin)
            at = small.find(needle, at + 1)


def _cards(text: str) -> int:
    runs = (text[begin:end] for begin, end in _runs(text) if end - begin in _CARD_DIGITS)
    return sum(number[0] != "0" and redact.luhn(number) for number in runs)


def _known(name: str) -> tuple[str, re.Pattern[str]] | None:
    return _NAMES.get("".join(filter(str.isalnum, name)).lower())


def _named(name: str, value: str, is_bytes: bool = False) -> str | None:
    """What a field is by its name, if it can have such a value. Noise has everything in it that has no shape: only a
    cell of a table that is bytes may be a block as it is."""
    found = _known(name)
    if found is None or _MASKED.fullmatch(value):
        return None
    what, shape = found
    if is_bytes and shape is _HEX and not value.isprintable() and len(value) >= 8:
        return what  # as bytes
    return what if shape.fullmatch(value) else None
