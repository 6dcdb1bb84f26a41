"""Why this start of the system was necessary, as Linux, its crash store and two marks on the data partition tell it.

Rules: nothing is believed for two starts. What an earlier look has found is known by its content, so a crash record
that systemd-pstore has moved stays the same record; where no earlier look is on record, or it did not see everything,
the age of what lies there is unknown and nobody believes it. The first look of a start writes its finding before it
removes the marks, and every later look of that start repeats it: a power cut in between costs a removal, which the
finding makes up for. A start that dies before its finding is durable has left no trace: to the next one it never was.
Order of belief: the boot script's word (but a new panic beats `reboot` and `watchdog`), the crash store, the watchdog's
status, the marks, and last that nothing at all was left behind, which is how a power cut looks. Where the only trace is
a mark of the last start that looked, it may be older than starts that died before they could look: `traceless`.
Sources: Linux Documentation/ABI/testing/pstore, include/uapi/linux/watchdog.h, systemd-pstore.service(8).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from posagent.core import durable
from posagent.core.ports import Files, ResetCause, ResetReport
from posagent.platform.pstore import SAFE_FLAGS, CrashRecord, CrashStore

FINDING, SHUTDOWN_MARK, TRIAL_LOG = "reset.json", "shutdown", "trial-log"
"""Names in the installer's directory. Both marks begin with a line that has the boot id of the system that ended."""

LINES_MAX, LINE_CHARS_MAX, LOG_BYTES_MAX = 20, 160, 3500
PANIC_WORDS = "Kernel panic - not syncing"
TEXT_BYTES_MAX = FINDING_BYTES_MAX = 1 << 16
SEEN_MAX = 1024

WDIOF_POWERUNDER, WDIOF_CARDRESET = 0x10, 0x20

