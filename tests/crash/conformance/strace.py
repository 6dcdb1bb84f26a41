"""System calls that change files, as `strace -f` saw them: started, read back, one record a call.

Owns: the command line of strace and its output format. A call that another thread's line cut in two
(`<unfinished ...>`, `resumed`) is one record here, with the lines of its beginning and its end: what ended before
another began came first for certain.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice", "fallocate"),
    *("open", "openat", "openat2", "creat", "truncate", "ftruncate", "mmap", "ioctl", "io_uring_setup"),
    *("fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "mknod", "mknodat"),
)
"""Every call by which a process could change what a power cut leaves, whether it should use it or not."""
FORKS = ("clone", "clone3", "fork", "vfork")
FOLLOWED = ("execve", "close", "lseek", "dup", "dup2", "dup3", *FORKS)
STRING_BYTES = 256
"""Of what is written, strace keeps the beginning: enough for a journal record's event and a whole boot environment."""

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>,? ?(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(?:<(.*?)>)?(?: .*|\(deleted\))?")
_UNFINISHED = " <unfinished ...>"
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<((?:[^<>]|<[^<>]*>)*)>")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call, from line `begin` to `end` of the trace; `result` is None where it never ended."""

    tid: int
    name: str
    args: str
    result: int | None
    opened: str
    begin: int
    end: int

    @property
    def failed(self) -> bool:
        return self.result is not None and self.result < 0

    @property
    def strings(self) -> list[bytes]:
        """The quoted arguments; the last may be cut short."""
        return [_unescaped(found[1]) for found in _STRING.finditer(self.args)]

    @property
    def descriptors(self) -> list[tuple[int, str]]:
        """Descriptors among the arguments with the paths they stand for; -1 is the working directory."""
        without = _STRING.sub('""', self.args)
        return [(-1 if one[1] == "AT_FDCWD" else int(one[1]), one[2]) for one in _DESCRIPTOR.finditer(without)]

    @property
    def numbers(self) -> list[int]:
        """The plain numbers among the arguments, in their order."""
        without = _DESCRIPTOR.sub("", _STRING.sub("", self.args))
        return [int(one) for one in re.findall(r"(?<![\w|])-?\d+(?![\w|])", without)]

    def __str__(self) -> str:
        return f"line {self.begin}: {self.name}({self.args[:160]}) = {self.result}"


def command(trace: Path, words: list[str]) -> list[str]:
    """`words` under strace: all children, descriptors with their paths, only the calls above stop a process."""
    calls = ",".join((*CHANGING, *FOLLOWED))
    options = ["--follow-forks", "--seccomp-bpf", "--decode-fds=path", "-e", "signal=none", "-s", str(STRING_BYTES)]
    return ["strace", *options, "-e", f"trace={calls}", "-o", str(trace), *words]


def missing() -> str | None:
    """Why nothing can be traced here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian package strace): nothing compares the model with real system calls"
    probe = subprocess.run(command(Path("/dev/null"), ["true"]), capture_output=True, text=True, check=False)
    return f"strace cannot trace here: {probe.stderr.strip()}" if probe.returncode else None


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls in the order in which they ended, then those that never did."""
    begun: dict[int, tuple[str, int]] = {}
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line.rstrip("\n"))
        assert found is not None, f"line {number} is none of strace's: {line!r}"
        tid, text = int(found[1]), found[2]
        if text.startswith(("+++", "---")):
            continue
        begin = number
        if resumed := _RESUMED.fullmatch(text):
            first, begin = begun.pop(tid)
            text = first + resumed[2]
        if text.endswith(_UNFINISHED):
            begun[tid] = text.removesuffix(_UNFINISHED), begin
            continue
        yield _call(tid, text, begin, number)
    for tid, (text, begin) in begun.items():
        name, _, args = text.partition("(")
        yield Call(tid, name, args, None, "", begin, begin)


def _call(tid: int, text: str, begin: int, end: int) -> Call:
    found = _CALL.fullmatch(text)
    assert found is not None, f"line {end} is no system call: {text!r}"
    result = None if found[3] == "?" else int(found[3], 0)
    return Call(tid, found[1], found[2], result, found[4] or "", begin, end)


def _unescaped(text: str) -> bytes:
    """strace escapes as C does, which Python reads."""
    value = ast.literal_eval(f'b"{text}"')
    assert isinstance(value, bytes)
    return value
