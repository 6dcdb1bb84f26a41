"""Small operations or large ones of an image: what takes the fewest seconds in all (docs/adr/0017). Pure.

A bundle may hold an image twice. Its large operations are fewer bytes and take several times longer to unpack, which is
done twice: when the bundle is checked, and when it is written. So a large one pays where the bytes that it saves would
take longer to come.
Rules: how long unpacking takes is what was measured on this terminal, where nearly all of an image was made in one way;
before that, what a slow processor takes. Where bytes cost money the fewest count, however long they take to unpack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from posagent.core.measured import Measurements
from posagent.core.spread import Prior, learned

if TYPE_CHECKING:
    from posagent.core.model import Occurrence, Update

LARGE, SMALL = "unpack_large", "unpack_small"
"""Names of measurements."""
METERED = "metered"

LARGE_BYTES_PER_S = 5e6
RATIO = 5.0
"""How much faster small ones are unpacked, where only one of the two was measured, or none."""
PASSES = 2
FEWEST = 0.0
"""The price where nothing counts but bytes."""

MEASURED_BYTES_MIN = 8 << 20
"""Of less, what does not depend on bytes would be measured."""
NEARLY_ALL = 0.9
HALF = 0.5
"""Of an image: where less of it is made, it is looked for in the slots most of the time."""


def price(measurements: Measurements, link_bytes_per_s: float) -> float:
    """How many bytes a large operation has to save at least, for each byte of the image that it makes."""
    large, small = _per_byte(measurements, LARGE, SMALL, RATIO), _per_byte(measurements, SMALL, LARGE, 1 / RATIO)
    return PASSES * max(large - small, 0.0) * link_bytes_per_s


def pays(bytes_saved: float, image_bytes: float, price: float) -> bool:
    return bytes_saved > image_bytes * price


def _per_byte(measurements: Measurements, name: str, other: str, slower: float) -> float:
    """Seconds: measured, else by the other way's, else as on a slow processor."""
    usual = 1 / LARGE_BYTES_PER_S if name == LARGE else 1 / (LARGE_BYTES_PER_S * RATIO)
    own = [seconds / size for seconds, size in measurements.get(name, ()) if size > 0]
    others = [slower * seconds / size for seconds, size in measurements.get(other, ()) if size > 0]
    return learned(Prior(median=usual, sd=0.25, weight=0.1), own or others).median


def measured(update: Update | None, happened: Occurrence, seconds: float) -> Mapping[str, Mapping[str, float]]:
    """What a bundle that was accepted after so long says of unpacking, as a journal record's `measured`."""
    from posagent.core.model import Event  # which the installer does not need

    if update is None or happened.event is not Event.ACCEPTED:
        return {}
    image_size = happened.data.get("update", {}).get("image_size", 0)
    large, small = float(update.bytes_large), float(update.bytes_small)
    both = large + small
    if both < max(MEASURED_BYTES_MIN, HALF * image_size):
        return {}
    for name, size in ((LARGE, large), (SMALL, small)):
        if size >= NEARLY_ALL * both:
            return {name: {"seconds": seconds, "bytes": both}}
    return {}


def choice(payloads: Sequence[Mapping[str, Any]], price: float) -> tuple[Mapping[str, Any] | None, str]:
    """Of the announced payloads that need no source, the one whose operations will mostly be fetched; and `large`,
    `small`, or nothing where there is no choice."""
    alone = sorted((one for one in payloads if not one["from"]), key=lambda one: int(one["bytes"]))
    if len(alone) < 2:
        return (alone[0] if alone else None), ""
    large, small = alone[0], alone[-1]
    if pays(int(small["bytes"]) - int(large["bytes"]), int(small["image_bytes"]), price):
        return large, "large"
    return small, "small"
