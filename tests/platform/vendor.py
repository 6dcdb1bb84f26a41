"""A vendor's boot control program: a few lines of shell over a file."""

from __future__ import annotations

from pathlib import Path

from posagent.config import BootConfig, SlotConfig, SlotsConfig

PROGRAM = """\
#!/bin/sh
set -eu
state={state}
case $1 in
get) echo booted=a; cat "$state" ;;
set) cat >"$state.new"; sync "$state.new"; mv "$state.new" "$state"; sync "${{state%/*}}" ;;
esac
"""
FACTORY = "order=a\ntries_a=3\ntries_b=0\n"


def make_program(
    directory: Path, state: str = FACTORY, program: str = PROGRAM, **names: str
) -> tuple[BootConfig, SlotsConfig]:
    """The program with its state in a file, and the configuration that belongs to it."""
    path, file = directory / "bootctl", directory / "bootstate"
    file.write_text(state)
    path.write_text(program.format(state=file))
    path.chmod(0o755)
    slots = SlotsConfig(
        a=SlotConfig(device="/none/a", boot_name=names.get("a", "")),
        b=SlotConfig(device="/none/b", boot_name=names.get("b", "")),
    )
    return BootConfig(kind="custom", custom_command=("/bin/sh", str(path))), slots
