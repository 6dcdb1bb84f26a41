"""posagent-installer: the privileged worker put together. A composition root; nobody but the simulator imports it.

Rules: it trusts nobody. `plan`, `check` and `write` open the bundle once, inside the spool only, and decide about
signatures, hardware and the rollback floor by themselves each time. What needs no bundle stays light: the trust library
and the decompressor are imported by the verbs that use them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

from posagent import worker
from posagent.config import Config
from posagent.core import packing, parameters, pieces
from posagent.core.codec import Codec, CodecKind
from posagent.core.errors import BundleError, PosagentError, Refusal, SlotError
from posagent.core.parameters import Staged
from posagent.core.ports import Message, Verb
from posagent.installer import opening
from posagent.installer.opening import Contents, Opened, Ports
from posagent.installer.permits import Permits
from posagent.installer.slots import NAMES, Slots
from posagent.platform.apart import apart
from posagent.platform.blockdev import LinuxBlockDevice
from posagent.platform.boot import boot_control, running_version
from posagent.platform.commands import CommandFailed, run
from posagent.platform.host import LinuxClock
from posagent.platform.reset import LinuxResets
from posagent.platform.storage import LinuxFiles, open_inside

REBOOT_COMMAND_S = 60.0
PLAN_MAX = 1024
"""Parts of a bundle that are asked for."""
WORD_LENGTH_MAX = 4096


def linux_ports(config: Config) -> Ports:
    devices = {"a": config.slots.a.device, "b": config.slots.b.device}
    return Ports(
        files=LinuxFiles(),
        boot=boot_control(config.boot, config.slots),
        clock=LinuxClock(),
        open_slot=lambda slot: LinuxBlockDevice(devices[slot]),
        read_slot=lambda slot: LinuxBlockDevice(devices[slot], writable=False),
        open_bundle=lambda path: open_inside(config.fetch.spool_dir, path),
        resets=LinuxResets(
            files=LinuxFiles(),
            state_dir=config.terminal.installer_dir,
            cmdline_file=config.boot.cmdline_file,
            cmdline_key=config.boot.reset_key,
            boot_id_file=config.boot.boot_id_file,
        ),
        apart=apart,
        codecs=codec,
        open_log=lambda: _open_log(config.terminal.state_dir),
    )


def _open_log(state_dir: str) -> Opened:
    from posagent.core.audit import FILE

    return open_inside(state_dir, f"{state_dir}/{FILE}")


def codec(kind: CodecKind, level: int) -> Codec | None:
    from posagent.platform import codecs  # only where a delta needs one

    return codecs.find(kind, level)


class Installer:
    """The verbs. Each raises PosagentError."""

    def __init__(self, config: Config, ports: Ports) -> None:
        self._config = config
        self._ports = ports
        self._slots = Slots(
            ports.files,
            config.terminal.installer_dir,
            ports.boot,
            tries_full=config.boot.tries_full,
            floor_min=config.trust.rollback_floor,
            running_version=running_version(config.terminal.os_release_file),
        )
        self._permits = Permits(config, ports)

    @property
    def verbs(self) -> Mapping[str, Verb]:
        return {
            "observe": self._observe,
            "plan": self._plan,
            "check": lambda args: _complete(self._check(args)),
            "stage": lambda args: _complete(self._write(args, partial=True)),
            "write": lambda args: _complete(self._write(args)),
            "arm": lambda args: _done(self._slots.arm, _word(args, "slot")),
            "disarm": lambda args: _done(self._slots.disarm, _word(args, "slot")),
            "prefer": lambda args: _done(self._slots.prefer, _word(args, "slot")),
            "renew": lambda _: _done(self._slots.renew),
            "refresh": lambda _: _done(self._slots.refresh),
            "mark_good": lambda _: _done(self._mark_good),
            "mark_bad": lambda args: _done(self._slots.mark_bad, _word(args, "slot")),
            "reboot": lambda _: _done(self._reboot),
            "prove_slot": self._prove_slot,
            "engineer": self._engineer,
            "seal_audit": self._seal_audit,
        }

    def _observe(self, _: Mapping[str, Any]) -> Iterator[Message]:
        """What core.model.Observation needs."""
        report = self._ports.resets.read()
        reset = {"reset": report.cause.value, "traceless": report.traceless, "boot_id": report.boot_id}
        yield {"result": {**self._slots.observe(), **reset, "log": list(report.log)}}

    def _plan(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{bundle, whole?, price?}`: which parts of it are needed here, only small ones if not `whole`, large ones
        where they save the `price` (core.packing); result `{wanted: [[offset, length], …], tables, complete, refused,
        large, small}`: why there is a delta that cannot be used here, or nothing; and so many bytes of the image are
        made of operations of either kind.

        Until it is `complete`, it wants what it needs to know more; then `tables` are the parts by which it knows.
        """
        from posagent.core.bundle import Missing

        wanted: list[pieces.Piece] = []
        tables: list[pieces.Piece] = []
        refused, large, small = "", 0, 0
        try:
            with self._contents(args) as found:
                done, total, work = 0, found.manifest.image_size, found.work
                for looked_at in work.plan(wanted, _price(args)) if work is not None else ():
                    done = min(done + looked_at, total)
                    yield {"progress": {"bytes_done": done, "bytes_total": total, "step": "plan"}}
                tables = found.tables
                if work is not None:
                    refused, large, small = work.refused, work.large, work.small
            complete = True
        except Missing as missing:  # first the tables, alone: then plan again
            wanted, complete = [(missing.offset, missing.length)], False
        wanted, tables = pieces.joined(wanted, 0, PLAN_MAX), pieces.joined(tables, 0)
        made = {"large": large, "small": small}
        yield {"result": {"wanted": wanted, "tables": tables, "complete": complete, "refused": refused, **made}}

    def _check(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{bundle}`: whether it may be installed here: everything is made once, without touching a slot."""
        with self._contents(args) as found:
            chosen, done = found.manifest, 0
            for made in found.work.check() if found.work is not None else ():
                done = min(done + made, chosen.image_size)
                yield {"progress": {"bytes_done": done, "bytes_total": chosen.image_size, "step": "check"}}
            result = {
                "version": chosen.version,
                "digest": chosen.image_sha256,
                "image_size": chosen.image_size,
                "security_counter": chosen.security_counter,
                "target_slot": self._spare,
                "kind": found.kind,
                "profile": dict(chosen.profile),
                **chosen.terms,
            }
        yield {"result": result}

    def _write(self, args: Mapping[str, Any], partial: bool = False) -> Iterator[Message]:
        """`{bundle, slot, update_id}`: the bundle's image into the spare slot, or a `partial` one: as much of it as can
        be made of what was fetched. Its parameters are left for the data worker."""
        slot, update_id = _word(args, "slot"), _word(args, "update_id")
        self._slots.target(slot)
        with self._contents(args) as found:
            self._leave(found, slot, update_id)
            if found.work is None:
                yield {"result": {"bytes_written": 0}}
                return
            from posagent.installer.writer import write

            with opening.slot(self._ports.open_slot, slot) as device:
                yield from write(
                    slots=self._slots,
                    slot=slot,
                    device=device,
                    work=found.work,
                    update_id=update_id,
                    partial=partial,
                    threads=self._ports.threads,
                )

    def _leave(self, found: Contents, slot: str, update_id: str) -> None:
        """The parameters, or that there are none: what an earlier write left is for nobody any more."""
        new, staged = found.parameters, None
        if new is not None:
            alone = found.work is None
            holder = parameters.update_of(update_id) if alone else parameters.trial_of(slot, found.manifest.version)
            staged = Staged(holder=holder, version=new.version, sha256=new.sha256, data=found.data)
        try:
            parameters.stage(self._ports.files, self._config.terminal.installer_dir, staged)
        except OSError as error:
            raise SlotError("slot_io", f"{error.filename or ''}: {error.strerror or error}") from None

    def _prove_slot(self, _: Mapping[str, Any]) -> Iterator[Message]:
        """`{expected, found, approved}`: the running slot's digest as it was signed and as it is now."""
        from posagent.installer.proof import prove

        booted = self._ports.boot.booted()
        return prove(booted, self._slots.records()[booted], self._ports.read_slot)

    def _engineer(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{challenge, answer, role}`: `{name, serial, role, key}` of the engineer whose key answered the challenge."""
        answer = str(args.get("answer", ""))
        yield {"result": self._permits.engineer(_word(args, "challenge"), answer, _word(args, "role"))}

    def _seal_audit(self, _: Mapping[str, Any]) -> Iterator[Message]:
        """`{size, head, note, key, whole}`: a checkpoint over the agent's audit log as it is now."""
        from posagent.installer.notary import LOG_BYTES_MAX, Notary

        def read_log() -> bytes:
            with closing(self._ports.open_log()) as log:
                return log.pread(0, LOG_BYTES_MAX)

        terminal = self._config.terminal
        yield {"result": Notary(self._ports.files, terminal.installer_dir, terminal.id).seal(read_log)}

    def _contents(self, args: Mapping[str, Any]) -> AbstractContextManager[Contents]:
        allowed, whole = self._permits.allowed(), args.get("whole") is not False
        return opening.contents(self._config, self._ports, self._slots, _word(args, "bundle"), allowed, whole)

    @property
    def _spare(self) -> str:
        """The slot that is to be written."""
        booted = self._ports.boot.booted()
        return next(name for name in NAMES if name != booted)

    def _mark_good(self) -> None:
        self._slots.mark_good()
        self._permits.spend()

    def _reboot(self) -> None:
        try:
            run(self._config.boot.reboot_command, timeout_s=REBOOT_COMMAND_S)
        except CommandFailed as error:
            raise PosagentError("reboot_failed", str(error)) from None


def _complete(verb: Iterator[Message]) -> Iterator[Message]:
    """A verb that needs all of the bundle that was planned."""
    from posagent.core.bundle import Missing

    try:
        yield from verb
    except Missing as missing:
        raise BundleError("bundle_incomplete", str(missing)) from None


def _done(action: Callable[..., None], *args: str) -> Iterator[Message]:
    action(*args)
    yield {"result": {}}


def _price(args: Mapping[str, Any]) -> float:
    value = args.get("price", packing.FEWEST)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Refusal("bad_request", "price must be a number")
    return float(value)


def _word(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= WORD_LENGTH_MAX or not value.isprintable():
        raise Refusal("bad_request", f"{name} must be a word")
    return value


def _verbs(config: Config) -> Mapping[str, Verb]:
    return Installer(config, linux_ports(config)).verbs


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-installer", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
