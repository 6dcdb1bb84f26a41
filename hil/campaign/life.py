"""One terminal's life: a factory-fresh card, one update, and power cuts at chosen moments until the update has ended.

A plan is text, so that a life can be lived again: `none download+3.10 kernel+12.00 install+8.20` is a sound version,
and three cuts: 3.10 s after the download began, 12 s after the kernel started, 8.20 s after the slot was written on.
`power+N` is N seconds after the power came back. What is recorded: the phase that a cut really fell into, how long the
terminal took to know again what it does, and in the end whether the outcome, the slot and the payments are right.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hil.campaign.guest import DECIDED_S, ENDED_S, KERNEL, PAYMENTS, UBOOT, Customer, Guest
from hil.image import start
from hil.machine import Machine
from hil.repository import Repository

POWER = "power"
BOOT_MARKERS = (UBOOT, KERNEL, POWER)
"""What comes again after every cut."""
FLOW = ("idle", "download", "verify", "ready", "install", "activate", "selftest", "commit", "rollback")
SPAN_S = {UBOOT: 3.0, KERNEL: 25.0, POWER: 50.0, "download": 20.0, "verify": 20.0, "install": 40.0, "activate": 12.0}
SPAN_S |= {"selftest": 8.0, "commit": 2.0, "rollback": 8.0}
"""How far behind its marker a cut falls at most: about as long as that phase lasts here."""
WAYS = {
    "none": ("download", "verify", "install", "install", "activate", "selftest", "commit"),
    "migrates": ("download", "verify", "install", "activate", "selftest", "selftest", "commit"),
    "panic": ("download", "install", "activate", "rollback"),
    "migrates-test-fails": ("download", "install", "activate", "selftest", "rollback"),
}
FAULTS = ("migrates", "none", "migrates", "panic", "none", "migrates-test-fails")
ENDS = {
    "none": ("committed", "ok", "b"),
    "migrates": ("committed", "ok", "b"),
    "panic": ("rolled_back", "boot_failed", "a"),
    "migrates-test-fails": ("rolled_back", "selftest_failed", "a"),
}
"""Outcome, its code, and the slot that runs then."""
VERSIONS = {"none": "2.0.0", "panic": "2.1.0", "migrates-test-fails": "2.2.0", "migrates": "2.3.0"}
WHOLE = frozenset({"panic"})
"""Versions that are offered without a delta."""
MARKER_S = 600.0
OFF_S = 0.3
MIB = 1 << 20
SLOT_BYTES = 192 * MIB
SLOT_AT = {"a": 2 * MIB, "b": 2 * MIB + SLOT_BYTES}
PAUSE_S = 4.0


@dataclass(frozen=True, slots=True)
class Cut:
    """So many seconds after that marker."""

    marker: str
    delay_s: float

    def __str__(self) -> str:
        return f"{self.marker}+{self.delay_s:.2f}"


@dataclass(frozen=True, slots=True)
class Plan:
    fault: str
    cuts: tuple[Cut, ...]

    def __str__(self) -> str:
        return " ".join([self.fault, *map(str, self.cuts)])


def parse(text: str) -> Plan:
    """Raises ValueError."""
    fault, *words = text.split()
    pieces = [word.partition("+") for word in words]
    unknown = [marker for marker, _, _ in pieces if marker not in SPAN_S]
    if fault not in WAYS or unknown:
        raise ValueError(f"no such fault or marker: {', '.join([fault, *unknown])}")
    return Plan(fault, tuple(Cut(marker, float(delay)) for marker, _, delay in pieces))


def plans(seed: int) -> Iterator[Plan]:
    """Lives without end. Delays sweep each phase evenly; which phases are hit, and random moments, follow the seed."""
    dice = random.Random(seed)
    swept = {marker: dice.random() for marker in SPAN_S}

    def cut(marker: str) -> Cut:
        swept[marker] = (swept[marker] + 0.6180339887) % 1.0  # golden section: even, however many are drawn
        return Cut(marker, round(swept[marker] * SPAN_S[marker], 2))

    number = 0
    while True:
        fault = FAULTS[number % len(FAULTS)]
        cuts = []
        for marker in WAYS[fault]:
            cuts.append(cut(marker))
            cuts += [cut(dice.choice(BOOT_MARKERS)) for _ in range(dice.randrange(3))]
        yield Plan(fault, tuple(cuts))
        number += 1


@dataclass(slots=True)
class Fired:
    """One cut and what came of it; `recover_s` is None where the next cut came before the terminal had decided."""

    cut: str
    phase: str
    into_s: float
    booted: str
    recover_s: float | None = None
    sells_s: float | None = None
    starts: int = 0


@dataclass(slots=True)
class Record:
    """A life, told. `wrong` and `lost` are empty where all is well."""

    plan: str
    fired: list[Fired] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)
    unbootable: bool = False
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    payments: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Stuck(Exception):
    """The terminal did not come on in time; says in what."""


class Life:
    """Lives one plan in `folder`; `bundle` offers the version, whose image has that digest."""

    def __init__(self, plan: Plan, folder: Path, bundle: Path, digests: dict[str, str]) -> None:
        self._plan, self._bundle, self._digests = plan, bundle, digests
        self._folder = folder
        self._card = start.fresh(folder / "card.img")
        self._guest = Guest(Machine(self._card, folder, payments=PAYMENTS))
        self._record = Record(str(plan))
        self._powered: list[float] = []
        """When the power came back after each cut."""
        self._id = ""

    def live(self) -> Record:
        began = time.monotonic()
        repository = Repository(self._folder / "served", "10.0.2.2")
        self._customer = customer = Customer(PAYMENTS, PAUSE_S)
        try:
            repository.offer(self._bundle)
            self._run()
        except Stuck as why:
            self._record.wrong.append(str(why))
        finally:
            self._guest.power_off()
            customer.stop()
            repository.close()
        self._record.seconds = round(time.monotonic() - began, 1)
        return self._record

    def _run(self) -> None:
        guest = self._guest
        guest.power_on()
        self._decide()
        self._id = begin(guest)
        for cut in self._plan.cuts:
            if self._ended():
                break
            if not self._reach(cut):
                continue
            self._cut(cut)
        self._decide()
        self._until(self._ended, ENDED_S, "the end of the update")
        self._judge()

    def _ended(self) -> bool:
        return self._guest.ended(self._id)

    def _until(self, reached: Callable[[], object], timeout_s: float, what: str) -> None:
        if not self._guest.until(reached, timeout_s):
            raise Stuck(f"no {what} in {timeout_s:.0f} s; phase {self._guest.phase}, slot {self._guest.booted}")

    def _reach(self, cut: Cut) -> bool:
        """Until the moment of the cut; False where the update ended before."""
        guest = self._guest
        if cut.marker in BOOT_MARKERS:
            self._until(lambda: self._booting(cut.marker) or self._ended(), MARKER_S, cut.marker)
            moment = (guest.powered if cut.marker == POWER else guest.since) + cut.delay_s
        else:
            late = FLOW[FLOW.index(cut.marker) :]
            self._decide()
            self._until(lambda: guest.phase in late or self._ended(), MARKER_S, cut.marker)
            moment = guest.since + cut.delay_s
        if self._ended():
            return False
        guest.until(lambda: time.monotonic() >= moment, max(0.0, moment - time.monotonic()))
        return True

    def _booting(self, marker: str) -> bool:
        """This start of the terminal has come as far as that marker."""
        return marker == POWER or self._guest.phase not in ("off", *((UBOOT,) if marker == KERNEL else ()))

    def _cut(self, cut: Cut) -> None:
        guest = self._guest
        self._recovered()
        fired = Fired(str(cut), guest.phase, round(time.monotonic() - guest.since, 2), guest.booted)
        guest.power_off()
        self._record.fired.append(fired)
        time.sleep(OFF_S)
        guest.power_on()
        self._powered.append(guest.powered)

    def _decide(self) -> None:
        """Until the agent knows where it stands."""
        guest = self._guest
        if not guest.until(guest.decided, DECIDED_S):
            self._record.unbootable = True
            raise Stuck(f"not decided {DECIDED_S:.0f} s after the power came; phase {guest.phase}")
        self._recovered()

    def _recovered(self) -> None:
        """Note on the last cut how long the agent took to decide, if it did so before the next."""
        guest, fired = self._guest, self._record.fired
        if fired and fired[-1].recover_s is None and guest.decided_at is not None:
            fired[-1].recover_s = round(guest.decided_at - guest.powered, 1)
            fired[-1].starts = guest.decided_starts

    def _judge(self) -> None:
        """What must hold in the end, whatever the cuts were."""
        record, guest, customer = self._record, self._guest, self._customer
        assert guest.status is not None
        record.outcome = {key: guest.status["last_outcome"].get(key) for key in ("outcome", "code", "cause")}
        record.wrong += misses(self._plan.fault, record.outcome, guest.status["booted"])
        *_, slot = ENDS[self._plan.fault]
        self._until(lambda: customer.ask(b"LIST\n"), ENDED_S, "answer of the payment program")
        customer.stop()
        self._audit(customer.ask(b"LIST\n"))
        self._guest.power_off()
        if digest_of(self._card, slot) != self._digests[self._plan.fault if slot == "b" else "factory"]:
            record.wrong.append(f"slot {slot} is not what was signed")

    def _audit(self, ledger: Sequence[str]) -> None:
        record, paid = self._record, self._customer.paid
        record.payments = len(paid)
        record.lost += gone([number for _, number in paid], ledger)
        ends = [*self._powered[1:], time.monotonic()]
        for fired, powered, cut in zip(record.fired, self._powered, ends, strict=False):
            fired.sells_s = next((round(at - powered, 1) for at, _ in paid if powered < at < cut), None)


def begin(guest: Guest) -> str:
    """Ask for the update; its id. Raises Stuck: one that is refused or not answered is the terminal's fault."""
    try:
        return guest.begin_update()
    except (TimeoutError, RuntimeError) as error:
        raise Stuck(str(error)) from None


