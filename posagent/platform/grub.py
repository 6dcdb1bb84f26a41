"""GRUB's environment block through the real grub-editenv: which slot is tried next, and how often.

GRUB reads the block (`load_env`), counts down and saves it in place (`save_env`); docs/boot/grub.cfg is that script.
What makes it safe, though a block has no checksum:
* There are two copies, in two files. The first one that is whole is in use, for the script and for us. We write the one
  that is not in use first, flush it and read it back, then the other.
* Order and tries stand between two equal marks (`posagent_begin`, `posagent_end`). A block that a power cut has torn
  has unequal ones, and counts as unreadable. Without marks, as a factory makes it, they are equal too: empty.
* Our variables come first, within the first 512 bytes: one sector. When GRUB counts down, it changes one digit there: a
  torn `save_env` leaves the old digit or the new one, and never touches the other copy.
* Files are overwritten where they lie. grub-editenv itself empties the file before it fills it, so it only gets a
  scratch copy. A rename would be atomic for Linux but not for GRUB, which does not replay a file system's journal:
  after a cut it still sees the old file, on blocks that may belong to somebody else by then (seen on ext4).

Never: write where no copy is whole, or create both. That is `boot_env_missing`; the script then starts its default
slot, and a person makes both anew (docs/boot/README.md).
Source: GRUB 2.06, lib/envblk.c, commands/loadenv.c, util/grub-editenv.c.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from pathlib import Path

from posagent.config import BootConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.platform.bootctl import TIMEOUT_S, BootVariables, Variables, pairs, script
from posagent.platform.commands import CommandFailed, run
from posagent.platform.storage import LinuxFiles

BLOCK_BYTES = 1024
SECTOR_BYTES = 512
BEGIN, END = "posagent_begin", "posagent_end"
_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


class GrubBootControl(BootVariables):
    """core.ports.BootControl. Raises BootControlError."""

    def __init__(self, boot: BootConfig, slots: SlotsConfig) -> None:
        super().__init__(boot, slots, order_variable=boot.order_variable, tries_variable=boot.tries_variable)
        # A link would be written through by GRUB; LinuxFiles follows none.
        self._copies = tuple(dict.fromkeys(os.path.realpath(path) for path in boot.grub_files))
        self._files = LinuxFiles()

    def _load(self) -> Variables:
        return self._in_use()[1]

    def _in_use(self) -> tuple[str, Variables]:
        """The copy that GRUB would take, with what it holds."""
        if self._boot.require_redundant_env and len(self._copies) < 2:
            raise BootControlError("boot_env_not_redundant", f"boot.grub_files names {len(self._copies)} file(s)")
        problems = []
        for path in self._copies:
            try:
                return path, self._copy(path)
            except _Unreadable as problem:
                problems.append(str(problem))
        raise BootControlError("boot_env_missing", "; ".join(problems))

    def _copy(self, path: str) -> Variables:
        try:
            if self._files.size(path) is None:  # grub-editenv would make one
                raise _Unreadable(f"{path}: is missing")
            variables = dict(pairs(self._editenv(path, "list")))
        except OSError as error:
            raise _Unreadable(f"{path}: {error.strerror}") from None
        except CommandFailed as error:
            raise _Unreadable(str(error)) from None
        if variables.get(BEGIN) != variables.get(END):
            raise _Unreadable(f"{path}: torn while it was written")
        if not variables.get(self._order_variable):
            raise _Unreadable(f"{path}: has no {self._order_variable}")
        return variables

    def _store(self, wanted: Variables, present: Variables) -> None:
        in_use, _ = self._in_use()
        variables = self._arranged(wanted, present)
        block = self._block(variables)
        for path in sorted(self._copies, key=lambda path: path == in_use):
            try:
                self._overwrite(path, block)
            except OSError as error:
                raise BootControlError("boot_env_write", f"{path}: {error.strerror}") from error
            self._check(path, variables)

    def _check(self, path: str, variables: Variables) -> None:
        try:
            if self._copy(path) == variables:
                return
        except _Unreadable as problem:
            raise BootControlError("boot_env_write", str(problem)) from None
        raise BootControlError("boot_env_write", f"{path}: what was read back is not what was written")

    def _arranged(self, wanted: Variables, present: Variables) -> Variables:
        """Ours between the marks, then what others keep in the block; names that GRUB could not use are dropped."""
        names = (self._order_variable, *self._tries_variables.values())
        ours = {name: value for name, value in {**present, **wanted}.items() if name in names}
        mark = f"{zlib.crc32(script(ours)):08x}"  # equal marks of two writes mean equal content, which cannot be torn
        others = {name: value for name, value in present.items() if name not in (*names, BEGIN, END)}
        return {BEGIN: mark, **ours, END: mark, **others}

    def _block(self, variables: Variables) -> bytes:
        """The block that holds the variables, in their order."""
        with tempfile.TemporaryDirectory(prefix="posagent-") as scratch:
            path = f"{scratch}/grubenv"
            try:
                self._editenv(path, "create")
                self._editenv(path, "set", *(f"{name}={value}" for name, value in variables.items()))
            except CommandFailed as error:
                raise BootControlError("boot_env_write", str(error)) from None
            self._check(path, variables)
            block = Path(path).read_bytes()
        mark = f"\n{END}={variables[END]}\n".encode()
        if len(block) != BLOCK_BYTES or mark not in block[:SECTOR_BYTES]:
            raise BootControlError("boot_env_write", f"our variables need more than the first {SECTOR_BYTES} bytes")
        return block

    def _overwrite(self, path: str, block: bytes) -> None:
        size = self._files.size(path)
        self._files.write(path, 0, block)
        if size != BLOCK_BYTES:
            self._files.truncate(path, BLOCK_BYTES)
        self._files.sync(path)
        if size is None:
            self._files.sync_dir(os.path.dirname(path))

    def _editenv(self, path: str, verb: str, *words: str) -> bytes:
        return run([self._boot.grub_editenv, path, verb, *words], timeout_s=TIMEOUT_S)


class _Unreadable(Exception):
    """One copy is not whole; says which and why."""
