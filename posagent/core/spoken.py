"""A code that people read out over the phone: `7K3M-Q2XA` stands for a file's digest.

Seven characters of Crockford's base32 (35 bits of the SHA-256) and an eighth that checks them: as a polynomial over
GF(32) the eight have the root 2, so that any one wrong character and any two that changed places are noticed. What is
read is forgiving: small letters, O for 0, I and L for 1, gaps anywhere.
"""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHARACTERS, GROUP = 8, 4
_MODULUS = 0b100101
"""x^5 + x^2 + 1: 2 generates all of GF(32) but zero."""
_HEARD = str.maketrans("OIL", "011", "- .\t")


def code_of(digest: bytes) -> str:
    """The code for a digest of at least five bytes."""
    number = int.from_bytes(digest[:5], "big") >> 5
    values = [number >> 5 * at & 31 for at in reversed(range(CHARACTERS - 1))]
    values.append(_times_two(_sum(values)))
    text = "".join(ALPHABET[value] for value in values)
    return f"{text[:GROUP]}-{text[GROUP:]}"


def heard(text: str) -> str:
    """The code that somebody wrote down. Raises ValueError where it cannot be one."""
    plain = text.upper().translate(_HEARD)
    if len(plain) != CHARACTERS or not set(plain) <= set(ALPHABET):
        raise ValueError("a code has eight letters and digits, in two groups of four, and no U")
    values = [ALPHABET.index(character) for character in plain]
    if _sum(values):
        raise ValueError("a character of the code is wrong, or two have changed places")
    return f"{plain[:GROUP]}-{plain[GROUP:]}"


def _sum(values: list[int]) -> int:
    """The polynomial with these coefficients, the highest first, at 2."""
    total = 0
    for value in values:
        total = _times_two(total) ^ value
    return total


def _times_two(value: int) -> int:
    doubled = value << 1
    return doubled ^ _MODULUS if doubled > 31 else doubled
