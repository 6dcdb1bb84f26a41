"""What system calls did to a terminal's storage, in the words of the port.

Rules: a call that reaches one of the terminal's devices is either understood or listed as `unexplained`, so that
nothing can persist anything in a way the port does not know. A file that is created without content is a write of no
bytes; a directory made and its parent synced is the port's `make_dir`, which is durable.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from posagent.core.durable import parent
from posagent.core.ports import BootState
from posagent.sim.layout import ENV_SIZE, Layout
from tests.crash.conformance import operations, strace
from tests.crash.conformance.operations import Operation
from tests.crash.conformance.strace import Call

HEADER_BYTES = 5
"""Before the variables of a copy of a redundant U-Boot environment: a CRC32 and the counter."""
PROGRAMS = {
    r"-m posagent\.daemon ": "agent",
    r"-m posagent\.(\w+)\.service ": r"\1",
    r"/fw_setenv .*boot/places\.config": "bootloader",
    r"/fw_setenv .*etc/fw_env\.config": "fw_setenv",
    r"/debugfs ": "kernel",
}
"""A piece of a command line, and whose process that is: debugfs reads a started slot, as the kernel's mount would."""
HARMLESS = {"ioctl": "TCGETS", "mmap": "MAP_PRIVATE"}


def boot_state(variables: bytes) -> BootState:
    """Order and tries in the variables of an environment, which begin `data` and may be cut short after them."""
    pairs = (one.partition("=") for one in variables.partition(b"\0\0")[0].decode().split("\0"))
    values = {name: value for name, _, value in pairs}
    tries = {slot: int(values[f"BOOT_{slot}_LEFT"]) for slot in ("a", "b")}
    return BootState(order=tuple(values["BOOT_ORDER"].split()), tries=tries)


@dataclass(slots=True)
class _Open:
    """An open descriptor of a device; `created` is the call that made the file, until something is written."""

    path: str
    flags: frozenset[str]
    at: int = 0
    created: Call | None = None


@dataclass(slots=True)
class _Places:
    """The terminal's devices among all paths, under the model's names."""

    layout: Layout

    def name(self, path: str) -> str | None:
        """`/data/…`, `a`, `b` or `env`; None for what is no storage of the terminal's."""
        devices = {str(self.layout.slot("a")): "a", str(self.layout.slot("b")): "b", str(self.layout.env): "env"}
        if path in devices:
            return devices[path]
        data = str(self.layout.root / "data")
        if path == str(self.layout.root):
            return "/"
        if path != data and not path.startswith(data + "/"):
            return None
        inside = "/data" + path.removeprefix(data)
        return "/data/agent" + inside.removeprefix("/data/posagent") if inside.startswith("/data/posagent") else inside


