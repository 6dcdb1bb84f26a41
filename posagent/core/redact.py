"""Nothing that pays or opens: card numbers, track data, keys, tokens are found in texts and replaced.

Owns: what counts as such. `cards` is for everything that leaves the agent (answers, logs, what it keeps of others'
words); `Redactor` is for what leaves the terminal (a support bundle) and removes secrets as well, and counts.
Rules: in doubt it goes: a number that only looks like a card's is no loss. A card number is 13 to 19 digits (ISO/IEC
7812-1) that pass the Luhn check and do not begin with 0, in one run of digits or split by spaces and dashes (then it
begins or ends where a group does). Digests are spared: hexadecimal words of a digest's length that have a letter; and
so is a moment of 14 digits, YYYYMMDDhhmmss, as which versions are often named: no card's number begins like it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

CARD, TRACK, KEY, SECRET = "[card]", "[track]", "[key]", "[secret]"
"""What stands in its place."""

_DIGITS_MIN, _DIGITS_MAX = 13, 19
_DIGITS_JUDGED_MAX = 256
"""What has more digits in one run, gaps between them or not, is not looked into, but goes as a whole."""
_GAP = r"[ \u00a0_\-]{0,2}"
_LOOKS_LIKE_A_CARD = re.compile(rf"\d(?:{_GAP}\d){{{_DIGITS_MIN - 1},}}")
_MAY_HAVE_ONE = re.compile(rf"\d(?:[ \u00a0_./\-]{{0,2}}\d){{{_DIGITS_MIN - 1}}}")
"""What none of the others finds anything without: most texts are looked at only once."""
_LOOKS_DOTTED = re.compile(r"\d{4,8}[./]\d{4}[./]\d{4}[./]\d{1,8}")
_LOOKS_LIKE_A_TRACK = re.compile(
    r"%?B\d[\d ]{11,20}\^[^\^\n]{2,26}\^\d{4}[\d ]*\??"  # ISO/IEC 7813, track 1
    r"|;?\d{13,19}[=dD]\d{4,}\??"  # track 2, also as terminals print it (EMV tag 57: D for =)
)
_GROUP = re.compile(r"\d+")
_DIGEST = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]+(?![0-9a-zA-Z])")
_DIGEST_LENGTHS = frozenset({32, 40, 64, 96, 128})
_MOMENT = re.compile(r"20\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d")

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{1,60}-----.*?(?:-----END [A-Z0-9 ]{1,60}-----|\Z)", re.DOTALL)
_URL = re.compile(r"://([^\s\"'<>/?#]{0,512}@)?([^\s\"'<>?#]{0,2048})([?#][^\s\"'<>]*)?")
_NAMED = re.compile(
    r"(?i)\b((?:[a-z0-9]{1,20}[_-]){0,4}(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|private[_-]?key|authorization|cookie"
    r"|cvv2?|cvc2?|pin|pin[_-]?block|pan))(\"?'?\s*[:=]\s*\"?'?(?:(?:basic|bearer|digest)\s+)?)[^\s\"',;&}]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}")
_TOKEN = re.compile(r"(?<![A-Za-z0-9+=_-])[A-Za-z0-9+=_-]{32,}(?:\.[A-Za-z0-9+=_-]+)*(?![A-Za-z0-9+=_-])")


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit)
        total += value if at % 2 == 0 else value * 2 - 9 * (value > 4)
    return total % 10 == 0


def cards(text: str) -> str:
    """The text without card numbers and track data."""
    return _without_cards(text, Counter())


def count(text: str) -> int:
    """How many card numbers and tracks `cards` would take out."""
    counts = Counter[str]()
    _without_cards(text, counts)
    return counts.total()


def clean(value: Any) -> Any:
    """A JSON value whose texts, and names in objects, have no card number or track data; numbers stay."""
    if isinstance(value, str):
        return cards(value)
    if isinstance(value, Mapping):
        return {cards(str(name)): clean(part) for name, part in value.items()}
    return [clean(part) for part in value] if isinstance(value, list | tuple) else value


class Redactor:
    """Removes secrets and counts what it removed, by what stands in its place."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        text = _URL.sub(self._url, _without_cards(text, self.counts))
        for pattern, put in _SECRETS:
            text, found = pattern.subn(put, text)
            if found:
                self.counts[KEY if put == KEY else SECRET] += found
        return _TOKEN.sub(self._token, text)

    def number(self, value: float) -> Any:
        """A number of as many digits as a card's may be one."""
        return value if abs(value) < 10 ** (_DIGITS_MIN - 1) else self._whole(value)

    def _whole(self, value: float) -> Any:
        text = self.text(repr(value))
        return value if text == repr(value) else text

    def _url(self, found: re.Match[str]) -> str:
        """Neither who logs in there nor what is asked of it."""
        user, place, asked = found.groups()
        self.counts[SECRET] += (user is not None) + (asked is not None)
        return f"://{SECRET + '@' if user else ''}{place}{asked[0] + SECRET if asked else ''}"

    def _token(self, found: re.Match[str]) -> str:
        """A long word of small and large letters and digits is nothing that people wrote."""
        word = found[0]
        kinds = (any(map(test, word)) for test in (str.islower, str.isupper, str.isdigit))
        if not all(kinds):
            return word
        self.counts[SECRET] += 1
        return SECRET


