"""posagent-installer: the privileged worker put together. A composition root; nobody but the simulator imports it.

Rules: it trusts nobody. `check` and `write` open the bundle once, inside the spool only, and decide about signatures,
hardware and the rollback floor by themselves each time. What needs no bundle stays light: the trust library and the
decompressor are imported by the verbs that use them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from posagent import worker
from posagent.config import BootConfig, Config, SlotsConfig
from posagent.core.errors import BundleError, PosagentError, Refusal, SlotError
from posagent.core.ports import BlockDevice, BootControl, ByteSource, Clock, Files, Message, Resets, Verb
from posagent.installer.slots import NAMES, Slots
from posagent.platform.blockdev import LinuxBlockDevice
from posagent.platform.commands import CommandFailed, run
from posagent.platform.grub import GrubBootControl
from posagent.platform.host import LinuxClock
from posagent.platform.reset import LinuxResets
from posagent.platform.storage import LinuxFiles, open_inside
from posagent.platform.uboot import UbootBootControl
from posagent.platform.vendor import VendorBootControl

if TYPE_CHECKING:
    from posagent.core.manifest import Manifest
    from posagent.installer.bundle import Bundle

REBOOT_COMMAND_S = 60.0
WORD_LENGTH_MAX = 4096
OS_RELEASE_BYTES_MAX = 1 << 16
BOOT_KINDS: Mapping[str, Callable[[BootConfig, SlotsConfig], BootControl]] = {
    "uboot": UbootBootControl,
    "grub": GrubBootControl,
    "custom": VendorBootControl,
}


class Opened(ByteSource, Protocol):
    """A byte source that is closed after use."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the verbs need of the world. `threads` lets writing overlap with decompressing."""

    files: Files
    boot: BootControl
    clock: Clock
    open_slot: Callable[[str], BlockDevice]
    open_bundle: Callable[[str], Opened]
    resets: Resets
    threads: bool = True