@dataclass(slots=True)
class Storage:
    """Reads calls one after the other; `operations` and `unexplained` are the result, `commands` are the
    programs that ran, and `direct_refused` tells that a file system does without O_DIRECT."""

    places: _Places
    unexplained: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    direct_refused: bool = False
    _done: list[Operation] = field(default_factory=list)
    _files: set[str] = field(default_factory=set)
    _open: dict[tuple[int, int], _Open] = field(default_factory=dict)
    _who: dict[int, str] = field(default_factory=dict)
    _parents: dict[int, int] = field(default_factory=dict)
    _copy: int = 0

    @property
    def operations(self) -> list[Operation]:
        """In the order in which they began."""
        never_closed = [self._creation(one) for one in self._open.values() if one.created is not None]
        known = [dataclasses.replace(one, who=self._name(one.who)) for one in (*self._done, *never_closed)]
        return _with_make_dirs(sorted(known, key=lambda one: one.begin))

    def _name(self, who: str) -> str:
        """Whose process that is; one that was only forked (`#` and its number) is its parent's."""
        while who.startswith("#"):
            parent_tid = self._parents.get(int(who[1:]))
            who = "" if parent_tid is None else self._who.get(parent_tid, f"#{parent_tid}")
        return who

    def take(self, call: Call) -> None:
        if call.failed:
            self.direct_refused |= "O_DIRECT" in call.args
            return
        if call.name == "execve":
            self._executed(call)
        elif call.name in strace.FORKS:
            self._parents[call.result or 0] = call.tid
        elif call.name in _HANDLERS:
            _HANDLERS[call.name](self, call)
        elif call.name not in strace.FOLLOWED or call.name.startswith("dup"):
            self._other(call)

    def _executed(self, call: Call) -> None:
        words = " ".join(word.decode(errors="replace") for word in call.strings)
        found = ((re.search(part, words), who) for part, who in PROGRAMS.items())
        self._who[call.tid] = next((piece.expand(who) for piece, who in found if piece is not None), "other")
        self.commands.append(f"{self._who[call.tid]}: {words[:200]}")

    def _opened(self, call: Call) -> None:
        path = self.places.name(call.opened)
        if path is None or call.result is None:
            return
        flags = frozenset(part for part in call.args.replace(",", "|").replace(" ", "").split("|") if part[:2] == "O_")
        found = _Open(path, flags)
        self._open[call.tid, call.result] = found
        if "O_TRUNC" in flags or "O_APPEND" in flags:
            self._unexplained(call)
        if "O_CREAT" in flags and path not in self._files:
            self._files.add(path)
            found.created = call

    def _closed(self, call: Call) -> None:
        found = self._open.pop((call.tid, int(call.args.partition("<")[0])), None)
        if found is not None and found.created is not None:
            self._done.append(self._creation(found))

    def _creation(self, found: _Open) -> Operation:
        call = found.created
        assert call is not None
        return self._operation(call, operations.file_write(found.path, 0, 0, b""))

    def _sought(self, call: Call) -> None:
        found = self._descriptor(call)
        if found is not None and call.result is not None:
            found.at = call.result

    def _written(self, call: Call) -> None:
        path = self._path(call)
        if path is None:
            return
        found = self._descriptor(call)
        if found is None or call.result is None:
            self._unexplained(call)
            return
        offset = call.numbers[-1] if call.name == "pwrite64" else found.at
        found.at, found.created = offset + call.result, None
        self._done.append(self._operation(call, self._write(path, offset, call), direct="O_DIRECT" in found.flags))
        if found.flags & {"O_SYNC", "O_DSYNC"}:
            self._done.append(self._operation(call, self._flush(path, found)))

    def _write(self, path: str, offset: int, call: Call) -> str:
        assert call.result is not None
        data = call.strings[0][: call.result]
        if path == "env":
            self._copy = offset // ENV_SIZE
            if offset % ENV_SIZE or call.result != ENV_SIZE:
                self._unexplained(call)
            return operations.environment_write(self._copy, boot_state(data[HEADER_BYTES:]))
        if path in ("a", "b"):
            return f"pwrite {path} {offset}+{call.result}"
        return operations.file_write(path, offset, call.result, data)

    def _flushed(self, call: Call) -> None:
        path, found = self._path(call), self._descriptor(call)
        if path is None:
            return
        if found is None or call.result is None:
            self._unexplained(call)
        else:
            self._done.append(self._operation(call, self._flush(path, found)))

    def _flush(self, path: str, found: _Open) -> str:
        if path == "env":
            return f"env sync {self._copy}"
        if path in ("a", "b"):
            return f"flush {path}"
        return f"{'sync_dir' if 'O_DIRECTORY' in found.flags else 'sync'} {operations.named(path)}"

    def _truncated(self, call: Call) -> None:
        path = self._path(call)
        if path is not None:
            self._done.append(self._operation(call, f"truncate {operations.named(path)} {call.numbers[-1]}"))

    def _renamed(self, call: Call) -> None:
        paths = self._names(call)
        if None in paths and len(set(paths)) > 1:
            self._unexplained(call)
        elif None not in paths:
            source, target = (operations.named(str(path)) for path in paths)
            self._files = self._files - {str(paths[0])} | {str(paths[1])}
            self._done.append(self._operation(call, f"rename {source} {target}"))

    def _unlinked(self, call: Call) -> None:
        (path,) = self._names(call)
        if path is not None:
            self._files.discard(path)
            self._done.append(self._operation(call, f"unlink {operations.named(path)}"))

    def _made_dir(self, call: Call) -> None:
        (path,) = self._names(call)
        if path is not None:
            self._done.append(self._operation(call, f"mkdir {path}"))

    def _other(self, call: Call) -> None:
        """What the port does not do: listed where it reaches a device, or could."""
        paths = [path for _, path in call.descriptors] + [word.decode(errors="replace") for word in call.strings]
        ours = any(self.places.name(path) not in (None, "/") for path in paths)
        excused = call.name in HARMLESS and HARMLESS[call.name] in call.args
        if call.name in ("sync", "io_uring_setup") or (ours and not excused):
            self._unexplained(call)

    # inside

    def _unexplained(self, call: Call) -> None:
        self.unexplained.append(f"{self._who.get(call.tid, '')} {call}")

    def _operation(self, call: Call, text: str, direct: bool = False) -> Operation:
        if call.result is None:
            self._unexplained(call)
        return Operation(text, call.begin, call.end, self._who.get(call.tid, f"#{call.tid}"), direct)

    def _descriptor(self, call: Call) -> _Open | None:
        return self._open.get((call.tid, call.descriptors[0][0])) if call.descriptors else None

    def _path(self, call: Call) -> str | None:
        return self.places.name(call.descriptors[0][1]) if call.descriptors else None

    def _names(self, call: Call) -> list[str | None]:
        """The paths in the call's strings; relative ones begin at the descriptors before them."""
        bases = [path for _, path in call.descriptors] or ["/"] * 2
        words = [word.decode(errors="replace") for word in call.strings]
        return [self.places.name(str(Path(base) / word)) for base, word in zip([*bases, *bases], words, strict=False)]


_HANDLERS: dict[str, Callable[[Storage, Call], None]] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), Storage._opened),
    **dict.fromkeys(("write", "pwrite64"), Storage._written),
    **dict.fromkeys(("fsync", "fdatasync"), Storage._flushed),
    **dict.fromkeys(("rename", "renameat", "renameat2"), Storage._renamed),
    **dict.fromkeys(("unlink", "unlinkat"), Storage._unlinked),
    **dict.fromkeys(("mkdir", "mkdirat"), Storage._made_dir),
    "ftruncate": Storage._truncated,
    "close": Storage._closed,
    "lseek": Storage._sought,
}


def _with_make_dirs(done: list[Operation]) -> list[Operation]:
    """A `mkdir` and the sync of its parent right after it, by the same process, as one `make_dir`."""
    found: list[Operation] = []
    for one in done:
        words = found[-1].text.split() if found else [""]
        if words[0] == "mkdir" and one.who == found[-1].who and one.text == f"sync_dir {parent(words[1])}":
            found[-1] = dataclasses.replace(found[-1], text=f"make_dir {words[1]}", end=one.end)
        else:
            found.append(one)
    return found


def read(lines: Iterable[str], layout: Layout) -> Storage:
    """All that was done to the storage of the terminal in `layout`, which began with an empty data partition."""
    storage = Storage(_Places(layout))
    for call in strace.calls(lines):
        storage.take(call)
    return storage
