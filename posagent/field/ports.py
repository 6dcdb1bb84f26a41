"""The laptop's serial ports, through pyserial: which there are, and one of them as a Line."""

from __future__ import annotations

from dataclasses import dataclass

import serial
from serial.tools import list_ports

try:
    from termios import error as _termios_error  # pyserial lets it through when a port is pulled out meanwhile
except ImportError:  # not on Windows
    _termios_error = OSError  # type: ignore[misc,assignment]

READ_BYTES = 4096
WRITE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """`device` is what `open_port` takes; `description` is for people; `serial_number` is the adapter's, if any;
    `usb` whether it is an adapter or a terminal's own USB port."""

    device: str
    description: str
    serial_number: str
    usb: bool = False


def ports() -> list[Port]:
    """The serial ports that the system knows, in order."""
    found = [
        Port(
            device=one.device,
            description=one.description or "",
            serial_number=one.serial_number or "",
            usb=one.vid is not None,
        )
        for one in list_ports.comports()
    ]
    return sorted(found, key=lambda port: port.device)


class SerialLine:
    """field.link.Line over one port."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port

    def read(self, timeout_s: float) -> bytes:
        try:
            waiting = self._port.in_waiting
            if not waiting:
                self._port.timeout = timeout_s
                first = self._port.read(1)
                return first + self._port.read(min(self._port.in_waiting, READ_BYTES)) if first else b""
            return self._port.read(min(waiting, READ_BYTES))
        except (_termios_error, TypeError) as error:  # TypeError: pyserial's own, when it is closed meanwhile
            raise OSError(5, f"the port is gone: {error}") from error

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (_termios_error, TypeError) as error:
            raise OSError(5, f"the port is gone: {error}") from error

    def close(self) -> None:
        try:
            self._port.close()
        except _termios_error as error:
            raise OSError(5, f"the port is gone: {error}") from error


def open_port(device: str, baud: int) -> SerialLine:
    """Raises OSError where there is no such port, or somebody else uses it."""
    try:
        # exclusive: two programs on one line would make noise of each other
        return SerialLine(serial.Serial(device, baud, timeout=0.1, write_timeout=WRITE_S, exclusive=True))
    except (_termios_error, ValueError) as error:
        raise OSError(5, f"{device}: {error}") from error
