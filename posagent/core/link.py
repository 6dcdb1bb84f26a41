"""How long the rest of a download takes: a link's rate as it is now, as it was so far, and as it was other times.

Owns: what is learned from samples (monotonic seconds, bytes done). One LinkRate lives as long as one download.
Rules: bounded memory, whatever the number of samples. What it foretells is never negative; silence makes it longer.

Nobody tells the kind of the link. Its rate does: a slow one is a radio of an old kind, which varies more and stalls
more (`KINDS`), until the download has shown more of itself than that.
Three rates are known. *Usual*: bytes by seconds of earlier whole downloads of this terminal, stalls and all, else one
that says little. *So far*: bytes by seconds in which any came, times the share of time in which
they come (which ten seconds cannot show: it begins as the usual share for `SHARE_S` seconds). *Now*: the same, of the
last `NOW_S` seconds. Usual and so-far are pooled by their precision: so-far is worth little after ten seconds of a
mobile link and nearly everything after some minutes; a usual rate that the link plainly contradicts (the terminal was
moved) loses its weight. Then the rest: as long as now lasts (`KEEPS_S`) it goes on like now, later like the pool. Its
p90 has what is not known of the pool, and how much the rest may differ from it: more when the rates so far varied,
less when it is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from posagent.core.spread import LOG_MAX, NONE, Z90, Prior, Span, Spread, learned

BIN_S = 1.0
BLOCK_S = 10.0
"""The rates of such stretches are compared to see how much the link varies."""
WARM_S = 2.0
"""A connection takes so long to fill the link: no rate to go by."""
SILENT_S = 2.5
"""Without a byte for so long, the link is stalled."""
STALL_P50, STALL_P90 = 0.7, 3.0
"""How long a stall goes on, of how long it has lasted: stalls last from seconds to minutes, so it says little."""
RATE_MIN, RATE_MAX = 1.0, 1e10

# Chosen on the tuning split of tests/core/link_traces.py, as are the figures of KINDS.
NOW_S = 15.0
KEEPS_S = 40.0
STEADY_S = 60.0
"""What varies is new after so long: a mean of more seconds varies less."""
SHARE_S = 240.0
DOUBT = 4.0
"""Degrees of freedom of the doubt about the usual rate: with fewer, a contradiction costs it more."""
BLOCKS_BEFORE, BLOCKS_MAX = 4.0, 60.0
"""What the kind of link is worth in blocks, and how many of the latest blocks count."""
NOW_BEFORE_S = 5.0
"""Now is believed by half after so many seconds."""
BEGUN = 0.5
"""How far off the rate of the first seconds is (logarithm)."""
REST = 0.35
"""How much of the link's variation is still unknown of the rest, when now and the pool are known."""
FREEDOM = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is known of a link of such a rate: `varies` is how far ten seconds differ from the whole (standard deviation
    of the logarithm), `share` of the time bytes come."""

    bytes_per_s: float
    varies: float
    share: float


KINDS = (
    Kind(bytes_per_s=4.3e3, varies=0.4, share=0.95),  # GPRS
    Kind(bytes_per_s=16e3, varies=0.4, share=0.97),  # EDGE
    Kind(bytes_per_s=100e3, varies=0.4, share=0.985),  # 3G
    Kind(bytes_per_s=550e3, varies=0.3, share=0.99),  # 4G
    Kind(bytes_per_s=0.9e6, varies=0.3, share=0.98),  # Wi-Fi; a wire has to show first that it varies less
)
UNSEEN = Prior(median=100e3, sd=0.22, weight=(0.22 / 2.5) ** 2)
"""Bytes per second before the first download ever: a GPRS or a LAN; those of one terminal differ little."""


def kind_at(bytes_per_s: float) -> Kind:
    """The kind of link whose rate is the nearest."""
    return min(KINDS, key=lambda kind: abs(log(kind.bytes_per_s / _bounded(bytes_per_s))))


def usual(history: Sequence[tuple[float, float]]) -> Spread:
    """The logarithm of the rate of this terminal's next whole download, from (seconds, bytes) of the last ones."""
    return learned(UNSEEN, [_bounded(size / seconds) for seconds, size in history if seconds >= 1e-3 and size > 0])


def _bounded(rate: float) -> float:
    return min(max(rate, RATE_MIN), RATE_MAX)


class _Varied:
    """How much the rate varies from one block of `BLOCK_S` to the next: bounded memory, the latest counts most."""

    __slots__ = ("_bytes", "_seconds", "mean", "squares", "weight")

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0
        self.weight = self.mean = self.squares = 0.0

    def note(self, seconds: float, size: float) -> None:
        self._seconds += seconds
        self._bytes += size
        if self._seconds < BLOCK_S:
            return
        rate = log(_bounded(self._bytes / self._seconds))
        self._bytes = self._seconds = 0.0
        kept = min(self.weight, BLOCKS_MAX)
        squares = self.squares * kept / self.weight if self.weight else 0.0
        off = rate - self.mean
        self.weight = kept + 1
        self.mean += off / self.weight
        self.squares = squares + off * (rate - self.mean)

    def variance(self, before: float) -> float:
        """With the spread that was expected before, which counts as `BLOCKS_BEFORE` blocks."""
        return (BLOCKS_BEFORE * before**2 + self.squares) / (BLOCKS_BEFORE + max(self.weight - 1, 0.0))


