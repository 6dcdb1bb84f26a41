"""Copying a bundle from a USB stick: sticks are pulled out, swapped, and hold things that are no files."""

from __future__ import annotations

import json
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

    @pytest.mark.parametrize("bytes_done", [64 * 1024, 1 << 20])
    def test_a_file_of_the_same_length_that_was_changed_since_is_another_one(
        self, tmp_path: Path, bytes_done: int
    ) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(os.urandom(1 << 20))
        args = {"id": "u1", "source": str(stick)}
        messages = fetcher(tmp_path).fetch(args)
        while next(messages)["progress"]["bytes_done"] < bytes_done:
            pass
        messages.close()  # type: ignore[attr-defined]
        stick.write_bytes(content := os.urandom(1 << 20))
        os.utime(stick, ns=(1, 1_700_000_000_123_456_789))
        result = finish(fetcher(tmp_path).fetch(args))
        assert Path(result["bundle"]).read_bytes() == content
        assert (result["bytes_refetched"] > 0) == (bytes_done < 1 << 20), "a whole file was an earlier request's"

    def test_what_an_earlier_request_copied_is_compared_with_the_stick(self, tmp_path: Path) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(content := os.urandom(1 << 20))
        args = {"id": "u1", "source": str(stick)}
        first = finish(fetcher(tmp_path).fetch(args))
        before = os.stat(first["bundle"])
        assert finish(fetcher(tmp_path).fetch(args)) == first
        assert os.stat(first["bundle"]).st_ino == before.st_ino, "the same file is not copied again"
        for number in range(5):
            stick.write_bytes(content := os.urandom(1 << 20))
            os.utime(stick, ns=(number, number))
            result = finish(fetcher(tmp_path).fetch(args))
            assert Path(result["bundle"]).read_bytes() == content
            assert result["bytes_refetched"] == 0, "nothing of this file was fetched twice"
        stick.unlink()
        assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_network", "nobody can say whether it is the one"

    def test_the_record_of_an_older_version_is_no_proof(self, tmp_path: Path) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(content := os.urandom(1 << 20))
        args = {"id": "u1", "source": str(stick)}
        record, bundle = tmp_path / "spool/u1.json", Path(finish(fetcher(tmp_path).fetch(args))["bundle"])
        for spoilt in ({"mtime_ns": None}, {"mtime_ns": "x"}, {"length": 5}):
            bundle.write_bytes(bytes(1 << 20))
            record.write_text(json.dumps({**json.loads(record.read_text()), **spoilt}))
            finish(fetcher(tmp_path).fetch(args))
            assert bundle.read_bytes() == content

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
