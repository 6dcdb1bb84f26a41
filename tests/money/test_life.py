"""The judge of the lives that `make bench-money` lives: a sound one passes, one that touches the old data does not."""

from __future__ import annotations

import pytest

from posagent.core import durable
from posagent.crash.units import PROFILES
from tests.money.batches import batch
from tests.money.life import FATES, ROOT, Life, Touched

PROFILE = next(iter(PROFILES.values()))
NUMBER = 3


@pytest.mark.parametrize("fate", FATES)
def test_a_life_with_two_power_cuts_ends_with_its_money(fate: str) -> None:
    seen = Life(batch(NUMBER), fate, PROFILE, NUMBER, (20, 7)).live()
    assert seen.cuts == 2


class Reaching(Life):
    """On trial, the new version writes beside its copy: the payments mean the same, the bytes are others."""

    def _test(self) -> None:
        old, files = f"{ROOT}/g-1/data/ledger", self._medium.files
        assert not self._shown.published().startswith(f"{ROOT}/g-1/")
        durable.replace(files, old, files.read(old).replace(b"}\n", b" }\n"))
        super()._test()


def test_old_data_that_is_written_to_is_seen_after_the_rollback() -> None:
    with pytest.raises(Touched):
        Reaching(batch(NUMBER), "rollback", PROFILE, NUMBER).live()
