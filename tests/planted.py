"""Card numbers to plant, and a scanner of its own that must find none of them: it shares nothing with core.redact."""

from __future__ import annotations

import re

CARDS = (
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "378282246310005",
    "3782 822463 10005",
    "6011000990139424",
    "30569309025904",
    "4222222222222",
    "6304000000000000000",
    "5105.1051.0510.5100",
)
"""Numbers that card schemes publish for tests, as people and programs write them."""
PLAIN = tuple(re.sub(r"\D", "", number) for number in CARDS)


def card_numbers(text: str) -> list[str]:
    """Those of the planted numbers that stand in the text, whatever separates their digits; tracks as well."""
    runs = re.findall(r"\d(?:[\s./_\u00a0-]{0,3}\d)*", text)
    joined = [re.sub(r"\D", "", run) for run in runs]
    return [number for number in PLAIN if any(number in digits for digits in joined)]
