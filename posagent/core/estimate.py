"""How long an update still takes, phase by phase, and for how long no payment can be taken: pure.

Owns: what each phase's duration depends on, what is believed of it before anything was measured, and the words for an
estimate that has moved.
Rules: seconds, bytes, bytes per second. Sources in the order of their trust: this terminal's own measurements in the
journal, the profile that the model's manifest brings, cautious defaults (core.spread says how they are put together);
within a running phase what it has shown of itself so far; for a download the link (core.link).

Phases that are named in no manifest and no measurement get defaults wide enough for a low-end terminal. A phase to
come (backup, migration) is a row of `PHASES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt

from posagent.core.link import LinkRate
from posagent.core.model import Situation, State, Update
from posagent.core.spread import NONE, Z90, Prior, Spread, learned, total
from posagent.core.spread import Span as Span

DOWNLOAD, VERIFY, INSTALL = State.DOWNLOAD.value, State.VERIFY.value, State.INSTALL.value
ACTIVATE, SELFTEST = State.ACTIVATE.value, State.SELFTEST.value
COMMIT, ROLLBACK = State.COMMIT.value, State.ROLLBACK.value

BYTES_UNKNOWN = 30e6
"""A middling delta, where nobody has said yet how much there is."""
SIZE_SPREAD = 0.8
PROFILE_WEIGHT = 0.5
"""Measurements that the profile counts as: terminals of one model are much alike, their storage's age is not."""
DEFAULT_WEIGHT = 0.1
PACE_SPREAD = 0.2
"""How far the rest's pace may differ from that so far, half way through (logarithm)."""

