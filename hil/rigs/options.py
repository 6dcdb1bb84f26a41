"""What a bench's labgrid environment says under `options`: addresses, device paths, and the commands that do what no
protocol of labgrid does. `bench.yaml` documents each.

Rules: a command that fails fails the scenario; what has no command is NotOnThisRig, which is skipped, never passed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hil.terminal import NotOnThisRig


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`host` is this machine's address where the terminal finds updates, `field` the device of the field line."""

    host: str
    field: str
    make_bundle: str
    factory: str
    set_power: str = ""
    engineer_ca: str = ""
    make_parameters: str = ""
    payment: str = ""
    """On the terminal."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Options:
        """Raises ValueError for options that are missing or unknown."""
        known = {one.name for one in fields(cls)}
        if unknown := sorted(given.keys() - known):
            raise ValueError(f"unknown options: {', '.join(unknown)}; hil/rigs/bench.yaml lists those there are")
        try:
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"hil/rigs/bench.yaml says what is needed: {error}") from None

    def reset(self) -> None:
        """Back to the factory state, with the power off. Raises CalledProcessError."""
        subprocess.run([self.factory], check=True)

    def bundle(self, out: Path, version: str, fault: str) -> Path:
        """A bundle with that version and fault. Raises CalledProcessError."""
        subprocess.run([self.make_bundle, out, version, fault], check=True)
        return out

    def parameters(self, out: Path, version: str, values: Mapping[str, Any]) -> Path:
        """A bundle of parameters alone. Raises CalledProcessError, NotOnThisRig."""
        if not self.make_parameters:
            raise NotOnThisRig("the bench has no command that signs parameters")
        subprocess.run([self.make_parameters, out, version, json.dumps(values)], check=True)
        return out

    def power(self, battery_percent: int, charger: bool) -> None:
        """What the terminal sees of its battery and charger. Raises CalledProcessError, NotOnThisRig."""
        if not self.set_power:
            raise NotOnThisRig("the bench has no command that sets the battery's level")
        subprocess.run([self.set_power, str(battery_percent), "on" if charger else "off"], check=True)

    def desk(self) -> Path:
        """The key that certifies engineers on this terminal. Raises NotOnThisRig."""
        if not self.engineer_ca:
            raise NotOnThisRig("the bench has no key that certifies engineers")
        return Path(self.engineer_ca)
