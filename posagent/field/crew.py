"""Many terminals at once: who is at which port, a thread for each, until all are done.

Rules: ports are looked at once a second for as long as it lasts, so that a cable may come back under another name, and
one that served a terminal may be plugged into the next. Nothing here stops an update: whoever leaves, leaves it going.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from posagent.core.errors import PosagentError
from posagent.field.diary import GOOD, Diary, Ending, Row
from posagent.field.places import Berth, Places
from posagent.field.visit import Line, Plan, Visit

LOOK_S = 1.0


class Connected(Line, Protocol):
    """A line that can be hung up."""

    def close(self) -> None: ...


Connect = Callable[[Berth], Connected]
"""Makes a field.link.Terminal of what opens its line."""


class Crew:
    """`ask` opens a port and says which terminal is there, "" for none."""

    def __init__(
        self,
        *,
        places: Places,
        connect: Connect,
        ask: Callable[[str], str],
        plan: Plan,
        clock: Callable[[], float] = time.time,
        on_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._places = places
        self._connect = connect
        self._ask = ask
        self._plan = plan
        self._clock = clock
        self._on_ended = on_ended
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._diaries: dict[str, Diary] = {}
        self._lines: list[Connected] = []
        self._asking = 0
        self._looks = 0

    # what others see

    def rows(self) -> list[Row]:
        with self._lock:
            diaries = list(self._diaries.values())
        return [diary.row() for diary in diaries]

    def records(self) -> list[dict[str, Any]]:
        with self._lock:
            diaries = list(self._diaries.values())
        return [diary.record() for diary in diaries]

    def wait(self, seconds: float) -> None:
        """Until something changed, at most so long."""
        self._changed.wait(seconds)
        self._changed.clear()

    def done(self, count: int) -> bool:
        """Whether so many terminals are done; for 0, whether all are that were found, after every port was asked."""
        with self._lock:
            ended = [diary.ended for diary in self._diaries.values()]
            settled = self._looks > 0 and self._asking == 0
        return all(ended) and (len(ended) >= count if count else settled)

    # what it does

    def start(self) -> None:
        threading.Thread(target=self._look, name="ports", daemon=True).start()

    def leave(self) -> list[dict[str, Any]]:
        """No more terminals are taken on, and those at work go on without the laptop: their records as they are now."""
        self._stop.set()
        records = self.records()
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.close()
        return records

    def _look(self) -> None:
        while not self._stop.is_set():
            for port in self._places.to_ask(self._clock(), self._at_work):
                with self._lock:
                    self._asking += 1
                threading.Thread(target=self._who, args=(port,), name=f"ask {port}", daemon=True).start()
            with self._lock:
                self._looks += 1
            self._changed.set()
            self._stop.wait(LOOK_S)

    def _at_work(self, terminal: str) -> bool:
        with self._lock:
            diary = self._diaries.get(terminal)
        return diary is not None and not diary.ended

    def _who(self, port: str) -> None:
        terminal = ""
        try:
            terminal = self._ask(port)
        finally:
            if terminal:
                self._places.found(port, terminal, self._clock())
                self._take_on(terminal, port)
            else:
                self._places.silent(port, self._clock())
            with self._lock:
                self._asking -= 1
            self._changed.set()

    def _take_on(self, terminal: str, port: str) -> None:
        with self._lock:
            if terminal in self._diaries or self._stop.is_set():
                return
            diary = self._diaries[terminal] = Diary(terminal, port, self._clock, self._changed.set)
        threading.Thread(target=self._visit, args=(terminal, diary), name=terminal, daemon=True).start()

    def _visit(self, terminal: str, diary: Diary) -> None:
        berth = Berth(self._places, terminal, on_open=diary.plugged, on_gone=diary.pulled)
        line = self._connect(berth)
        with self._lock:
            self._lines.append(line)
        try:
            Visit(line, terminal, diary, self._plan).run()
        except Exception as error:  # a fault of ours must not leave the other terminals without a report
            told = PosagentError("internal", f"{type(error).__name__}: {error}")
            diary.problem(told)
            diary.end(Ending.LOST, told.code, told.detail)
        finally:
            line.close()
        self._on_ended()
        self._changed.set()


def exit_code(endings: list[str]) -> int:
    """As the CLI's: 0 when all is well, 5 when nobody was there or could be reached, 3 when all else were refused."""
    ill = [ending for ending in endings if ending not in GOOD]
    if not endings:
        return 5
    if not ill:
        return 0
    if all(ending == "refused" for ending in ill):
        return 3
    return 5 if all(ending == "lost" for ending in ill) else 4
