"""Bundles on sticks that are plugged in: found in the directory in which systemd mounts them (posagent-media@.service).

Rules: a stick is anybody's. Only regular files in its top directory count, no link is followed, and a bounded number of
names is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

SUFFIX = ".bundle"
STICKS_MAX, NAMES_MAX, BUNDLES_MAX = 8, 2048, 32


def bundles(directory: str) -> list[str]:
    """Paths of the bundles on all sticks, sorted; an empty list where there is none."""
    sticks = [entry.path for entry in _entries(directory, STICKS_MAX) if entry.is_dir(follow_symlinks=False)]
    found = [
        entry.path
        for place in (directory, *sorted(sticks))
        for entry in _entries(place, NAMES_MAX)
        if entry.name.lower().endswith(SUFFIX) and entry.name.isprintable() and entry.is_file(follow_symlinks=False)
    ]
    return sorted(found)[:BUNDLES_MAX]


def _entries(directory: str, most: int) -> Iterator[os.DirEntry[str]]:
    """Nothing of what cannot be read: a stick may be pulled out at any moment."""
    try:
        with os.scandir(directory) as entries:
            yield from islice(entries, most)
    except OSError:
        return
