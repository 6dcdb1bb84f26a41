"""Copying a bundle from a USB stick: sticks are pulled out, swapped, and hold things that are no files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fetcher.test_against_nginx import fetcher, finish, refusal


class TestLocalFiles:
    def test_a_file_on_a_stick_is_copied(self, tmp_path: Path) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(os.urandom(1 << 20))
        result = finish(fetcher(tmp_path).fetch({"id": "u1", "source": str(stick)}))
        assert Path(result["bundle"]).read_bytes() == stick.read_bytes()

    def test_a_stick_that_was_pulled_out_is_gone_on_with_when_it_is_back(self, tmp_path: Path) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(content := os.urandom(1 << 20))
        args = {"id": "u1", "source": str(stick)}
        messages = fetcher(tmp_path).fetch(args)
        next(messages)
        messages.close()  # type: ignore[attr-defined]
        stick.rename(tmp_path / "away")
        error = refusal(fetcher(tmp_path).fetch(args))
        assert error.code == "fetch_network" and error.facts["bytes_done"] > 0
        (tmp_path / "away").rename(stick)
        result = finish(fetcher(tmp_path).fetch(args))
        assert Path(result["bundle"]).read_bytes() == content and result["bytes_refetched"] == 0

    @pytest.mark.parametrize("size", [1000, 2 << 20])
    def test_a_stick_with_a_file_of_another_length_is_begun_again(self, tmp_path: Path, size: int) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(os.urandom(1 << 20))
        messages = fetcher(tmp_path).fetch({"id": "u1", "source": str(stick)})
        next(messages)
        messages.close()  # type: ignore[attr-defined]
        stick.write_bytes(content := os.urandom(size))
        result = finish(fetcher(tmp_path).fetch({"id": "u1", "source": str(stick)}))
        assert Path(result["bundle"]).read_bytes() == content and result["bytes_refetched"] > 0

    def test_a_file_that_shrinks_while_it_is_copied_is_said(self, tmp_path: Path) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(os.urandom(1 << 20))
        messages = fetcher(tmp_path).fetch({"id": "u1", "source": str(stick)})
        next(messages)
        os.truncate(stick, 100_000)
        error = refusal(messages)
        assert error.code == "fetch_length" and error.facts["bytes_done"] == 100_000

    def test_what_is_no_regular_file_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("/etc/passwd")
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, tmp_path / "none", Path("/dev/zero")):
            assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": str(path)})).code == "fetch_source"
