"""One visit to a shop: an engineer, perhaps a bundle, all the terminals there, and the report of it.

Owns: the time from the first look at the ports to the signed report, with the live screen or with lines.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posagent.core.errors import PosagentError
from posagent.field import report, view
from posagent.field.crew import Connect, Crew
from posagent.field.parcel import Parcels
from posagent.field.places import Places
from posagent.field.signing import Engineer
from posagent.field.visit import Plan
from posagent.field.window import Window

SHOW_S = 1.0


class Tour:
    """`out` is where reports and support bundles go. Raises PosagentError for a bundle that is none."""

    def __init__(
        self, *, engineer: Engineer, role: str, bundle: Path | None, at_once: bool, out: Path, lang: str
    ) -> None:
        self._engineer, self._role, self._at_once, self._lang = engineer, role, at_once, lang
        self._out = out
        self._started_at = time.time()
        self._folder = tempfile.TemporaryDirectory(prefix="posagent-field-")
        self._parcels = Parcels(bundle, Path(self._folder.name)) if bundle else None
        self._label = self._parcels.label() if self._parcels else None
        self._records: list[dict[str, Any]] = []
        self.files = report.Files(out, self._started_at)
        self._keeping = threading.Lock()
        self._over = False
        self.interrupted = False
        """Whether the engineer, a closed window, or the time given ended it before all was done."""
        self._window = Window()

    @contextlib.contextmanager
    def crew(self, places: Places, connect: Connect, ask: Callable[[str], str]) -> Iterator[Crew]:
        """At work until the end of the block; what is not done then goes on without the laptop."""
        plan = Plan(
            engineer=self._engineer, out=self._out, parcels=self._parcels, role=self._role, at_once=self._at_once
        )
        crew = Crew(places=places, connect=connect, ask=ask, plan=plan, on_ended=lambda: self._keep(crew.records()))
        crew.start()
        try:
            with self._window:
                yield crew
        finally:
            with self._keeping:
                self._over = True
            self._records = crew.leave()
            self._folder.cleanup()

    def live(self, crew: Crew) -> bool:
        """The live screen, until it is left; False where its library is not installed."""
        try:
            from posagent.field.screen import Screen
        except ImportError:
            print("for the live screen: pip install 'posagent[field]'", file=sys.stderr)
            return False
        title = f"{self._label['file']} {self._label['version']}" if self._label else "posagent-field"
        Screen(crew.rows, title, self._lang, self._window.gone).run()
        self.interrupted = self._window.gone() and not all(row.ended for row in crew.rows())
        return True

    def plain(self, crew: Crew, *, count: int, minutes: float, show: Callable[[str], None] | None) -> None:
        """Lines, until so many terminals are done (0: all that are found), or so many minutes are over."""
        lines, until, over = view.Plain(self._lang), time.monotonic() + 60 * minutes, False
        try:
            while not over and not self._window.gone() and time.monotonic() < until:
                over = crew.done(count)
                for line in lines.lines(crew.rows()):
                    if show is not None:
                        show(line)
                if not over:
                    crew.wait(SHOW_S)
        except (KeyboardInterrupt, OSError):  # the second: nobody reads the lines any more
            over = False
            self._window.gone()  # looked at, so that what is told at the end goes nowhere
        self.interrupted = not over

    def close(self) -> tuple[dict[str, Any], PosagentError | None]:
        """The report, written and signed; and why it is not signed, if it is not."""
        final = self._report(self._records)
        try:
            self.files.close(final, self._engineer)
        except PosagentError as error:
            return final, error
        return final, None

    def _keep(self, records: list[dict[str, Any]]) -> None:
        """What is done so far. Nobody writes over the final one."""
        with self._keeping:
            if not self._over:
                self.files.keep(self._report(records))

    def _report(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        return report.made(
            engineer=self._engineer,
            role=self._role,
            bundle=self._label,
            started_at=self._started_at,
            ended_at=time.time(),
            terminals=records,
        )
