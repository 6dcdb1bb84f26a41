"""Opens what a verb works on: the fetched bundle, verified, and both slots.

Owns: what the installer needs of the world. Rules: signatures, hardware and the rollback floor are decided about each
time, by the installer itself; the trust library is imported only then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from posagent.config import Config
from posagent.core import parameters, pieces
from posagent.core.bundle import RECORD_BYTES_MAX, Bundle, Missing, Spooled
from posagent.core.codec import Codecs, no_codecs
from posagent.core.errors import BundleError, PosagentError, SlotError
from posagent.core.manifest import PARAMETERS, SYSTEM, Manifest
from posagent.core.ports import BlockDevice, BootControl, ByteSource, Clock, Files, Medium, Resets
from posagent.installer.slots import NAMES, Slots

if TYPE_CHECKING:
    from posagent.core.seal import Seal
    from posagent.installer.work import Work


class Opened(ByteSource, Protocol):
    """A byte source that is closed after use."""

    def close(self) -> None: ...


class OpenedSlot(Opened, Medium, Protocol):
    """A slot to be read."""


T = TypeVar("T", bound=Opened)


def _no_log() -> Opened:
    raise FileNotFoundError(2, "no such file", "audit.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the verbs need of the world. `read_slot` opens any slot to be read, `open_slot` one that nobody else uses;
    `apart` begins work that gives its memory back, `threads` lets a thread work ahead of the one that writes; `codecs`
    packs the pieces of compressed images; `open_log` opens the agent's audit log."""

    files: Files
    boot: BootControl
    clock: Clock
    open_slot: Callable[[str], BlockDevice]
    read_slot: Callable[[str], OpenedSlot]
    open_bundle: Callable[[str], Opened]
    resets: Resets
    apart: Callable[[Callable[[], Any]], Callable[[], Any]] = lambda work: work
    threads: bool = True
    codecs: Codecs = no_codecs
    open_log: Callable[[], Opened] = _no_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a bundle brings this terminal: the `work` on the spare slot, or None, and the set of `parameters`, or
    nothing, with its `data`, which was `read`; `manifest` is of the first of them."""

    bundle: Bundle
    manifest: Manifest
    work: Work | None
    parameters: Manifest | None
    data: bytes
    read: list[pieces.Piece]

    @property
    def kind(self) -> str:
        return PARAMETERS if self.work is None else self.work.kind

    @property
    def tables(self) -> list[pieces.Piece]:
        """The parts of the bundle that were needed to plan, and will be again."""
        return [*self.read, *(self.bundle.walked if self.work is None else self.work.tables)]


@contextmanager
def contents(
    config: Config, ports: Ports, slots: Slots, path: str, allowed: str = "", whole: bool = True
) -> Iterator[Contents]:
    """What the bundle at `path` brings; it may have expired where it is the one that was `allowed`; `whole` as in Work.
    Raises PosagentError, and Missing for a part not fetched."""
    with ExitStack() as stack:
        running = ports.boot.booted()
        spare = next(name for name in NAMES if name != running)
        bundle = Bundle(_bundle(ports, path, stack))
        try:
            manifests = _verified(config, ports, slots, bundle, allowed)
            images = [one for one in manifests if one.component == SYSTEM]
            there = next((one for one in manifests if one.component == PARAMETERS), None)
            read: list[pieces.Piece] = []
            data = b"" if there is None else _parameters(bundle, there, read)
            work: Work | None = None
            if images:
                from posagent.installer.work import Work  # brings the decompressors

                opened = stack.enter_context(slot(ports.read_slot, spare))
                if opened.size < images[0].image_size:
                    detail = f"slot {spare} has {opened.size} bytes, needs {images[0].image_size}"
                    raise SlotError("slot_too_small", detail)
                work = Work(
                    bundle,
                    images,
                    running=stack.enter_context(slot(ports.read_slot, running)),
                    spare=opened,
                    digest=slots.records()[running].digest,
                    unseal=lambda sealed: _unsealed(config.trust.group_key_file, sealed),
                    codecs=ports.codecs,
                    whole=whole,
                )
            yield Contents(bundle=bundle, manifest=manifests[0], work=work, parameters=there, data=data, read=read)
        except OSError as error:
            raise SlotError("slot_io", f"{error.strerror or error}") from error


@contextmanager
def slot(opening: Callable[[str], T], name: str) -> Iterator[T]:
    """The slot, opened so; closed afterwards. Raises SlotError."""
    try:
        device = opening(name)
    except FileNotFoundError as error:
        raise SlotError("slot_missing", f"slot {name}: {error.filename} does not exist") from error
    except OSError as error:
        raise SlotError("slot_io", f"slot {name}: {error.strerror or error}") from error
    with closing(device):
        yield device


def _bundle(ports: Ports, path: str, stack: ExitStack) -> ByteSource:
    """The file at `path`: as much of it as the fetcher's record beside it says is there."""
    try:
        file = stack.enter_context(closing(ports.open_bundle(path)))
    except OSError as error:
        raise BundleError("bundle_unreadable", f"{path}: {error.strerror or error}") from error
    try:
        with closing(ports.open_bundle(path.removesuffix(".bundle") + ".json")) as record:
            found = json.loads(record.pread(0, RECORD_BYTES_MAX))
        parts, size = pieces.of(found["pieces"]), found["length"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return file  # it did not come by the fetcher, or its record is lost: then all of it must be there
    return file if parts is None or type(size) is not int else Spooled(file, pieces.Pieces(parts, file.size), size)


def _parameters(bundle: Bundle, found: Manifest, read: list[pieces.Piece]) -> bytes:
    """The set itself. Raises BundleError; Missing where it was not fetched."""
    if found.length > parameters.BYTES_MAX:
        raise BundleError("bundle_too_large", f"{found.target}: more than {parameters.BYTES_MAX} bytes of parameters")
    window = bundle.target(found.member)
    if window is None:
        raise BundleError("bundle_partial", f"the bundle lacks {found.target}")
    data = window.pread(0, found.length)
    if hashlib.sha256(data).hexdigest() != found.sha256:
        raise BundleError("payload_corrupt", f"{found.target} does not match its digest")
    try:
        parameters.decoded(data)
    except ValueError as error:
        raise BundleError("bundle_unreadable", f"{found.target}: {error}") from None
    read.append((window.start, found.length))
    return data


def _unsealed(path: str, sealed: Mapping[str, str]) -> Seal:
    from posagent.core.seal import unwrapped

    if not path:
        raise BundleError("bundle_sealed", "this terminal has no key of a group")
    try:
        return unwrapped(sealed, Path(path).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise PosagentError("trust_store_damaged", f"{path}: {error}") from None


def _verified(config: Config, ports: Ports, slots: Slots, bundle: Bundle, allowed: str) -> tuple[Manifest, ...]:
    """The payloads of the one image in the bundle that is for this terminal, then the one set of parameters."""

    def found() -> dict[str, Any]:
        try:
            return {"manifests": [dataclasses.asdict(one) for one in _selected(config, ports, slots, bundle, allowed)]}
        except Missing as missing:
            return {"missing": [missing.offset, missing.length]}

    asked = ports.apart(found)
    from posagent.installer import work  # noqa: F401 - the decompressors are loaded while signatures are checked

    answer = asked()
    if "missing" in answer:
        raise Missing(*answer["missing"])
    return tuple(_manifest(one) for one in answer["manifests"])


def _manifest(fields: dict[str, Any]) -> Manifest:
    """JSON knows no tuples."""
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Manifest(**{**fields, **lists})


def _selected(config: Config, ports: Ports, slots: Slots, bundle: Bundle, allowed: str) -> tuple[Manifest, ...]:
    from posagent.installer.trust import Trust, select

    trust, terminal = config.trust, config.terminal
    try:
        root = Path(trust.root_file).read_bytes()
    except OSError as error:
        raise PosagentError("trust_store_damaged", f"{trust.root_file}: {error.strerror}") from error
    store = f"{terminal.installer_dir}/trust"
    verifying = Trust(ports.files, store, root, clock=ports.clock, image_built_at_s=trust.image_built_at)
    return select(
        verifying.verify(bundle, allowed),
        hardware=terminal.hardware,
        hardware_revision=terminal.hardware_revision,
        floor=slots.floor(),
    )
