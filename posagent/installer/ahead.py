"""Has a helper thread make things ahead of the one that uses them: unpacking, digesting and reading release the
interpreter's lock. Where there are to be no threads (`in_line`) they are made when they are asked for. What
threads share is made by the first that asks (`once`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

AHEAD_BYTES = 1 << 20
T = TypeVar("T")
Items = Generator[T, None, None]
Ahead = Callable[[Items[Any], Callable[[Any], int]], Items[Any]]


def once(make: Callable[[], T]) -> Callable[[], T]:
    """What is made when it is first asked for, whichever thread asks; the others wait for it."""
    lock, made = threading.Lock(), list[T]()

    def get() -> T:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


def in_line(items: Items[T], weigh: Callable[[T], int] = lambda _: 0) -> Items[T]:
    """The items, made when they are asked for."""
    return items


def by_turns(parts: Sequence[Items[T]]) -> Items[T]:
    """Of each part one item, as long as it has any: the order depends on no thread. Who made the parts closes them."""
    left = list(parts)
    while left:
        for part in tuple(left):
            try:
                item = next(part)
            except StopIteration:
                left.remove(part)
                continue
            yield item
            del item  # or it would live on while the next is awaited


def ahead(items: Items[T], weigh: Callable[[T], int] = lambda _: AHEAD_BYTES) -> Items[T]:
    """The items, made by a helper thread while the last ones are in use; closing it ends the thread.

    What `items` raises is raised here, in its turn. The thread stops before more is waiting than AHEAD_BYTES; one item
    may be larger.
    """
    made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    room = threading.Condition()
    waiting = 0
    stopped = False

    def may_go_on() -> bool:
        return stopped or waiting < AHEAD_BYTES

    def work() -> None:
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

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            with room:
                waiting -= weigh(item)
                room.notify()
            yield item
    finally:
        with room:
            stopped = True
            room.notify()
        thread.join()
