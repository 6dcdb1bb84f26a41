"""What a release engineer types, and what the exit code and the JSON say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from posagent.release.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    code = main([*map(str, words), "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


@pytest.fixture
def released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with keys, an image and a bundle."""
    (tmp_path / "image").write_bytes(b"system" * 10_000)
    assert run(capsys, "keys", "init", tmp_path / "keys")[0] == 0
    assert build(capsys, tmp_path)[0] == 0
    return tmp_path


def build(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    words = ("bundle", "build", "--version", "2.0", "--compatible", "pos-a", "--level", "1")
    paths = ("--image", folder / "image", "--keys", folder / "keys", "--out", folder / "x.bundle")
    return run(capsys, *words, *paths, *more)


def test_from_keys_to_a_published_bundle(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, "repo", "publish", "--bundle", released / "x.bundle", "--repo", released / "repo")
    assert code == 0
    pointer = json.loads((released / "repo/channels/stable.json").read_bytes())
    assert pointer == answer["result"]
    data = (released / "repo" / pointer["bundle"]).read_bytes()
    assert data == (released / "x.bundle").read_bytes()
    assert (pointer["format"], pointer["version"], pointer["length"]) == (1, "2.0", len(data))
    assert pointer["sha256"] == hashlib.sha256(data).hexdigest()


def test_publishing_a_second_bundle_keeps_the_first_for_downloads_under_way(
    released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish = ("repo", "publish", "--bundle", released / "x.bundle", "--repo", released / "repo", "--channel", "beta")
    for _ in range(2):
        first = run(capsys, *publish)[1]["result"]
    build(capsys, released)
    second = run(capsys, *publish)[1]["result"]
    names = sorted(path.name for path in (released / "repo/bundles").iterdir())
    assert names == sorted(one["bundle"].removeprefix("bundles/") for one in (first, second))
    assert json.loads((released / "repo/channels/beta.json").read_bytes()) == second


def test_a_broken_bundle_is_not_published(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (released / "x.bundle").read_bytes()
    (released / "x.bundle").write_bytes(data[:-12_000])
    code, answer = run(capsys, "repo", "publish", "--bundle", released / "x.bundle", "--repo", released / "repo")
    assert (code, answer["error"]["code"]) == (4, "bundle_unreadable")
    assert not (released / "repo").exists()


@pytest.mark.parametrize("channel", ["../x", "", "A", "x" * 33])
def test_a_channel_is_a_plain_name(released: Path, capsys: pytest.CaptureFixture[str], channel: str) -> None:
    words = ("repo", "publish", "--bundle", released / "x.bundle", "--repo", released / "repo")
    assert run(capsys, *words, f"--channel={channel}")[0] == 2


def test_show_says_what_the_bundle_is_for(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "show", str(released / "x.bundle")]) == 0
    shown = capsys.readouterr().out
    assert "version: 2.0" in shown
    assert "hw_ids: pos-a" in shown
    assert "expires:" in shown


def test_exit_codes_tell_usage_refusal_and_failure_apart(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(capsys, released, "--version", "a b")[0] == 2
    code, answer = run(capsys, "keys", "init", released / "keys")
    assert (code, answer["error"]["code"]) == (3, "keys_exist")
    assert run(capsys, "bundle", "show", released / "nothing")[0] == 4
    assert run(capsys, "keys", "renew", released / "keys")[1]["result"]["version"] == 2
    with pytest.raises(SystemExit) as caught:
        main(["bundle", "build"])
    assert caught.value.code == 2


def test_a_refusal_names_the_next_step(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "init", str(released / "keys")]) == 3
    shown = capsys.readouterr().err
    assert shown.startswith("keys_exist: ")
    assert "empty directory" in shown