class LinkRate:
    """Fed with samples of one download; `history` has (seconds, bytes) of earlier ones, oldest first.

    Every second or so it wants a sample, also where no byte has come: only so does it hear of a stall.
    """

    def __init__(self, *, history: Sequence[tuple[float, float]] = ()) -> None:
        self._usual = usual(history)
        self._forget()

    def _forget(self) -> None:
        self._anew = False
        self._warm_s = 0.0  # of the present connection
        self._at: float | None = None
        self._done = 0
        self._heard = 0.0  # when the last byte came
        self._begun = (0.0, 0.0)  # seconds and bytes while the connection filled the link,
        self._moved = (0.0, 0.0)  # of all later seconds in which bytes came,
        self._now = (0.0, 0.0)  # of the latest of these, the older the less,
        self._bin = (0.0, 0.0)  # and those that are not counted yet
        self._silent_s = 0.0
        self._gap_s = 0.0  # the last of it, until bytes come again
        self._varied = _Varied()

    def connect(self) -> None:
        """What comes next comes over a new connection, which has to fill the link first. Nobody fetched before: that
        pause says nothing of the link."""
        self._anew, self._warm_s = True, 0.0

    def note(self, monotonic_s: float, bytes_done: int) -> None:
        """So much was there then. Fewer bytes than before: the download began again, and so do we."""
        if self._at is None or bytes_done < self._done:
            self._forget()
        if self._at is None or self._anew:
            self._at, self._heard, self._done = monotonic_s, monotonic_s, bytes_done
            self._anew, self._bin = False, (0.0, 0.0)
            return
        seconds, size = monotonic_s - self._at, bytes_done - self._done
        if seconds <= 0:
            return
        if size:
            self._heard = monotonic_s
        self._at, self._done = monotonic_s, bytes_done
        self._bin = (self._bin[0] + seconds, self._bin[1] + size)
        if self._bin[0] >= BIN_S:
            self._count(*self._bin)
            self._bin = (0.0, 0.0)

    def _count(self, seconds: float, size: float) -> None:
        if not size:
            # silence before the first byte is the server's, and comes once
            silent_s = seconds if self._begun[0] else 0.0
            self._silent_s += silent_s
            self._gap_s += silent_s
            return
        if self._warm_s < WARM_S:
            self._warm_s += seconds
            self._begun = (self._begun[0] + seconds, self._begun[1] + size)
            return
        self._moved = (self._moved[0] + seconds, self._moved[1] + size)
        kept = exp(-seconds / NOW_S)
        self._now = (self._now[0] * kept + seconds, self._now[1] * kept + size)
        self._varied.note(seconds + min(self._gap_s, BLOCK_S), size)  # longer silence is told by the share
        self._gap_s = 0.0

    @property
    def usual_bytes_per_s(self) -> float:
        return self._usual.median

    @property
    def shown(self) -> bool:
        """Whether enough has come to go by."""
        return self._moved[0] > 0

    @property
    def bytes_per_s(self) -> float:
        """As it is now."""
        seconds, size = self._now if self._now[0] else self._begun
        return size / seconds if seconds else self._usual.median

    @property
    def stalled_s(self) -> float:
        """For how long nothing has come; 0 where that is usual."""
        silent = 0.0 if self._at is None else self._at - self._heard
        return silent if silent > SILENT_S else 0.0

    def remaining(self, bytes_left: float) -> Span:
        """How long the rest takes from the last sample on."""
        if bytes_left <= 0:
            return NONE
        span = self._rest(bytes_left).span()
        stalled = self.stalled_s
        return Span(p50=span.p50 + STALL_P50 * stalled, p90=span.p90 + STALL_P90 * stalled)

    @property
    def _kind(self) -> Kind:
        seconds, size = self._moved if self._moved[0] else self._begun
        return kind_at(size / seconds if size else self._usual.median)

    def _rest(self, bytes_left: float) -> Spread:
        """Seconds for so many bytes, were the link not stalled just now."""
        size = log(bytes_left)
        varied = self._varied.variance(self._kind.varies)
        pool, doubt = self._pool(varied)
        lasts = exp(min(max(size - pool, -LOG_MAX / 4), LOG_MAX))
        keeps = KEEPS_S / lasts * (1 - exp(-lasts / KEEPS_S))
        rate = pool
        if self._moved[0]:
            weight = keeps * self._moved[0] / (self._moved[0] + NOW_BEFORE_S)
            rate += weight * (log(_bounded(self.bytes_per_s)) + log(self._share()) - pool)
        variance = doubt + REST * varied / (1 + lasts / (2 * STEADY_S))
        return Spread(centre=size - rate, sd=sqrt(variance), freedom=FREEDOM)

    def _share(self) -> float:
        """Of the time in which bytes come."""
        return (self._moved[0] + SHARE_S * self._kind.share) / (self._moved[0] + self._silent_s + SHARE_S)

    def _pool(self, varied: float) -> tuple[float, float]:
        """The logarithm of the whole download's rate, and the variance of what is not known of it."""
        seconds, size = self._moved if self._moved[0] else self._begun
        centre, variance = self._usual.centre, (self._usual.sd90 / Z90) ** 2
        if not size:
            return centre, variance
        so_far = log(_bounded(size / seconds)) + log(self._share())
        noise = varied / (1 + seconds / (2 * STEADY_S))  # silence says nothing of the rate between
        if not self._moved[0]:
            noise += BEGUN**2
        so_far += noise / 2  # the logarithm of a mean of more seconds is larger, by half the variance it loses
        contradiction = (so_far - centre) ** 2 / (variance + noise)
        variance *= (DOUBT + contradiction) / (DOUBT + 1) if contradiction > 1 else 1.0
        weight = variance / (variance + noise)
        return centre + weight * (so_far - centre), weight * noise
