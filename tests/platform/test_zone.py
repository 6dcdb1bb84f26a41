"""Places by their IANA name: known ones tell their clock, unknown ones are refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from posagent.platform.zone import IanaZone


def test_a_place_tells_its_clock() -> None:
    assert IanaZone("Europe/Berlin").offset_s(1768000000.0) == 3600
    assert IanaZone("Europe/Berlin").offset_s(1783000000.0) == 7200
    assert IanaZone("Asia/Kathmandu").offset_s(1768000000.0) == 20700
    assert IanaZone("America/St_Johns").offset_s(1768000000.5) == -12600


@pytest.mark.parametrize("utc_s", [-1e18, -1.0, 0.0, 1e12, 1e18])
def test_a_clock_far_out_is_no_trouble(utc_s: float) -> None:
    assert IanaZone("Asia/Kathmandu").offset_s(utc_s) in (19800, 20700)


@pytest.mark.parametrize(
    "name", ["", "Europe/Bärlin", "Europe", "../../etc/passwd", "/etc/passwd", "zone.tab", "a" * 300, "Europe/Berlin\0"]
)
def test_an_unknown_place_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not known; use a name like") as refused:
        IanaZone(name)
    assert f'"{name}"' in str(refused.value)


def test_who_configures_no_place_does_not_load_the_library() -> None:
    script = "import sys, posagent.platform.zone; print('zoneinfo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
