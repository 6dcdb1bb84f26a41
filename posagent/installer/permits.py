"""What engineers prove, and the one thing that they may permit: a bundle whose signed validity has ended.

Owns: `allowed.json` in the installer's directory. Rules: nobody's word but the engineer's counts. A permission is part
of the challenge that was signed, is for this terminal, this start and one bundle, and lasts until a version is
confirmed or another bundle is permitted. It reaches expiry alone: signatures, versions, hashes, floor and hardware are
decided about as ever.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from posagent.config import Config
from posagent.core import durable
from posagent.core.errors import PosagentError, SlotError
from posagent.core.revocation import FILE_BYTES_MAX, Revoked, parse
from posagent.installer.opening import Ports

ROLES = ("update", "rollback")
"""Who may permit a bundle."""
_ALLOW = re.compile(r"[0-9]+ [0-9a-f]{32} (\w+) allow sha256:([0-9a-f]{64})")


class Permits:
    """Raises PosagentError."""

    def __init__(self, config: Config, ports: Ports) -> None:
        self._config = config
        self._ports = ports
        self._path = f"{config.terminal.installer_dir}/allowed.json"

    def engineer(self, challenge: str, answer: str, role: str) -> dict[str, Any]:
        """Who answered: `{name, serial, role, key}`; what the challenge asks permission for is permitted."""
        from posagent.installer.engineer import CA_BYTES_MAX, verify

        console, trust = self._config.console, self._config.trust
        engineer = verify(
            challenge=challenge,
            answer=answer,
            role=role,
            cas=_file(console.engineer_ca_file, CA_BYTES_MAX),
            now_s=max(self._ports.clock.wall(), float(trust.image_built_at)),
            revoked=self._revoked(console.revoked_file),
        )
        if (bundle := self._asked(challenge, role)) is not None:
            try:
                durable.replace_json(self._ports.files, self._path, {"bundle": bundle})
            except OSError as error:
                raise SlotError("slot_io", f"{self._path}: {error.strerror or error}") from error
        return {"name": engineer.name, "serial": engineer.serial, "role": engineer.role, "key": engineer.key}

    def allowed(self) -> str:
        """The digest of the bundle that may be installed although it expired; empty where there is none."""
        try:
            kept = durable.read_json(self._ports.files, self._path)
        except OSError:
            return ""
        bundle = kept.get("bundle") if isinstance(kept, dict) else None
        return bundle if isinstance(bundle, str) else ""

    def spend(self) -> None:
        """A version was confirmed: what was permitted for it is over."""
        with suppress(OSError):  # an expired permission is worth less than a commit
            durable.remove(self._ports.files, self._path)

    def _asked(self, challenge: str, role: str) -> str | None:
        here = f"posagent-console-v1 {self._config.terminal.id} {self._ports.resets.read().boot_id} "
        found = _ALLOW.fullmatch(challenge.removeprefix(here)) if challenge.startswith(here) else None
        return found[2] if found and found[1] == role in ROLES else None

    def _revoked(self, path: str) -> Revoked:
        """A list that is configured and cannot be read, or not all of it, revokes everybody."""
        data = _file(path, FILE_BYTES_MAX + 1) if path else b""
        if len(data) > FILE_BYTES_MAX:
            raise PosagentError("trust_store_damaged", f"{path}: longer than {FILE_BYTES_MAX} bytes")
        return parse(data)


def _file(path: str, bytes_max: int) -> bytes:
    """A file of the signed image."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(bytes_max)
    except OSError as error:
        raise PosagentError("trust_store_damaged", f"{path}: {error.strerror}") from error
