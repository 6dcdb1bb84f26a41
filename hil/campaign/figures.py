"""What an update costs the merchant on this terminal, and what the agent costs the terminal.

Outage: the longest time between two acknowledged payments of a customer who pays all the time, during a whole update;
beside it the same for a bare restart of the same image. Idle: the agent's memory, CPU time and wake-ups over a minute
in which nothing happens.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from hil.campaign.guest import DECIDED_S, ENDED_S, PAYMENTS, Customer, Guest
from hil.image import start
from hil.machine import Machine
from hil.repository import Repository

PAY_EVERY_S = 0.2
IDLE_S = 60
SETTLED_S = 20.0
_AGENT = "$(systemctl show -p MainPID --value posagentd)"
_SWITCHES = f"cat /proc/{_AGENT}/task/*/status | awk '/ctxt_switches/ {{n += $2}} END {{print n}}'"
_TICKS = f"awk '{{print $14 + $15}}' /proc/{_AGENT}/stat"
_MEMORY = f"awk '/^(Rss|Pss):/ {{print $1, $2}}' /proc/{_AGENT}/smaps_rollup"
TICKS_A_SECOND = 100


def measure(folder: Path, bundle: Path) -> dict[str, Any]:
    """Raises TimeoutError, RuntimeError where the update is not committed."""
    guest = Guest(Machine(start.fresh(folder / "card.img"), folder, payments=PAYMENTS))
    repository = Repository(folder / "served", "10.0.2.2")
    customer = None
    try:
        guest.power_on()
        _started(guest, 1)
        idle = _idle(guest)  # before there are customers: the agent hears of every payment
        customer = Customer(PAYMENTS, PAY_EVERY_S)
        began = time.monotonic()
        guest.run("systemctl reboot --no-block")
        _started(guest, 2)
        bare = _longest_gap(customer, began)
        repository.offer(bundle)
        began = time.monotonic()
        name = guest.begin_update()
        if not guest.until(lambda: guest.ended(name), ENDED_S) or guest.booted != "b":
            raise RuntimeError(f"the update was not committed: {guest.status}")
        took = time.monotonic() - began
        _settle(guest)
        return {
            "outage_s": _longest_gap(customer, began),
            "bare_reboot_s": bare,
            "update_s": round(took, 1),
            "idle": idle,
        }
    finally:
        guest.power_off()
        if customer is not None:
            customer.stop()
        repository.close()


def _started(guest: Guest, starts: int) -> None:
    """Until the agent has decided after so many starts, and all is quiet."""
    if not guest.until(lambda: guest.starts >= starts and guest.decided(), DECIDED_S):
        raise TimeoutError(f"not decided in {DECIDED_S:.0f} s")
    _settle(guest)


def _settle(guest: Guest) -> None:
    guest.until(lambda: False, SETTLED_S)


def _idle(guest: Guest) -> dict[str, float]:
    before = [float(guest.run(command)) for command in (_SWITCHES, _TICKS)]
    guest.run(f"sleep {IDLE_S}", IDLE_S + 60)
    after = [float(guest.run(command)) for command in (_SWITCHES, _TICKS)]
    switches, ticks = (late - early for early, late in zip(before, after, strict=True))
    memory = dict(line.split() for line in guest.run(_MEMORY).splitlines())
    return {
        "rss_mib": round(int(memory["Rss:"]) / 1024, 1),
        "pss_mib": round(int(memory["Pss:"]) / 1024, 1),
        "cpu_percent": round(100 * ticks / TICKS_A_SECOND / IDLE_S, 2),
        "switches_a_second": round(switches / IDLE_S, 2),
    }


def _longest_gap(customer: Customer, since: float) -> float:
    times = [at for at, _ in list(customer.paid) if at >= since - 1]
    return round(max(late - early for early, late in itertools.pairwise(times)), 1)