_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (_PEM, KEY),
    (_NAMED, r"\1\2" + SECRET),
    (_BEARER, r"\1 " + SECRET),
)


def _without_cards(text: str, counts: Counter[str]) -> str:
    if len(text) < _DIGITS_MIN or not _MAY_HAVE_ONE.search(text):
        return text
    text = _replaced(_LOOKS_LIKE_A_TRACK, text, TRACK, counts, lambda found: _is_track(found[0]))
    spared = [found.span() for found in _DIGEST.finditer(text) if _is_digest(found[0])]

    def is_card(found: re.Match[str]) -> bool:
        inside = any(begin <= found.start() and found.end() <= end for begin, end in spared)
        return not inside and _has_card(found[0])

    text = _replaced(_LOOKS_LIKE_A_CARD, text, CARD, counts, is_card)
    return _replaced(_LOOKS_DOTTED, text, CARD, counts, lambda found: _has_card(re.sub(r"[./]", "-", found[0])))


def _replaced(
    pattern: re.Pattern[str], text: str, put: str, counts: Counter[str], is_one: Callable[[re.Match[str]], bool]
) -> str:
    def judged(found: re.Match[str]) -> str:
        if not is_one(found):
            return found[0]
        counts[put] += 1
        return put

    return pattern.sub(judged, text)


def _is_digest(word: str) -> bool:
    return len(word) in _DIGEST_LENGTHS and not word.isdigit()


def _is_track(text: str) -> bool:
    number = re.split(r"[\^=dD]", text.lstrip("%B;"), maxsplit=1)[0]
    return _has_card(number)


def _has_card(text: str) -> bool:
    """Whether digits with gaps between them have a card number in them."""
    groups = _GROUP.findall(text)
    whole = "".join(groups)
    if len(whole) > _DIGITS_JUDGED_MAX:
        return True
    if len(whole) == len("YYYYMMDDhhmmss") and _MOMENT.fullmatch(whole):
        return False
    return any(digits[0] != "0" and luhn(digits) for digits in _candidates(groups, whole))


def _candidates(groups: list[str], whole: str) -> Iterator[str]:
    begins, ends, at = set[int](), set[int](), 0
    for group in groups:
        if len(group) >= _DIGITS_MIN:  # what is in one run may begin and end anywhere in it
            begins.update(range(at, at + len(group)))
        begins.add(at)
        at += len(group)
        ends.add(at)
    for begin in range(len(whole) - _DIGITS_MIN + 1):
        for end in range(begin + _DIGITS_MIN, min(begin + _DIGITS_MAX, len(whole)) + 1):
            if begin in begins or end in ends:
                yield whole[begin:end]
