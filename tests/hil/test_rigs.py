"""What the rigs are made of, without labgrid and without a machine."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from hil.repository import Repository

# where updates are served


def test_updates_are_served_on_the_given_address_alone(tmp_path: Path) -> None:
    served = Repository(tmp_path / "served", "127.0.0.2", bind="127.0.0.2", port=0)
    try:
        (tmp_path / "served/file").write_text("an update")
        url = served.url("file")
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"an update"
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url.replace("127.0.0.2", "127.0.0.1"))
    finally:
        served.close()
