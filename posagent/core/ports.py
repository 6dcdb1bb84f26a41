"""What the rules and the rooms need of the world, as protocols; Linux adapters are in platform/, fakes in sim/.

Rules: everything that must survive a power cut goes through `Files`, `BlockDevice` or `BootControl`, so that one
medium can number, cut and replay it. A method that returns has done its work in memory; only `sync`, `sync_dir`
and `flush` make it durable. `BootControl.write` is atomic and durable when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Message = dict[str, Any]


class Files(Protocol):
    """Files of the data partition. Paths are absolute. Raises OSError as the operating system would."""

    def size(self, path: str) -> int | None:
        """Bytes in the file, or None where there is no such file."""

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Up to `length` bytes from `offset`; everything where length is None."""

    def write(self, path: str, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`; the file is created (mode 0640) where missing."""

    def truncate(self, path: str, size: int) -> None: ...

    def sync(self, path: str) -> None:
        """Make the file's content and size durable; not its name."""

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None:
        """Remove the file; a missing one is no error."""

    def sync_dir(self, path: str) -> None:
        """Make names created, renamed and removed in this directory durable."""

    def names(self, path: str) -> list[str]:
        """Sorted names in the directory; empty where there is no such directory."""

    def make_dir(self, path: str) -> None:
        """Create the directory and its parents, durably; an existing one is no error."""

    def free_bytes(self, path: str) -> int: ...


class Trees(Files, Protocol):
    """Whole directories of the data partition, that other users own parts of."""

    def entries(self, path: str) -> list[tuple[str, str]]:
        """Sorted (name, kind) of what is in the directory; kind is "file", "dir", "link", or "other": a socket, a pipe.
        Empty where there is no such directory."""

    def remove_tree(self, path: str) -> None:
        """Remove the directory and all in it, durably; a missing one is no error. Cut short, some may stay."""

    def like(self, source: str, target: str) -> None:
        """Owner and mode of file or directory `target` become those of `source`; durable when `target` is synced."""

    def adopt(self, path: str) -> None:
        """Give a new directory or file to the owner of the data, and to nobody else."""

    def protect(self, path: str, *, passable: bool) -> None:
        """Let everybody pass through the directory to what is in it, or nobody; not durable."""


class ByteSource(Protocol):
    """Random-access bytes of known size, such as one opened bundle."""

    @property
    def size(self) -> int: ...

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end."""


class Medium(ByteSource, Protocol):
    """Bytes of a medium that memory may have copies of. Raises OSError."""

    def pread_into(self, offset: int, view: memoryview) -> None:
        """Fill the view; past the end there is nothing to be read (EIO)."""

    def drop_cache(self) -> None:
        """Make later reads come from the medium, not from memory."""


class BlockDevice(Medium, Protocol):
    """One slot: a block device or a file of fixed size. Raises OSError."""

    def pwrite(self, offset: int, *parts: bytes | memoryview) -> None:
        """The parts, one behind the other."""

    def flush(self) -> None:
        """Everything written so far is durable when this returns."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """The boot environment: slots in the order they are tried, and tries left for each (0: never tried)."""

    order: tuple[str, ...]
    tries: Mapping[str, int]


class BootControl(Protocol):
    """The bootloader's environment. Raises BootControlError."""

    def booted(self) -> str:
        """The slot the running kernel was started from."""

    def read(self) -> BootState: ...

    def write(self, state: BootState) -> None:
        """Replace order and tries in one atomic, durable step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """What the terminal's power supplies say; None where it is not known.

    Of several batteries: energies and draw are sums, the rest is that of the worst. `battery_full_wh` is what they hold
    when full now, `battery_design_wh` when they were new; `draw_w` is positive while they are being emptied.
    `battery_full` is what the charging circuit says, whatever the percent. `technology` is in the kernel's words.
    """

    battery_present: bool | None = None
    battery_percent: int | None = None
    charging: bool | None = None
    mains: bool | None = None
    battery_full: bool = False
    battery_full_wh: float | None = None
    battery_design_wh: float | None = None
    cycles: int | None = None
    temperature_c: float | None = None
    voltage_v: float | None = None
    draw_w: float | None = None
    technology: str | None = None

    @property
    def plugged(self) -> bool:
        """On a charger, as far as it is known; where the charger is not shown, a battery that is charged is on one."""
        return self.mains is True or (self.mains is None and self.charging is True)


class Power(Protocol):
    def read(self) -> PowerReading:
        """Never raises: what cannot be read is None, and a gate that needs it stays closed."""


class ResetCause(StrEnum):
    """Why this start of the system was necessary, as far as the platform can tell."""

    POWER = "power"  # the power went away or was switched off
    BROWN_OUT = "brown_out"  # the supply voltage was too low
    WATCHDOG = "watchdog"  # nobody petted it: the system hung
    PANIC = "panic"  # the kernel gave up
    REBOOT = "reboot"  # an orderly restart
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetReport:
    """`log` has the last lines that the system before this start left behind, oldest first. `traceless`: the orderly
    restart is that of the last start which got far enough to look; starts between that one and this one, if there were
    any, ended without a trace, as when the power goes."""

    cause: ResetCause = ResetCause.UNKNOWN
    traceless: bool = False
    boot_id: str = ""
    log: tuple[str, ...] = ()


class Resets(Protocol):
    def read(self) -> ResetReport:
        """The same for the whole run of this kernel. Never raises: what cannot be told is UNKNOWN."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds since some start, never going back."""

    def wall(self) -> float:
        """Seconds since 1970 as the terminal believes; may jump."""


class Watchdog(Protocol):
    @property
    def interval_s(self) -> float | None:
        """How often to pet; None where no watchdog is configured."""

    def pet(self) -> None: ...

    def ready(self) -> None:
        """Tell the service manager that start-up has finished."""


class Inhibitor(Protocol):
    """Holds off an orderly shutdown while the update is in a critical section."""

    def hold(self, reason: str) -> None: ...

    def release(self) -> None: ...


class Job(Protocol):
    """A verb that a worker carries out."""

    def cancel(self) -> None:
        """Stop it at its next operation; no further message arrives."""


Notify = Callable[[Message], None]
"""Gets `{"progress": {...}}` any number of times, then one `{"result": {...}}` or `{"error": {...}}`."""


class Worker(Protocol):
    """One of the on-demand processes: installer, fetcher, selftest."""

    def start(self, verb: str, args: Mapping[str, Any], notify: Notify) -> Job: ...


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer: ...


Verb = Callable[[Mapping[str, Any]], Iterator[Message]]
"""How a worker does a verb: a generator of `{"progress": …}` messages, one bounded operation each, that ends
with one `{"result": …}`. It may be closed between any two; it raises PosagentError for trouble."""


class Lock(Protocol):
    def release(self) -> None: ...


class Databases(Protocol):
    """Databases in the data. Raises OSError where one cannot be read or written."""

    def is_database(self, path: str) -> bool: ...

    def copy(self, source: str, target: str) -> None:
        """A consistent copy into a new file."""

    def canonical(self, path: str) -> tuple[int, str]:
        """Number of rows and a digest over what is in it, whatever the layout of the file."""

    def contents(self, path: str) -> Iterator[tuple[str, tuple[str, ...], tuple[Any, ...]]]:
        """Every row, with its table and the names of its columns."""

    def rows(self, path: str, query: str) -> Iterator[tuple[Any, ...]]:
        """What a query answers; changes nothing."""

    def execute(self, path: str, sql: str, value: int) -> None:
        """Do a statement with the parameter `:value`; durable when it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """A migration step, while it runs and when it has ended. `code` is its exit code, None where it was killed or still
    runs; `said` the end of its output, `trouble` why it was killed."""

    name: str
    ended: bool
    code: int | None = None
    seconds: float = 0.0
    said: str = ""
    trouble: str = ""


class Steps(Protocol):
    """The migration steps of the image that runs."""

    def run(self, directory: str, format_from: int, format_to: int) -> Iterator[StepRun]:
        """Each in the order of their names: now and then while it runs, and once when it has `ended`. Closing it kills
        what runs. Raises OSError where they cannot be listed."""


class Schema(Protocol):
    """By what the image that runs judges parameters."""

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal; nothing where the image takes no parameters."""

    def check(self, value: Any) -> None:
        """Raises PosagentError `parameters_invalid`, which names the place and the rule, and no value."""


class Publisher(Protocol):
    """The one name by which the payment application finds its data, or its parameters; gone after a restart of the
    system."""

    def published(self) -> str:
        """The directory or file it leads to, or nothing."""

    def publish(self, path: str, *, trial: bool = False) -> None:
        """`trial`: a rollback would lose what is written there, and whoever finds it can see that."""

    def withhold(self) -> None: ...