# Among what was seen, what counts for one look only: not all was looked at; of one record only the name (NAME_ONLY).
_NO_STORE, _NO_MARKS, _ONE_LOOK = "*store", "*marks", "*"
_WORDS = {cause.value: cause for cause in ResetCause if cause is not ResetCause.UNKNOWN}
_BOOT_ID = re.compile(r"[0-9a-f-]{16,64}")
_LEVEL = re.compile(r"^(<\d{1,4}>)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A file that an orderly end of a system left behind."""

    name: str
    boot_id: str
    rest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """What the first look of a start found out; `seen` is all that no later start may believe."""

    boot_id: str
    cause: ResetCause
    traceless: bool
    log: tuple[str, ...]
    seen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fresh:
    """What was left behind since the last look. `dated` is False where things lie there whose age is unknown."""

    records: tuple[CrashRecord, ...]
    marks: dict[str, _Mark]
    dated: bool


class LinuxResets:
    """core.ports.Resets over the kernel's command line, its crash store and watchdog, and what systemd units left."""

    def __init__(
        self,
        *,
        files: Files,
        cmdline_file: str = "/proc/cmdline",
        cmdline_key: str = "posagent.reset",
        pstore_dirs: Sequence[str] = ("/sys/fs/pstore", "/var/lib/systemd/pstore"),
        bootstatus: str = "/sys/class/watchdog/watchdog0/bootstatus",
        state_dir: str = "/var/lib/posagent-installer",
        boot_id_file: str = "/proc/sys/kernel/random/boot_id",
    ) -> None:
        self._files = files
        self._cmdline_file = cmdline_file
        self._cmdline_key = cmdline_key
        self._pstore_dirs = tuple(pstore_dirs)
        self._bootstatus_file = bootstatus
        self._state_dir = state_dir.rstrip("/")
        self._boot_id_file = boot_id_file

    def read(self) -> ResetReport:
        boot_id = _boot_id(_text(self._boot_id_file))
        if not boot_id:
            return ResetReport()  # what cannot be tied to one start would be believed for every start
        finding = self._recorded()
        if finding is None or finding.boot_id != boot_id:
            finding = self._look(boot_id, finding)
        return ResetReport(cause=finding.cause, traceless=finding.traceless, boot_id=boot_id, log=finding.log)

    def _look(self, boot_id: str, earlier: _Finding | None) -> _Finding:
        """The first look of this start."""
        store = CrashStore(self._pstore_dirs)
        marks, marks_whole = self._marks(boot_id)
        fresh = _fresh(store.records, marks, {_NO_STORE, _NO_MARKS} if earlier is None else set(earlier.seen))
        cause = self._cause(fresh, store.empty)
        shutdown = fresh.marks.get(SHUTDOWN_MARK)
        traceless = (
            cause is ResetCause.REBOOT
            and self._word() is None
            and not self._bootstatus()
            and earlier is not None
            and shutdown is not None
            and shutdown.boot_id == earlier.boot_id
            and not fresh.records  # memory without power forgets the last words of an orderly end as well
        )
        seen = ([] if store.whole else [_NO_STORE]) + ([] if marks_whole else [_NO_MARKS])
        seen += [record.key for record in store.records] + [mark.boot_id for mark in marks]
        # Records of the other slot's archive are out of sight now and come back with that slot.
        seen += [key for key in (earlier.seen if earlier else ()) if not key.startswith(_ONE_LOOK)]
        kept = tuple(dict.fromkeys(seen))[:SEEN_MAX]
        finding = _Finding(boot_id=boot_id, cause=cause, traceless=traceless, log=_log(fresh, cause), seen=kept)
        self._keep(finding, marks)
        return finding

    def _cause(self, fresh: _Fresh, store_empty: bool) -> ResetCause:
        word, trial = self._word(), TRIAL_LOG in fresh.marks
        if word in (ResetCause.POWER, ResetCause.BROWN_OUT, ResetCause.PANIC):
            return word
        if any(record.panic for record in fresh.records):
            return ResetCause.PANIC  # a kernel that panics restarts itself, or the watchdog does it
        if word is not None:
            return ResetCause.WATCHDOG if trial else word
        status = self._bootstatus()
        if status is not None and status & WDIOF_CARDRESET:
            return ResetCause.WATCHDOG
        if status is not None and status & WDIOF_POWERUNDER:
            return ResetCause.BROWN_OUT
        if trial:
            return ResetCause.WATCHDOG  # in good order, but because nobody confirmed the new system
        if SHUTDOWN_MARK in fresh.marks:
            return ResetCause.REBOOT
        nothing_left = status == 0 or (status is None and store_empty and not fresh.records)
        return ResetCause.POWER if nothing_left and fresh.dated else ResetCause.UNKNOWN

    def _word(self) -> ResetCause | None:
        """What the boot script says that the reset register said; as with the kernel's options the last one counts."""
        key = self._cmdline_key + "="
        words = [word.removeprefix(key) for word in (_text(self._cmdline_file) or "").split() if word.startswith(key)]
        causes = [_WORDS[word] for word in words if word in _WORDS]
        return causes[-1] if causes else None

    def _bootstatus(self) -> int | None:
        text = (_text(self._bootstatus_file) or "").strip()
        return int(text) if text.isdigit() and len(text) <= 10 else None

    def _path(self, name: str) -> str:
        return f"{self._state_dir}/{name}"

    def _marks(self, boot_id: str) -> tuple[list[_Mark], bool]:
        """The marks of earlier starts (this start's own is for the next one), and whether all could be read."""
        found, whole = [], True
        for name in (SHUTDOWN_MARK, TRIAL_LOG):
            try:
                size = self._files.size(self._path(name))
                data = b"" if size is None else self._files.read(self._path(name), 0, min(size, TEXT_BYTES_MAX))
            except OSError:
                whole = False
                continue
            first, _, rest = data.partition(b"\n")
            ended = _boot_id(first.decode("ascii", "replace"))
            if ended not in ("", boot_id):
                found.append(_Mark(name=name, boot_id=ended, rest=rest))
        return found, whole

    def _recorded(self) -> _Finding | None:
        try:
            return _finding_of(durable.read_json(self._files, self._path(FINDING), FINDING_BYTES_MAX))
        except OSError:
            return None

    def _keep(self, finding: _Finding, marks: Iterable[_Mark]) -> None:
        try:
            self._files.make_dir(self._state_dir)
            durable.replace_json(self._files, self._path(FINDING), asdict(finding))
            for mark in marks:
                durable.remove(self._files, self._path(mark.name))
        except OSError:
            pass  # the marks still lie there, so the next look of this start comes to the same finding


def _fresh(records: Sequence[CrashRecord], marks: Sequence[_Mark], seen: set[str]) -> _Fresh:
    stores_known, marks_known = _NO_STORE not in seen, _NO_MARKS not in seen
    new = [one for one in records if stores_known and one.key not in seen and one.name_key not in seen]
    fresh_marks = {mark.name: mark for mark in marks if marks_known and mark.boot_id not in seen}
    dated = (stores_known or not records) and (marks_known or not marks)
    return _Fresh(records=tuple(new), marks=fresh_marks, dated=dated)


def _log(fresh: _Fresh, cause: ResetCause) -> tuple[str, ...]:
    """The last lines of the system before this start, from whoever saw most of how it ended."""
    panics = sorted((record for record in fresh.records if record.panic and record.tail), key=lambda one: one.age)
    consoles = sorted((record for record in fresh.records if record.console), key=lambda one: one.age)
    kernel = panics[-1:] if cause is ResetCause.PANIC and panics else consoles[-1:]
    tails = [_lines(record.tail) for record in kernel]
    trial = [_lines(fresh.marks[TRIAL_LOG].rest)] if TRIAL_LOG in fresh.marks else []
    found = trial + tails if cause is ResetCause.WATCHDOG else tails + trial
    return next((lines for lines in found if lines), ())


def _lines(data: bytes) -> tuple[str, ...]:
    """The last lines that fit into the answer, which is JSON."""
    kept: list[str] = []
    room = LOG_BYTES_MAX
    lines = [line for line in map(_line, data.decode("ascii", "replace").split("\n")) if line]
    # what the panic was about comes before its stack trace, which may be longer than what is kept
    lines += [line for line in lines[:-LINES_MAX] if PANIC_WORDS in line][-1:]
    for line in lines[: -LINES_MAX - 1 : -1]:
        room -= len(json.dumps(line)) + 1
        if room < 0:
            break
        kept.insert(0, line)
    return tuple(kept)


def _line(text: str) -> str:
    """Cleaning a clean line changes nothing: what was kept is answered again as it was."""
    plain = _LEVEL.sub("", text.rstrip().replace("\t", " "))
    return re.sub(r"[^ -~]", "?", plain)[:LINE_CHARS_MAX].rstrip()


def _text(path: str) -> str | None:
    """One small file of the kernel's; its size is not told beforehand."""
    try:
        descriptor = os.open(path, SAFE_FLAGS)
        try:
            return os.read(descriptor, TEXT_BYTES_MAX).decode("ascii", "replace")
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _boot_id(text: str | None) -> str:
    """The boot id in `text`, empty where it is none."""
    stripped = (text or "").strip()
    return stripped if _BOOT_ID.fullmatch(stripped) else ""


def _finding_of(value: object) -> _Finding | None:
    """The finding that was kept; None where it is damaged."""
    if not isinstance(value, dict) or not isinstance(value.get("boot_id"), str):
        return None
    cause, log, seen = value.get("cause"), _strings(value.get("log")), _strings(value.get("seen"))
    if cause not in list(ResetCause) or log is None or seen is None:
        return None
    lines = _lines("\n".join(log).encode("ascii", "replace"))
    return _Finding(
        boot_id=value["boot_id"],
        cause=ResetCause(cause),
        traceless=value.get("traceless") is True,
        log=lines,
        seen=tuple(seen),
    )


def _strings(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None
