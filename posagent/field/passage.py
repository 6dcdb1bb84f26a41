"""Keys to the terminal, its bytes to the screen: the laptop as a plain terminal program, until Ctrl-].

Never: termios or Windows' console by itself. pyserial's miniterm knows the keyboards of all three systems.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from serial.tools.miniterm import Console

from posagent.field.places import Port

LEAVE = "\x1d"
READ_S = 0.1


class Keyboard(Protocol):
    """A screen with a keyboard. `getkey` waits; an empty key is the end of the input."""

    def setup(self) -> None: ...

    def cleanup(self) -> None: ...

    def getkey(self) -> str | None: ...

    def write_bytes(self, byte_string: bytes) -> None: ...


def keyboard() -> Keyboard:
    """This laptop's; its standard input has to be a terminal."""
    made: Keyboard = Console()
    return made


def pass_through(port: Port, here: Keyboard, on_lost: Callable[[], None]) -> bool:
    """Until Ctrl-] or the end of the input; False when the line was gone before, which `on_lost` hears at once."""
    over = threading.Event()
    lost = threading.Event()

    def to_screen() -> None:
        try:
            while not over.is_set():
                if data := port.read(READ_S):
                    here.write_bytes(data)
        except OSError:
            lost.set()
            on_lost()

    here.setup()
    reader = threading.Thread(target=to_screen, name="to screen", daemon=True)
    reader.start()
    try:
        while not lost.is_set():
            key = here.getkey()
            if not key or key == LEAVE:
                break
            port.write(b"\r" if key == "\n" else key.encode("utf-8", "replace"))
    except OSError:
        lost.set()
    finally:
        over.set()
        here.cleanup()
    reader.join()
    return not lost.is_set()
