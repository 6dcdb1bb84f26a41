"""Room that is kept for what must be written on a full medium: the record, and counters that go on from a trial.

A version on trial may fill the medium with its copy, which cannot be removed before its counters are read and raised.
The reserve is a file of root's: given up for such a write, made anew when there is room.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable

from posagent.core.ports import Trees

NAME = "room.reserve"
BYTES = 64 << 10
FULL = (errno.ENOSPC, errno.EDQUOT)


def keep(trees: Trees, root: str) -> None:
    """The reserve, where there is none; on a full medium there will be one another time."""
    path = f"{root}/{NAME}"
    if trees.size(path) == BYTES:
        return
    try:
        trees.make_dir(root)
        trees.unlink(path)
        trees.write(path, 0, hashlib.shake_256(NAME.encode()).digest(BYTES))  # what no file system makes smaller
        trees.sync(path)
        trees.sync_dir(root)
    except OSError as error:
        trees.unlink(path)
        if error.errno not in FULL:
            raise


def spending(trees: Trees, root: str, write: Callable[[], None]) -> None:
    """Do `write`, which may be repeated; where there is no room, once more without the reserve. Raises OSError."""
    try:
        write()
    except OSError as error:
        if error.errno not in FULL or trees.size(f"{root}/{NAME}") is None:
            raise
        trees.unlink(f"{root}/{NAME}")
        trees.sync_dir(root)
        write()
