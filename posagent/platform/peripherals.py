"""Serial lines to the terminal's own peripherals, through pyserial: bytes out, bytes back, within a time.

Rules: the line is opened alone and given back; nothing is kept of what it said.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import serial

from posagent.core.ports import Clock

READ_BYTES = 256
RECEIVED_BYTES_MAX = 4096
LOOK_S = 0.05


def handshake(
    clock: Clock, device: str, baud: int, send: bytes, enough: Callable[[bytes], bool], timeout_s: float
) -> bytes:
    """What comes back, until it is enough, too much, or the time is over. Raises OSError."""
    until, got = clock.monotonic() + timeout_s, b""
    try:
        with serial.Serial(device, baud, timeout=LOOK_S, write_timeout=timeout_s, exclusive=True) as line:
            line.reset_input_buffer()
            line.write(send)
            while not enough(got) and len(got) < RECEIVED_BYTES_MAX and clock.monotonic() < until:
                got += line.read(min(max(line.in_waiting, 1), READ_BYTES))
    except serial.SerialTimeoutException:
        raise OSError(errno.ETIMEDOUT, f"takes no bytes within {timeout_s:.0f} s", device) from None
    except serial.SerialException as error:
        raise OSError(error.errno or errno.EIO, _said(error), device) from None
    return got


def _said(error: serial.SerialException) -> str:
    """pyserial repeats the operating system's words, or has its own."""
    if error.errno == errno.EAGAIN:
        return "another program has this line"
    return str(error.strerror or error)
