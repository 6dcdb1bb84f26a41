"""What is mounted where, from the kernel's table.

Source: proc(5), /proc/PID/mountinfo.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from posagent.doctor.findings import CannotTell
from posagent.doctor.site import Site

TABLE_BYTES_MAX = 1 << 20
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """`device` is MAJOR:MINOR; `options` has those of the mount and of the file system."""

    device: str
    point: str
    kind: str
    options: frozenset[str]


def parse(text: str) -> list[Mount]:
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        about, system = left.split(), right.split()
        if len(about) < 6 or len(system) < 2:
            continue
        options = frozenset([*about[5].split(","), *(system[2].split(",") if len(system) > 2 else [])])
        found.append(Mount(device=about[2], point=_plain(about[4]), kind=system[0], options=options))
    return found


def table(site: Site) -> list[Mount]:
    text = site.board.text(site.board.system("/proc/self/mountinfo"), TABLE_BYTES_MAX)
    if text is None:
        raise CannotTell("/proc/self/mountinfo is missing")
    return parse(text)


def covering(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that holds a path without links; the last one where several lie on top of each other."""
    inside = [one for one in mounts if one.point == "/" or path == one.point or path.startswith(one.point + "/")]
    return max(reversed(inside), key=lambda one: len(one.point), default=None)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
