"""A client of the serial line's machine mode, from its description in console.md alone: no part of posagent is needed.

    python3 console_client.py /dev/ttyUSB0 status

It sends one frame at a time and waits until it has arrived: enough for questions, slow for files. pyserial opens the
port.
"""

import json
import os
import struct
import sys
import time
import zlib

HELLO, WELCOME, REFUSED, ACK, PING, BYE, PART, LAST = range(1, 9)
HEAD = struct.Struct("<BHHI")


def stuffed(body):
    """COBS: runs without a zero, each with its length before it."""
    made = b""
    for run in body.split(b"\0"):
        while len(run) >= 254:
            made, run = made + b"\xff" + run[:254], run[254:]
        made += bytes([len(run) + 1]) + run
    return made


def unstuffed(data):
    made, at = b"", 0
    while at < len(data):
        end = at + data[at]
        if end == at or end > len(data):
            return b""
        made += data[at + 1 : end] + (b"\0" if data[at] < 255 and end < len(data) else b"")
        at = end
    return made


class Client:
    """`read(seconds)` gives bytes of the line, `write(data)` takes them."""

    def __init__(self, read, write):
        self.read, self.write = read, write
        self.number = os.urandom(8)
        self.key = self.sent = self.missing = 0
        self.rest, self.message, self.messages = b"", b"", []
        self.terminal, self.theirs, self.acked = "", b"", 0

    def put(self, kind, seq=0, payload=b""):
        body = HEAD.pack(kind, seq, self.missing, 0) + payload
        crc = zlib.crc32(body, 0 if kind <= REFUSED else self.key)
        self.write(b"\0" + stuffed(body + struct.pack("<I", crc)) + b"\0")

    def hear(self, seconds):
        *pieces, self.rest = (self.rest + self.read(seconds)).split(b"\0")
        self.rest = self.rest[-1100:]
        for body in map(unstuffed, pieces):
            if len(body) < 13:
                continue
            kind, seq, ack, _ = HEAD.unpack_from(body)
            if zlib.crc32(body[:-4], 0 if kind <= REFUSED else self.key) != struct.unpack("<I", body[-4:])[0]:
                continue
            payload = body[9:-4]
            if kind == REFUSED:
                raise SystemExit(f"the terminal speaks the versions {payload[0]} to {payload[1]}")
            if kind == WELCOME and payload[1:9] == self.number:
                self.terminal, self.theirs = payload[17:].decode(), payload[9:17]
                self.key = zlib.crc32(self.number + self.theirs) or 1
            elif kind >= ACK:
                self.acked = ack
                if kind >= PART and seq == self.missing:  # what comes before its time will come again
                    self.missing, self.message = (seq + 1) % 65536, self.message + payload
                    if kind == LAST:
                        self.messages, self.message = [*self.messages, self.message], b""
                if kind in (PART, LAST, PING):
                    self.put(ACK)

    def connect(self, seconds=30):
        until = time.monotonic() + seconds
        while not self.terminal and time.monotonic() < until:
            self.write(b"\rmachine 1\r")
            self.put(HELLO, payload=b"\x01\x01" + self.number)
            self.hear(0.5)

    def ask(self, verb, **args):
        payload = b"J" + json.dumps({"id": 1, "verb": verb, "args": args}).encode()
        seq, self.sent = self.sent, (self.sent + 1) % 65536
        while self.acked != self.sent:
            self.put(LAST, seq, payload)
            self.hear(0.5)
        while True:
            for message in self.messages:
                self.messages = self.messages[1:]
                said = json.loads(message[1:]) if message[:1] == b"J" else {}
                if "result" in said or "error" in said:
                    return said
            self.put(PING)
            self.hear(0.5)


if __name__ == "__main__":
    import serial

    port = serial.Serial(sys.argv[1], 115200)

    def read(seconds):
        port.timeout = seconds
        first = port.read(1)
        return first + port.read(port.in_waiting)

    client = Client(read, port.write)
    client.connect()
    print(client.terminal)
    print(json.dumps(client.ask(sys.argv[2]), indent=1, ensure_ascii=False))
    client.put(BYE)