def linux_ports(config: Config) -> Ports:
    devices = {"a": config.slots.a.device, "b": config.slots.b.device}
    return Ports(
        files=LinuxFiles(),
        boot=BOOT_KINDS[config.boot.kind](config.boot, config.slots),
        clock=LinuxClock(),
        open_slot=lambda slot: LinuxBlockDevice(devices[slot]),
        open_bundle=lambda path: open_inside(config.fetch.spool_dir, path),
        resets=LinuxResets(
            files=LinuxFiles(),
            state_dir=config.terminal.installer_dir,
            cmdline_file=config.boot.cmdline_file,
            cmdline_key=config.boot.reset_key,
            boot_id_file=config.boot.boot_id_file,
        ),
    )


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

    @property
    def verbs(self) -> Mapping[str, Verb]:
        return {
            "observe": self._observe,
            "check": self._check,
            "write": self._write,
            "arm": lambda args: _done(self._slots.arm, _word(args, "slot")),
            "prefer": lambda args: _done(self._slots.prefer, _word(args, "slot")),
            "renew": lambda _: _done(self._slots.renew),
            "refresh": lambda _: _done(self._slots.refresh),
            "mark_good": lambda _: _done(self._slots.mark_good),
            "mark_bad": lambda args: _done(self._slots.mark_bad, _word(args, "slot")),
            "reboot": lambda _: _done(self._reboot),
            "engineer": self._engineer,
        }

    def _observe(self, _: Mapping[str, Any]) -> Iterator[Message]:
        """What core.model.Observation needs."""
        report = self._ports.resets.read()
        reset = {"reset": report.cause.value, "boot_id": report.boot_id, "log": list(report.log)}
        yield {"result": {**self._slots.observe(), **reset}}

    def _check(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{bundle}`: whether it may be installed here, without touching a slot."""
        from posagent.core.payload import read_header
        from posagent.installer.trust import check_payload

        with closing(self._opened(_word(args, "bundle"))) as source:
            bundle, chosen = self._verified(source)
            payload = _payload(bundle, chosen)
            image_size = read_header(payload, chosen).image_size
            target = self._room_for(image_size)
            for done in check_payload(payload, chosen):
                yield {"progress": {"bytes_done": done, "bytes_total": chosen.length, "step": "check"}}
        result = {
            "version": chosen.version,
            "digest": chosen.image_sha256,
            "image_size": image_size,
            "security_counter": chosen.security_counter,
            "length": chosen.length,
            "target_slot": target,
        }
        yield {"result": result}

    def _write(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{bundle, slot, update_id}`: the bundle's image into the spare slot."""
        from posagent.core.payload import read_header
        from posagent.installer.writer import write

        slot, update_id = _word(args, "slot"), _word(args, "update_id")
        self._slots.target(slot)
        with closing(self._opened(_word(args, "bundle"))) as source:
            bundle, chosen = self._verified(source)
            payload = _payload(bundle, chosen)
            yield from write(
                slots=self._slots,
                slot=slot,
                open_slot=self._ports.open_slot,
                source=payload,
                header=read_header(payload, chosen),
                manifest=chosen,
                update_id=update_id,
                checkpoint_bytes=self._config.install.checkpoint_bytes,
                threads=self._ports.threads,
            )

    def _engineer(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{challenge, answer, role}`: `{name, serial, role}` of the engineer whose key answered the challenge."""
        from posagent.installer.engineer import CA_BYTES_MAX, verify

        path = self._config.console.engineer_ca_file
        try:
            with Path(path).open("rb") as stream:
                cas = stream.read(CA_BYTES_MAX)
        except OSError as error:
            raise PosagentError("trust_store_damaged", f"{path}: {error.strerror}") from error
        engineer = verify(
            challenge=_word(args, "challenge"),
            answer=str(args.get("answer", "")),
            role=_word(args, "role"),
            cas=cas,
            now_s=max(self._ports.clock.wall(), float(self._config.trust.image_built_at)),
        )
        yield {"result": {"name": engineer.name, "serial": engineer.serial, "role": engineer.role}}

    def _verified(self, source: ByteSource) -> tuple[Bundle, Manifest]:
        """The bundle and the one image in it that is for this terminal."""
        from posagent.installer.bundle import Bundle
        from posagent.installer.trust import Trust, select

        trust, terminal = self._config.trust, self._config.terminal
        try:
            root = Path(trust.root_file).read_bytes()
        except OSError as error:
            raise PosagentError("trust_store_damaged", f"{trust.root_file}: {error.strerror}") from error
        bundle = Bundle(source)
        manifests = Trust(
            self._ports.files,
            f"{self._config.terminal.installer_dir}/trust",
            root,
            clock=self._ports.clock,
            image_built_at_s=trust.image_built_at,
        ).verify(bundle)
        chosen = select(
            manifests,
            hardware=terminal.hardware,
            hardware_revision=terminal.hardware_revision,
            floor=self._slots.floor(),
        )
        return bundle, chosen

    def _opened(self, path: str) -> Opened:
        try:
            return self._ports.open_bundle(path)
        except OSError as error:
            raise BundleError("bundle_unreadable", f"{path}: {error.strerror or error}") from error

    def _room_for(self, image_size: int) -> str:
        """The slot that is to be written, when it is large enough: better known now than when installing."""
        booted = self._ports.boot.booted()
        spare = next(name for name in NAMES if name != booted)
        try:
            with closing(self._ports.open_slot(spare)) as device:
                if device.size < image_size:
                    raise SlotError("slot_too_small", f"slot {spare} has {device.size} bytes, needs {image_size}")
        except FileNotFoundError as error:
            raise SlotError("slot_missing", f"slot {spare}: {error.filename} does not exist") from error
        except OSError as error:
            raise SlotError("slot_io", f"slot {spare}: {error.strerror or error}") from error
        return spare

    def _reboot(self) -> None:
        try:
            run(self._config.boot.reboot_command, timeout_s=REBOOT_COMMAND_S)
        except CommandFailed as error:
            raise PosagentError("reboot_failed", str(error)) from None


def running_version(path: str) -> str:
    """What os-release says of the running system: IMAGE_VERSION, else VERSION_ID, else nothing (os-release(5))."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as stream:
            lines = stream.read(OS_RELEASE_BYTES_MAX).splitlines()
    except OSError:
        return ""
    fields = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return fields.get("IMAGE_VERSION") or fields.get("VERSION_ID", "")


def _payload(bundle: Bundle, chosen: Manifest) -> ByteSource:
    payload = bundle.target(chosen.member)
    if payload is None:
        raise BundleError("bundle_unreadable", f"the bundle lacks {chosen.target}")
    return payload


def _done(action: Callable[..., None], *args: str) -> Iterator[Message]:
    action(*args)
    yield {"result": {}}


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