def misses(fault: str, outcome: Mapping[str, Any], booted: str) -> list[str]:
    """In what an update to a version with that fault has not ended as it has to."""
    kind, code, slot = ENDS[fault]
    found = []
    if (outcome["outcome"], outcome["code"]) != (kind, code):
        found.append(f"ended as {dict(outcome)}, not as {kind}, {code}")
    if booted != slot:
        found.append(f"slot {booted} runs, not {slot}")
    return found


def gone(acknowledged: Sequence[int], ledger: Sequence[str]) -> list[str]:
    """What the payment program lost of the payments that it acknowledged, as their numbers came; `ledger` is its list:
    how many there are, and that they are sound."""
    found = []
    if ledger[1:] != ["sound"]:
        found.append(f"the ledger is {ledger}")
    elif acknowledged and acknowledged[-1] > int(ledger[0]):
        found.append(f"{ledger[0]} payments are left of those acknowledged up to {acknowledged[-1]}")
    if again := [later for number, later in itertools.pairwise(acknowledged) if later <= number]:
        found.append(f"acknowledged, lost, and their numbers given again: from {again}")
    return found


def digest_of(card: Path, slot: str) -> str:
    """SHA-256 of what is in that slot of a card, in hexadecimal."""
    digest = hashlib.sha256()
    with card.open("rb") as disk:
        disk.seek(SLOT_AT[slot])
        for _ in range(SLOT_BYTES // MIB):
            digest.update(disk.read(MIB))
    return digest.hexdigest()
