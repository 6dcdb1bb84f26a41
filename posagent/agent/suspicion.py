"""Single values of what others say in JSON, taken with suspicion: each raises KeyError, TypeError or ValueError where
it is not what it should be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NUMBER_END = 1 << 63


def text(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data[key], str):
        raise TypeError(key)
    return str(data[key])


def number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_END:
        raise ValueError(value)
    return value


def flag(data: Mapping[str, Any], key: str) -> bool:
    if type(data[key]) is not bool:
        raise TypeError(key)
    return bool(data[key])


def seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= float(value) < NUMBER_END:  # type: ignore[arg-type]
        raise ValueError(value)
    return float(value)  # type: ignore[arg-type]


def value(value: object) -> float | str:
    """Of a measure: a figure, or words."""
    if type(value) in (int, float) and math.isfinite(value):  # type: ignore[arg-type]
        return value  # type: ignore[return-value]
    if isinstance(value, str):
        return value
    raise TypeError("value")
