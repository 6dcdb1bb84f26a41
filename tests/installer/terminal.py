"""A terminal that trusts a desk's first root, as far as the trust store goes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from posagent.core.bundle import Bundle
from posagent.core.errors import PosagentError
from posagent.core.manifest import Manifest
from posagent.installer.trust import Trust
from tests.installer.store import Bytes, Partition, WallClock
from tests.release.desk import NOW_S

STORE = "/data/trust"


@dataclass(slots=True)
class Terminal:
    """`root` is the root in its system image, `built_at_s` that image's build time."""

    root: bytes
    partition: Partition = field(default_factory=Partition)
    clock: WallClock = field(default_factory=lambda: WallClock(NOW_S))
    built_at_s: int = 0

    def verify(self, data: bytes) -> tuple[Manifest, ...]:
        trust = Trust(self.partition, STORE, self.root, clock=self.clock, image_built_at_s=self.built_at_s)
        return trust.verify(Bundle(Bytes(data)))

    def refusal(self, data: bytes) -> str:
        """The code with which `data` is refused; the store is as it was."""
        before = {name: node.data for name, node in self.partition.names_now.items()}
        with pytest.raises(PosagentError) as caught:
            self.verify(data)
        assert {name: node.data for name, node in self.partition.names_now.items()} == before
        return caught.value.code

    def damage(self, name: str, data: bytes | None) -> None:
        """Put other bytes in a file of the store, or remove it."""
        node = self.partition.names_now.pop(f"{STORE}/{name}", None)
        if data is not None:
            self.partition.write(f"{STORE}/{name}", 0, data)
            self.partition.sync(f"{STORE}/{name}")
            self.partition.sync_dir(STORE)
        assert node is not None
