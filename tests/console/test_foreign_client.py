"""A client that was written from the description of the machine mode alone: docs/console_client.py."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.console import conversation
from posagent.core import arq, talk
from posagent.sim.fieldline import Noise
from tests.console.visit import Visit

DOCS = Path(__file__).parents[2] / "docs"


def client_of(visit: Visit) -> Any:
    spec = importlib.util.spec_from_file_location("console_client", DOCS / "console_client.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    end = visit.line.open()
    return module.Client(end.read, end.write)


@pytest.mark.parametrize("bit_errors", [0.0, 1e-5, 1e-4])
def test_it_talks_to_a_terminal_over_good_and_bad_lines(visits: Callable[..., Visit], bit_errors: float) -> None:
    visit = visits(noise=Noise(bit_errors=bit_errors, stalls_per_s=0.2 if bit_errors else 0.0), seed=5)
    client = client_of(visit)
    client.connect()
    assert client.terminal == "pos-0001"
    for _ in range(10):
        assert client.ask("status")["result"]["state"] == "idle"
        assert client.ask("history")["error"]["code"] == "not_allowed"
    assert "verbs" in client.ask("help")["result"]


def test_the_figures_in_the_description_are_those_of_the_code() -> None:
    text = re.sub(r"\s+", " ", (DOCS / "console.md").read_text(encoding="utf-8"))
    for figure in (
        f"heard nothing for {talk.LOST_S:.0f} s",
        f"After {talk.SILENCE_S:.0f} s without a valid frame",
        f"send a PING every {talk.PING_S:.0f} s",
        f"At most {arq.WINDOW} numbers are open",
        f"at most {arq.UNDER_WAY_BYTES_MAX // 1024} KiB should be",
        f"To the terminal at most {talk.REQUEST_BYTES_MAX // 1024} KiB",
        f"from it at most {talk.ANSWER_BYTES_MAX // 1024} KiB",
        f"At most {conversation.QUESTIONS_MAX} at a time",
    ):
        assert figure in text, figure
