"""`posagent audit verify`: an audit log, on its terminal or as a file at the office, held against keys and seals.

Rules: on the terminal the key and the last seal are the installer's own, which only root can read; a file from
elsewhere is held against the key that is given, else against the key that the log itself names, and that is told.
"""

from __future__ import annotations

from pathlib import Path

from posagent import config as configuration
from posagent.core import notes
from posagent.core.audit import FILE, Verdict
from posagent.core.errors import PosagentError
from posagent.installer.notary import KEY_FILE, LOG_BYTES_MAX, Notary, verify
from posagent.platform.storage import LinuxFiles


def examine(file: str, *, key: str, config_file: str) -> tuple[Verdict, bool]:
    """What is known of the log, and whether the key was known without it. Raises PosagentError."""
    if file:
        line = _public_line(key) if key else ""
        return verify(_read(Path(file)), key=line), bool(line)
    terminal = configuration.load(config_file).terminal
    own = Path(terminal.installer_dir) / KEY_FILE
    line = _public_line(key or str(own)) if key or _exists(own) else ""
    log = Path(terminal.state_dir) / FILE
    try:
        memory = Notary(LinuxFiles(), terminal.installer_dir, terminal.id).memory()
    except OSError as error:
        raise PosagentError("audit_unreadable", f"{terminal.installer_dir}: {error.strerror}") from None
    data = _read(log) if _exists(log) or not memory.sealed.size else b""
    verdict = verify(data, key=line, known=(memory.sealed,) if memory.sealed.size else ())
    for lost in memory.lost:
        verdict.breaks.append((0, f"the log did not go on from the {lost.size} records that were sealed before"))
    return verdict, bool(line)


def _public_line(text: str) -> str:
    """A public line, or the one in a file."""
    line = text if notes.parse_public_line(text) else _read(Path(text)).decode("ascii", "replace").strip()
    if notes.parse_public_line(line) is None:
        raise PosagentError("audit_unreadable", f"{text}: no public key of an audit log")
    return line


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise PosagentError("audit_unreadable", f"{path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4 * LOG_BYTES_MAX)
    except OSError as error:
        raise PosagentError("audit_unreadable", f"{path}: {error.strerror}") from None
