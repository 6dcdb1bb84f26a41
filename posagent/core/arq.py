"""A serial line that loses nothing: messages both ways, in order, each piece repeated until it has arrived.

Owns: cutting messages into numbered frames, what arrived of the other end's, and when to send again. Both ends drive
the same class; time is an argument, in seconds.

A line reorders nothing. So when a frame is known to have arrived, whatever was sent before it and has not arrived is
lost, and is sent again at once; only silence needs a timer, and then the one frame that was sent last asks.
`ack` is the number of the next frame that is missing, bit n of `mask` says that frame `ack + 1 + n` is there.
How long frames are follows from how many are lost: short ones lose less to an error, long ones less to their overhead.
Rules: what is under way is bounded in bytes, so that what must be sent again does not wait behind seconds of others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import log, sqrt

from posagent.core.frames import OVERHEAD_BYTES, PAYLOAD_BYTES_MAX, Frame, Kind, encode

WINDOW = 32
"""Frames between the first that is missing and the last that was sent; as many as `mask` can tell of."""
PAYLOAD_BYTES_MIN = 96
PAYLOAD_S = 0.25
UNDER_WAY_BYTES_MAX = 4096
UNDER_WAY_S = 0.8
UNDER_WAY_FRAMES_MAX = 14
"""A frame lost, told of and repeated comes two such spans behind its neighbours: still inside the window."""
REPEAT_S_FIRST, REPEAT_S_MIN, REPEAT_S_MAX = 1.0, 0.3, 5.0
TALLY_FRAMES = 64.0
"""Losses are counted over so many of the latest frames."""
RATE_S = 8.0
_ALL = 0x10000


class _Sent:
    """A frame of ours that is not known to have arrived. `last` is the place of its last sending among all of them,
    `sure` the place before which everything is over when it arrives."""

    __slots__ = ("at", "kind", "last", "lost", "once", "payload", "size", "sure")

    def __init__(self, kind: Kind, payload: bytes) -> None:
        self.kind, self.payload = kind, payload
        self.size = len(payload) + OVERHEAD_BYTES
        self.lost, self.once = False, True
        self.at = 0.0
        self.last = self.sure = 0


class Link:
    """One end of a conversation with the key `key`. Messages are not empty; those that come are at most
    `message_bytes_max` long. `bytes_per_s` is what the line is said to carry."""

    def __init__(self, key: int, *, bytes_per_s: float, message_bytes_max: int) -> None:
        self._key = key
        self._line_rate = bytes_per_s
        self._message_bytes_max = message_bytes_max
        self._payload_max = int(min(PAYLOAD_BYTES_MAX, max(PAYLOAD_BYTES_MIN, bytes_per_s * PAYLOAD_S)))
        # what goes out
        self._queue: deque[bytes] = deque()
        self._cut: deque[tuple[Kind, bytes]] = deque()
        self._sent: dict[int, _Sent] = {}
        self._next = 0
        self._count = 0
        self._under_way = self._under_way_frames = 0
        self.backlog = 0
        """Bytes of messages that were not sent yet, not even once."""
        # what comes in
        self._expected = 0
        self._held: dict[int, Frame] = {}
        self._message = bytearray()
        self._too_long = False
        self._owed = False
        # what is learned
        self._heard_at = 0.0
        self._tries = 0
        self._rtt = self._rtt_varies = 0.0
        self._frames, self._losses, self._frame_bytes = 16.0, 1.0, 16.0 * 256
        self._busy_bytes = self._busy_s = 0.0
        self._busy_at: float | None = None

    # what comes in

    def take(self, frame: Frame, now: float) -> list[bytes]:
        """The messages that this frame completes; an empty one in the place of one that was too long."""
        self._acknowledged(frame, now)
        if frame.kind is Kind.PING:
            self._owed = True
        if frame.kind not in (Kind.PART, Kind.LAST):
            return []
        self._owed = True
        if (frame.seq - self._expected) % _ALL <= WINDOW:  # else it has arrived before, and its ack was lost
            self._held.setdefault(frame.seq, frame)
        messages: list[bytes] = []
        while (following := self._held.pop(self._expected, None)) is not None:
            self._expected = (self._expected + 1) % _ALL
            messages += self._join(following)
        return messages

    def _join(self, frame: Frame) -> Iterator[bytes]:
        if len(self._message) + len(frame.payload) > self._message_bytes_max:
            self._too_long = True
            self._message.clear()
        if not self._too_long:
            self._message += frame.payload
        if frame.kind is Kind.LAST:
            yield bytes(self._message)
            self._message.clear()
            self._too_long = False

    def _acknowledged(self, frame: Frame, now: float) -> None:
        first = next(iter(self._sent), self._next)
        arrived = (frame.ack - first) % _ALL
        if arrived > (self._next - first) % _ALL:
            return  # told before what is known by now
        seqs = [(first + n) % _ALL for n in range(arrived)]
        seqs += [(frame.ack + 1 + n) % _ALL for n in range(frame.mask.bit_length()) if frame.mask >> n & 1]
        done = [sent for seq in seqs if (sent := self._sent.pop(seq, None)) is not None]
        if not done:
            return
        self._heard_at, self._tries = now, 0
        self._measure(done, now)
        for sent in done:
            if not sent.lost:
                self._leave(sent)
            self._tally(sent, lost=False)
        proof = max(sent.sure for sent in done)
        for sent in self._sent.values():
            if not sent.lost and sent.last < proof:
                self._lose(sent)
                sent.sure = 0  # whatever arrives of it now is what will be sent
                self._tally(sent, lost=True)

    # what goes out

    def send(self, message: bytes) -> None:
        """Queue a message; `poll` gives what goes onto the line."""
        self._queue.append(message)
        self.backlog += len(message)

    def poll(self, now: float) -> bytes:
        """What is to be written now."""
        if self._under_way and now >= self._repeat_at():
            self._ask_again(now)
        out = []
        while (seq := self._following()) is not None:
            out.append(self._put(seq, now))
        if not out and self._owed:
            out.append(self._encoded(Kind.ACK))
        self._owed = self._owed and not out
        return b"\0" + b"".join(out) if out else b""

    def next_wake(self) -> float | None:
        """When to poll again if nothing comes in and nothing is sent until then."""
        return self._repeat_at() if self._under_way else None

    def ping(self) -> bytes:
        """A question whether somebody is there."""
        return b"\0" + self._encoded(Kind.PING)

    def bye(self) -> bytes:
        return b"\0" + self._encoded(Kind.BYE)

    def revive(self, now: float) -> None:
        """The line is back: what is under way is asked for at once."""
        self._heard_at, self._tries = now - REPEAT_S_MAX - UNDER_WAY_BYTES_MAX / self._line_rate, 0

    @property
    def rate(self) -> float | None:
        """Bytes of payload a second that arrived while there was no lack of them; None where that is not known yet."""
        return self._busy_bytes / self._busy_s if self._busy_s > 1.0 else None

    @property
    def payload_bytes(self) -> int:
        """How long the payloads of new frames are: where overhead and what errors cost are least together."""
        share = min(self._losses / self._frames, 0.9)
        per_byte = -log(1 - share) * self._frames / self._frame_bytes
        best = sqrt(OVERHEAD_BYTES**2 / 4 + OVERHEAD_BYTES / max(per_byte, 1e-9)) - OVERHEAD_BYTES / 2
        return int(min(self._payload_max, max(PAYLOAD_BYTES_MIN, best)))

    def _following(self) -> int | None:
        """The frame that is to be sent next, if there is room for one."""
        if self._under_way_frames >= UNDER_WAY_FRAMES_MAX:
            return None
        seq = next((seq for seq, sent in self._sent.items() if sent.lost), None)
        if seq is not None:
            return seq if self._fits(self._sent[seq].size) else None
        first = next(iter(self._sent), self._next)
        if not self._cut:
            self._cut_message()
        if not self._cut or (self._next - first) % _ALL >= WINDOW:
            return None
        if not self._fits(len(self._cut[0][1]) + OVERHEAD_BYTES):
            return None
        seq, self._next = self._next, (self._next + 1) % _ALL
        sent = self._sent[seq] = _Sent(*self._cut.popleft())
        self.backlog -= len(sent.payload)
        sent.lost = True  # as far as the line is concerned
        return seq

    def _fits(self, size: int) -> bool:
        most = min(UNDER_WAY_BYTES_MAX, self._line_rate * UNDER_WAY_S)
        return not self._under_way or self._under_way + size <= most

    def _cut_message(self) -> None:
        """Into pieces of the same length, so that none is mostly overhead."""
        if not self._queue:
            return
        message = self._queue.popleft()
        count = -(-len(message) // self.payload_bytes)
        size = -(-len(message) // count)
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        self._cut.extend((Kind.PART, piece) for piece in pieces[:-1])
        self._cut.append((Kind.LAST, pieces[-1]))

    def _put(self, seq: int, now: float) -> bytes:
        sent = self._sent[seq]
        if not self._under_way:
            self._heard_at = now
        self._count += 1
        sent.once = sent.once and not sent.last
        sent.last = self._count
        sent.sure = sent.sure or self._count
        sent.lost, sent.at = False, now
        self._under_way += sent.size
        self._under_way_frames += 1
        return self._encoded(sent.kind, seq, sent.payload)

    def _encoded(self, kind: Kind, seq: int = 0, payload: bytes = b"") -> bytes:
        mask = 0
        for held in self._held:
            mask |= 1 << (held - self._expected - 1) % _ALL
        return encode(Frame(kind, seq, self._expected, mask & 0xFFFFFFFF, payload), self._key)

    def _lose(self, sent: _Sent) -> None:
        self._leave(sent)
        sent.lost = True

    def _leave(self, sent: _Sent) -> None:
        self._under_way -= sent.size
        self._under_way_frames -= 1

    # silence

    def _repeat_at(self) -> float:
        waited = max(self._rtt + 4 * self._rtt_varies, REPEAT_S_MIN) if self._rtt else REPEAT_S_FIRST
        return self._heard_at + min(waited * 2.0**self._tries, REPEAT_S_MAX) + self._under_way / self._line_rate

    def _ask_again(self, now: float) -> None:
        """Only what was sent last: when it arrives, it is known what became of the others. Every second time the first
        that is missing, for other ends that keep nothing of what comes before its time."""
        under_way = [sent for sent in self._sent.values() if not sent.lost]
        self._lose(under_way[0] if self._tries % 2 else max(under_way, key=lambda sent: sent.last))
        self._heard_at, self._tries = now, min(self._tries + 1, 9)

    # what is learned

    def _measure(self, done: list[_Sent], now: float) -> None:
        newest = max((sent.at for sent in done if sent.once), default=None)
        if newest is not None:
            rtt = now - newest
            varies = abs(rtt - self._rtt) if self._rtt else rtt / 2
            self._rtt_varies += (varies - self._rtt_varies) / (4 if self._rtt else 1)
            self._rtt += (rtt - self._rtt) / (8 if self._rtt else 1)
        if self._busy_at is not None:
            self._busy_bytes += sum(len(sent.payload) for sent in done)
            self._busy_s += now - self._busy_at
            if self._busy_s > RATE_S:
                self._busy_bytes, self._busy_s = self._busy_bytes / 2, self._busy_s / 2
        self._busy_at = now if self.backlog else None

    def _tally(self, sent: _Sent, *, lost: bool) -> None:
        keep = 1 - 1 / TALLY_FRAMES
        self._frames = self._frames * keep + 1
        self._losses = self._losses * keep + lost
        self._frame_bytes = self._frame_bytes * keep + sent.size