READ_BACK_SHARE = 0.05
"""Of an installation's time, when all is written: most was read back meanwhile (installer.read_back)."""
CLOSING = 0.01
"""What a phase still takes, of the whole, when all its units had been done before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """`usual` is seconds, or bytes per second where `by_bytes`; `key` names the profile's whole number for it, `sd` is
    how much it varies from time to time (standard deviation of the logarithm)."""

    key: str
    usual: float
    sd: float
    by_bytes: bool = False
    words: tuple[str, str]


PHASES: Mapping[str, Phase] = {
    DOWNLOAD: Phase(key="", usual=0.0, sd=0.0, by_bytes=True, words=("the download", "下载")),
    VERIFY: Phase(key="verify_bytes_per_s", usual=15e6, sd=0.25, by_bytes=True, words=("checking it", "校验")),
    INSTALL: Phase(key="install_bytes_per_s", usual=5e6, sd=0.25, by_bytes=True, words=("installing", "安装")),
    ACTIVATE: Phase(key="restart_s", usual=60.0, sd=0.2, words=("the restart", "重启")),
    SELFTEST: Phase(key="selftest_s", usual=60.0, sd=0.3, words=("the self-test", "自检")),
    COMMIT: Phase(key="commit_s", usual=5.0, sd=0.4, words=("confirming it", "确认")),
    ROLLBACK: Phase(key="rollback_s", usual=60.0, sd=0.3, words=("going back", "回退")),
}
"""In the order in which they come; going back only where it has to."""

OUTAGE = (ACTIVATE, SELFTEST, COMMIT)
FORWARD = tuple(name for name in PHASES if name != ROLLBACK)
AHEAD: Mapping[State, tuple[str, ...]] = {
    State.IDLE: FORWARD,
    State.READY: FORWARD[FORWARD.index(INSTALL) :],
    State.ROLLBACK: (ROLLBACK,),
    **{State(name): FORWARD[at:] for at, name in enumerate(FORWARD)},
}
CRITICAL = frozenset({State.INSTALL, State.ACTIVATE, State.SELFTEST, State.COMMIT, State.ROLLBACK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The phase under way: seconds since it began here, without those it waited for a gate, and units (bytes, tests)
    done of all. `units_before` were done before that: by a run that a power cut ended."""

    elapsed_s: float = 0.0
    units_done: float = 0.0
    units_total: float = 0.0
    units_before: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is left from the moment `at_s` (monotonic) on, for each phase ahead and for going back, which `total` only
    has where it is under way. `outage` is when no payment can be taken. The phase under way has taken `elapsed_s`,
    `bytes_left` are still to be fetched, and for `stalled_s` nothing has come."""

    phases: Mapping[str, Span]
    total: Span
    outage: Span
    at_s: float = 0.0
    elapsed_s: float = 0.0
    bytes_left: float = 0.0
    stalled_s: float = 0.0

    def together(self, *names: str) -> Span:
        """Of some phases one after the other, such as all that the battery has to last for."""
        return total(self.phases.get(name, NONE) for name in names)


def forecast(
    situation: Situation,
    *,
    profile: Mapping[str, int] | None = None,
    work: Mapping[str, float] | None = None,
    running: Running | None = None,
    link: LinkRate | None = None,
    at_s: float = 0.0,
) -> Forecast:
    """What is ahead of the situation; in `idle`, of an update that would begin now.

    `work` has the bytes of download, verify and install where they are known better than from the update in the
    situation; `link` is the live one while a download runs.
    """
    sizes = {**_sizes(situation.update), **(work or {})}
    ahead = _ahead(situation)
    known = _Known(situation, profile or {}, sizes)
    now = running or _journalled(situation)
    link = link or link_of(situation)
    bytes_left = _bytes_left(situation, sizes, now) if DOWNLOAD in ahead else 0.0
    phases: dict[str, Span] = {}
    for name in ahead:
        if name == DOWNLOAD:
            phases[name] = _download(link, bytes_left, known.has_size(DOWNLOAD) or now.units_total > 0)
        elif name == situation.state.value:
            phases[name] = refined(known.phase(name), now)
        else:
            phases[name] = known.phase(name).span()
    return Forecast(
        phases={ROLLBACK: known.phase(ROLLBACK).span(), **phases},
        total=total(phases.values()),
        outage=total(span for name, span in phases.items() if name in OUTAGE),
        at_s=at_s,
        elapsed_s=now.elapsed_s,
        bytes_left=bytes_left,
        stalled_s=link.stalled_s,
    )


def _ahead(situation: Situation) -> tuple[str, ...]:
    update = situation.update
    left_out = ""
    if update is not None:
        left_out = INSTALL if update.goes_back else ACTIVATE if update.only_parameters else ""
    return tuple(name for name in AHEAD[situation.state] if name != left_out)


def critical_s(situation: Situation, running: Running | None = None) -> float | None:
    """Seconds until the critical section ends, at least one; None outside of it."""
    if situation.state not in CRITICAL:
        return None
    return max(round(forecast(situation, running=running).total.p50, 1), 1.0)


def link_of(situation: Situation) -> LinkRate:
    """The link as this terminal's earlier downloads have shown it."""
    return LinkRate(history=situation.measurements.get(DOWNLOAD, ()))


def of_both_passes(done: float, total: float, reading_back: bool) -> float:
    """How far an installation is, of `total`, when so much was written, or read back after all was written."""
    written = (1 - READ_BACK_SHARE) * (total if reading_back else done)
    return written + (READ_BACK_SHARE * done if reading_back else 0.0)


def refined(whole: Spread, running: Running) -> Span:
    """What is left of a phase that is under way.

    Where it counts no units, what is left of its distribution when so much is over. Else its pace so far is weighed
    against what was expected: little at its beginning, nearly alone at its end. Where that has come to a stop the
    rest gets longer: the same units took more time, and in the end the phase is plainly overdue.
    """
    ours = running.units_total - running.units_before
    if running.units_total <= 0:
        return whole.left(running.elapsed_s)
    if ours <= 0:
        return whole.scaled(CLOSING).left(running.elapsed_s)
    whole = whole.scaled(ours / running.units_total)
    done = min(max((running.units_done - running.units_before) / ours, 0.0), 1.0)
    if done > 1e-9 and running.elapsed_s > 0:
        whole = _paced(whole, running.elapsed_s, done)
    if done >= 1:
        return whole.left(running.elapsed_s)
    rest = whole.scaled(1 - done)
    unseen_s = running.elapsed_s - done * whole.median  # what was spent on the rest, and does not show yet
    left, overdue = rest.span(), rest.left(unseen_s)
    return Span(p50=max(left.p50, overdue.p50), p90=max(left.p90, overdue.p90))


