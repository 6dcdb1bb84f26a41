"""Has helper threads make things ahead of the one that uses them: unpacking, digesting and reading release the
interpreter's lock. Where there are to be no threads (`in_line`) they are made when they are asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

AHEAD_BYTES = 1 << 20
T = TypeVar("T")
Items = Generator[T, None, None]
Ahead = Callable[[Sequence[Items[Any]], Callable[[Any], int]], Items[Any]]


def in_line(parts: Sequence[Items[T]], weigh: Callable[[T], int] = lambda _: 0) -> Items[T]:
    """The items of one part after the other, made when they are asked for."""
    for items in parts:
        yield from items


def ahead(parts: Sequence[Items[T]], weigh: Callable[[T], int] = lambda _: AHEAD_BYTES) -> Items[T]:
    """The items, made while the last ones are in use by a helper thread for each part, and as they come; closing it
    ends the threads.

    What a part raises is raised here, in its turn. The threads stop before more is waiting than AHEAD_BYTES; one item
    may be larger.
    """
    made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    room = threading.Condition()
    waiting = 0
    stopped = False

    def may_go_on() -> bool:
        return stopped or waiting < AHEAD_BYTES

    def work(items: Items[T]) -> None:
        nonlocal waiting
        try:
            for item in items:
                with room:
                    waiting += weigh(item)
                    made.put((item, None))
                    del item  # or it would live on while the next is made
                    room.wait_for(may_go_on)
                if stopped:
                    return
            made.put((None, StopIteration()))
        except BaseException as error:  # it belongs to the thread that asked
            made.put((None, error))

    threads = [threading.Thread(target=work, args=(items,), name="ahead", daemon=True) for items in parts]
    for thread in threads:
        thread.start()
    working = len(threads)
    try:
        while working:
            item, error = made.get()
            if isinstance(error, StopIteration):
                working -= 1
                continue
            if error is not None:
                raise error
            with room:
                waiting -= weigh(item)
                room.notify_all()
            yield item
    finally:
        with room:
            stopped = True
            room.notify_all()
        for thread in threads:
            thread.join()
