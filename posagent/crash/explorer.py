"""Every cut of every run, to a fixpoint: breadth first over what a cut may leave, depth first over fates.

Owns: the order of exploration and the choice strings. A state is what a cut left, canonically, with what the people
around know. From each new one the terminal is started; each fate that start reads and each choice of the world makes an
execution of its own, and each of its operations a cut. When no cut leaves a new state, any number of cuts is covered.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from posagent.crash import canonical
from posagent.crash.medium import Crashed, Medium, MediumBoot, PowerCut, RuleBroken
from posagent.crash.oracles import Life, Violated, Violation, World, need
from posagent.crash.scenarios import Scenario
from posagent.crash.stage import DATA_DIR, FACTORY, INSTALLER_DIR, LIMITS, SLOT_BYTES, STATE_DIR, Stage
from posagent.crash.terminal import CrashTerminal, Joined
from posagent.crash.units import Profile

REBOOTS = 5


NOTHING_KNOWN = World()


class Leg(NamedTuple):
    """One execution on a path: what was chosen in it, and before which operation its power was cut (None: never)."""

    choices: tuple[int, ...]
    cut_at: int | None


Path = tuple[Leg, ...]


class Choices:
    """units.Chooser that takes what is prescribed, then the first; keeps what was asked."""

    def __init__(self, prescribed: tuple[int, ...] = (), tell: Callable[[str], None] = lambda _: None) -> None:
        self._prescribed = prescribed
        self._tell = tell
        self.asked: list[tuple[str, int]] = []
        self.taken: list[int] = []

    @property
    def fresh(self) -> bool:
        """Everything prescribed was taken: what happens now was not seen before."""
        return len(self.taken) >= len(self._prescribed)

    def choose(self, what: str, count: int) -> int:
        place = len(self.taken)
        chosen = self._prescribed[place] if place < len(self._prescribed) else 0
        assert chosen < count, f"choice {place} of {what}: {chosen} of {count}"
        self.asked.append((what, count))
        self.taken.append(chosen)
        self._tell(f"  ? {what}: possibility {chosen + 1} of {count}")
        return chosen

    def others(self) -> Iterator[tuple[int, ...]]:
        """The prescriptions that lead to what was not taken here."""
        for place in range(len(self._prescribed), len(self.taken)):
            for chosen in range(1, self.asked[place][1]):
                yield (*self.taken[:place], chosen)


@dataclass(frozen=True, slots=True)
class State:
    """What a cut left and what is known; `path` leads here. `begins` decides about what every start reads first."""

    crashed: Crashed
    world: World = NOTHING_KNOWN
    path: Path = ()
    begins: tuple[int, ...] = ()
    key: Hashable = None


@dataclass(slots=True)
class Execution:
    """One run from power-on to rest, to its violation, or to the cut that was asked for."""

    medium: Medium
    life: Life
    choices: Choices
    violation: Violation | None = None
    was_cut: bool = False
    joined: bool = False
    boots: int = 0
    stages: list[str] = field(default_factory=list)
    cuts: list[tuple[int, Crashed, World]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    violation: Violation
    path: Path


@dataclass(slots=True)
class Report:
    """What an exploration saw; counts are of this exploration, seconds of wall time.

    `trace` has the operations of the run without any cut with the agent's state at each, `after` what became of the
    update when the power was cut once before each of them: outcomes with the boots that were needed.
    """

    scenario: str
    profile: str
    operations: int = 0
    cut_points: int = 0
    executions: int = 0
    joined: int = 0
    states: int = 0
    cuts_deep: int = 0
    fixpoint: bool = False
    seconds: float = 0.0
    found: list[Found] = field(default_factory=list)
    trace: list[tuple[str, str]] = field(default_factory=list)
    after: dict[int, set[tuple[str, int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where an exploration stops early; None: never."""

    executions: int | None = None
    seconds: float | None = None
    cuts: int | None = None
    first_violation: bool = False
    join: bool = True
    """End an execution where it comes to a decision that another one has made in the same state: from there on both are
    the same. Not for code that may keep something in memory that it should not."""