def _paced(expected: Spread, elapsed_s: float, done: float) -> Spread:
    variance = (expected.sd90 / Z90) ** 2
    noise = PACE_SPREAD**2 * (1 - done) / done + 1e-4
    weight = variance / (variance + noise)
    centre = expected.centre + weight * (log(elapsed_s / done) - expected.centre)
    return Spread(centre=centre, sd=sqrt(weight * noise))


class _Known:
    """Durations of whole phases, from all that is known before they begin."""

    def __init__(self, situation: Situation, profile: Mapping[str, int], sizes: Mapping[str, float]) -> None:
        self._measurements = situation.measurements
        self._profile = profile
        self._sizes = sizes

    def has_size(self, name: str) -> bool:
        return self._sizes.get(name, 0.0) > 0

    def phase(self, name: str) -> Spread:
        spec = PHASES[name]
        measured = self._measurements.get(name, ())
        if not spec.by_bytes:
            return learned(self._prior(name), [seconds for seconds, _ in measured])
        by_bytes = [(seconds, size) for seconds, size in measured if size > 0]
        size = self._sizes.get(name, 0.0)
        per_byte = learned(
            self._prior(name),
            [seconds / of for seconds, of in by_bytes],
            # a short run has more of what does not depend on bytes
            [1 / (1 + log(of / size) ** 2) if size > 0 else 1.0 for _, of in by_bytes],
        )
        if size > 0:
            return per_byte.scaled(size)
        return _size_unknown(per_byte)

    def _prior(self, name: str) -> Prior:
        spec, told = PHASES[name], self._profile.get(PHASES[name].key, 0)
        weight = PROFILE_WEIGHT if told > 0 else DEFAULT_WEIGHT
        median = float(told) if told > 0 else spec.usual
        if name == ROLLBACK and told <= 0:
            # it is a restart too, and of those this terminal has seen more
            restart = self.phase(ACTIVATE)
            median, weight = restart.median, PROFILE_WEIGHT
        return Prior(median=1 / median if spec.by_bytes else median, sd=spec.sd, weight=weight)


def _size_unknown(per_byte: Spread) -> Spread:
    whole = per_byte.scaled(BYTES_UNKNOWN)
    return Spread(centre=whole.centre, sd=sqrt(whole.sd**2 + SIZE_SPREAD**2), freedom=whole.freedom)


def _sizes(update: Update | None) -> dict[str, float]:
    if update is None:
        return {}
    whole = float(update.length or 0)
    return {
        DOWNLOAD: float(update.bytes_expected) or whole,
        VERIFY: whole,
        INSTALL: float(update.image_size),
    }


def _journalled(situation: Situation) -> Running:
    """How far the phase is known to be where nobody says for how long it runs."""
    update = situation.update
    if update is None or not update.bytes_total:
        return Running()
    done, whole = float(update.bytes_done), float(update.bytes_total)
    return Running(units_done=done, units_total=whole, units_before=min(done, whole))


def _bytes_left(situation: Situation, sizes: Mapping[str, float], running: Running) -> float:
    if situation.state is State.DOWNLOAD and running.units_total > 0:
        return max(running.units_total - running.units_done, 0.0)
    return sizes.get(DOWNLOAD) or BYTES_UNKNOWN


def _download(link: LinkRate, bytes_left: float, size_known: bool) -> Span:
    span = link.remaining(bytes_left)
    if size_known or span.p50 <= 0:
        return span
    sd = log(span.p90 / span.p50) / Z90
    return _size_unknown(Spread(centre=log(span.p50 / BYTES_UNKNOWN), sd=sd)).span()