class Explorer:
    """Explores one scenario on one device profile, with so many copies of the boot environment."""

    def __init__(
        self,
        stage: Stage,
        scenario: Scenario,
        profile: Profile,
        copies: int = 2,
    ) -> None:
        self._stage, self._scenario, self._profile = stage, scenario, profile
        self._copies = copies
        self._quiet: set[Hashable] = set()
        self._decided: set[Hashable] = set()
        self._ends: dict[Hashable, set[tuple[str, int]]] = {}
        self.cuts: dict[Hashable, frozenset[Hashable]] = {}
        """What cuts have left, and what a start may find then: the states."""

    def key(self, crashed: Crashed, world: World) -> Hashable:
        """Equal for states that no future can tell apart."""
        return canonical.key(crashed, self._profile.block_bytes), world

    def factory(self) -> State:
        """A terminal as it left the factory: one image, an empty data partition; and then with what it has already."""
        medium = self._medium(Choices())
        medium.slot("a", SLOT_BYTES).fill(self._stage.images[FACTORY].content)
        medium.slot("b", SLOT_BYTES)
        count = self._scenario.already
        if not count:
            return State(medium.crashed())
        goals, ends = self._scenario.goals[:count], self._scenario.ends[:count]
        tries, payments = self._scenario.tries_full, self._scenario.payments
        before = Scenario(name="before", goals=goals, ends=ends, tries_full=tries, payments=payments)
        run = Explorer(self._stage, before, self._profile, self._copies).execute(State(medium.crashed()), collect=False)
        assert run.violation is None, run.violation
        return State(run.medium.crashed(), run.life.world)

    def _medium(self, choices: Choices) -> Medium:
        medium = Medium(profile=self._profile, chooser=choices, strict=False)
        medium.boot = MediumBoot(
            medium,
            copies=self._copies,
            tries=self._scenario.tries_full,
            counts_all=self._scenario.bootloader == "counting",
        )
        return medium

    def _switched_on(self, crashed: Crashed, choices: Choices) -> Medium:
        """The medium at a start. What every start reads before it does anything is decided at once: then states that
        differ only in what may turn out to be the same are one."""
        medium = self._medium(choices)
        medium.restore(crashed)
        medium.boot.determine()
        for path in (STATE_DIR, INSTALLER_DIR, DATA_DIR):
            medium.files.determine(path)
        return medium

    def execute(
        self,
        start: State,
        prescribed: tuple[int, ...] = (),
        *,
        cut_at: int | None = None,
        collect: bool = True,
        join: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Execution:
        """One execution, with `cut_at` until the power is cut there."""
        choices = Choices(prescribed, tell)
        medium = self._switched_on(start.crashed, choices)
        medium.cut_at = cut_at
        life = Life(world=start.world, images=self._stage.images, limits=LIMITS, cuts=len(start.path))
        run = Execution(medium, life, choices)

        def known(moment: Hashable) -> bool:
            if not join or not choices.fresh:
                return False
            here, before = (moment, self.key(medium.crashed(), life.world)), len(self._decided)
            self._decided.add(here)
            return len(self._decided) == before

        terminal = CrashTerminal(self._stage, self._scenario, medium, life, choices, tell, known)

        def on_step(what: str) -> None:
            tell(f"  {len(medium.done) + 1}. {what}")
            run.stages.append(terminal.stage_name)
            if collect and choices.fresh:
                run.cuts.append((len(medium.done) + 1, medium.crashed(), life.world))

        medium.on_step = on_step
        try:
            terminal.live()
            run.boots = terminal.boots
            self._check_rest(terminal, medium, life)
        except PowerCut:
            run.was_cut = True
        except Joined:
            run.joined = True
        except Violated as error:
            run.violation = error.violation
        except RuleBroken as error:
            run.violation = Violation("booted-slot" if "booted" in str(error) else "bootable", str(error))
        except Exception as error:  # an error of the programmer is a finding like any other
            run.violation = Violation("crash", f"{type(error).__name__}: {error}")
        run.boots = run.boots or terminal.boots
        medium.over = True
        return run

    def _check_rest(self, terminal: CrashTerminal, medium: Medium, life: Life) -> None:
        terminal.check_ends()
        terminal.check_space()
        rest = self.key(medium.crashed(), life.world)
        if rest in self._quiet:
            return
        for number in range(REBOOTS):
            terminal.power_cycle()
            moved = self.key(medium.crashed(), life.world) != rest
            need(not moved, "quiet", f"reboot {number + 1} after the outcome moved something")
        self._quiet.add(rest)

    def explore(self, bounds: Bounds, on_progress: Callable[[Report], None] = lambda _: None) -> Report:
        """All cuts, until nothing new appears or a bound is reached."""
        began = time.monotonic()
        report = Report(self._scenario.name, self._profile.name)
        start = self.factory()
        seen, waiting = {start.key}, deque([start])
        leads: dict[int, set[Hashable]] = {}
        while waiting and not _reached(bounds, report):
            state = waiting.popleft()
            if bounds.cuts is not None and len(state.path) > bounds.cuts:
                waiting.append(state)
                break
            report.cuts_deep = max(report.cuts_deep, len(state.path))
            for new in self._from(state, report, bounds):
                key = self.key(new.crashed, new.world)
                if key not in self.cuts:
                    states = list(self.states(new))
                    self.cuts[key] = frozenset(one.key for one in states)
                    waiting += (one for one in states if one.key not in seen)
                    seen |= self.cuts[key]
                if len(new.path) == 1 and not any(new.path[0].choices):
                    leads.setdefault(new.path[0].cut_at or 0, set()).update(self.cuts[key])
            report.states, report.seconds = len(seen), time.monotonic() - began
            on_progress(report)
        report.fixpoint = not waiting and not _reached(bounds, report)
        report.after = {at: set().union(*(self._ends.get(key, ()) for key in keys)) for at, keys in leads.items()}
        return report

    def states(self, cut: State) -> Iterator[State]:
        """Everything that a start after this cut may find."""
        todo: list[tuple[int, ...]] = [()]
        while todo:
            choices = Choices(todo.pop())
            found = self._switched_on(cut.crashed, choices).crashed()
            todo += choices.others()
            begins = tuple(choices.taken)
            yield dataclasses.replace(cut, begins=begins, key=self.key(found, cut.world))

    def _from(self, state: State, report: Report, bounds: Bounds) -> Iterator[State]:
        """What cuts of all executions from here leave."""
        todo: list[tuple[int, ...]] = [state.begins]
        while todo and not _reached(bounds, report):
            run = self.execute(state, todo.pop(), join=bounds.join and len(state.path) > 1)
            report.executions += 1
            report.joined += run.joined
            report.cut_points += len(run.cuts)
            self._remember(state, run, report)
            if run.violation is not None:
                report.found.append(Found(run.violation, (*state.path, Leg(tuple(run.choices.taken), None))))
            todo += run.choices.others()
            taken = tuple(run.choices.taken)
            for cut_at, crashed, world in run.cuts:
                yield State(crashed, world, (*state.path, Leg(taken, cut_at)))

    def _remember(self, state: State, run: Execution, report: Report) -> None:
        if not state.path and not report.trace:
            report.operations = len(run.medium.done)
            report.trace = list(zip(run.medium.done, run.stages, strict=True))
        if len(state.path) <= 1:
            kinds = ", ".join(kind for _, kind, _ in run.life.world.outcomes) or "none"
            self._ends.setdefault(state.key, set()).add((kinds, run.boots))


def _reached(bounds: Bounds, report: Report) -> bool:
    late = bounds.seconds is not None and report.seconds > bounds.seconds
    many = bounds.executions is not None and report.executions >= bounds.executions
    return late or many or (bounds.first_violation and bool(report.found))
