"""At the vendor's desk: bundles from terminals are opened, and what only looks like one does no harm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from posagent.core import envelope
from posagent.core.spoken import code_of
from posagent.release import keys
from posagent.release.cli import main


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("desk")
    keys.init(base / "keys")
    return base


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    code = main(["support", *map(str, words), "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


def bundle(desk: Path, path: Path, contents: object) -> Path:
    text = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    path.write_bytes(envelope.sealed(text, (desk / "keys/vendor.pub.pem").read_bytes()))
    return path


GOOD = {
    "about": {"terminal": "pos-0001", "redacted": {"[card]": 2}},
    "parts": {"status.json": "{}", "log.jsonl": "a\nb\n"},
}


def test_a_bundle_is_opened_into_a_new_directory(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = bundle(desk, tmp_path / "b", GOOD), tmp_path / "x/out"
    code, answer = run(capsys, "open", file, "--key", desk / "keys/vendor.pem", "--out", out)
    assert (code, answer["result"]["terminal"]) == (0, "pos-0001")
    assert answer["result"]["code"] == code_of(hashlib.sha256(file.read_bytes()).digest())
    assert {path.name: path.read_text() for path in out.iterdir() if path.name != "about.json"} == GOOD["parts"]
    assert json.loads((out / "about.json").read_text()) == GOOD["about"]
    code, answer = run(capsys, "open", file, "--key", desk / "keys/vendor.pem", "--out", out)
    assert (code, answer["error"]["code"]) == (4, "release_io"), "nothing is overwritten"


def test_what_was_read_out_over_the_phone_is_compared(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = bundle(desk, tmp_path / "b", GOOD)
    code = run(capsys, "code", file)[1]["result"]["code"]
    assert run(capsys, "code", file, "--heard", code.lower().replace("-", " "))[0] == 0
    mistaken = code[:-1] + ("0" if code[-1] != "0" else "1")
    assert run(capsys, "code", file, "--heard", mistaken)[1]["error"]["code"] == "bad_request"
    other = run(capsys, "code", bundle(desk, tmp_path / "c", GOOD))[1]["result"]["code"]
    assert run(capsys, "code", file, "--heard", other)[1]["error"]["code"] == "support_unreadable"


@pytest.mark.parametrize(
    "contents",
    [
        b"no JSON",
        b"[" * 100_000,
        *([], {}, {"about": {}}, {"about": [], "parts": {}}, {"about": {}, "parts": []}),
        *(
            {"about": {}, "parts": {name: "x"}}
            for name in ("../../etc/passwd", "/x.json", ".json", "A.json", "a.sh", "")
        ),
        {"about": {}, "parts": {"a.json": 7}},
        {"about": {}, "parts": {f"a{'b' * number}.json": "" for number in range(20)} | {"a" * 99 + ".json": ""}},
    ],
)
def test_a_bundle_that_somebody_made_to_do_harm_writes_nothing(
    contents: object, desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = bundle(desk, tmp_path / "b", contents), tmp_path / "out"
    code, answer = run(capsys, "open", file, "--key", desk / "keys/vendor.pem", "--out", out)
    assert (code, answer["error"]["code"]) == (4, "support_unreadable") and not out.exists()


@pytest.mark.parametrize("key", ["root-1.pem", "vendor.pub.pem", "none.pem", "engineer-ca.pub"])
def test_another_key_opens_nothing(key: str, desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bundle(desk, tmp_path / "b", GOOD)
    code, answer = run(capsys, "open", file, "--key", desk / "keys" / key, "--out", tmp_path / "out")
    assert code == 4 and answer["error"]["code"] in ("keys_unusable", "release_io")


def test_a_stolen_bundle_and_one_of_another_vendor_stay_closed(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.init(tmp_path / "other")
    file = bundle(desk, tmp_path / "b", GOOD)
    code, answer = run(capsys, "open", file, "--key", tmp_path / "other/vendor.pem", "--out", tmp_path / "out")
    assert (code, answer["error"]["code"]) == (4, "support_unreadable")
    assert b"pos-0001" not in file.read_bytes()


def test_a_key_with_a_passphrase_opens_with_it_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "correct horse")
    keys.init(tmp_path / "keys")
    file = bundle(tmp_path, tmp_path / "b", GOOD)
    words = ("open", file, "--key", tmp_path / "keys/vendor.pem", "--out")
    assert run(capsys, *words, tmp_path / "out")[0] == 0
    for wrong in ("", "battery staple"):
        monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, wrong)
        assert run(capsys, *words, tmp_path / "none")[1]["error"]["code"] == "keys_unusable"


def test_a_file_without_end_is_not_read(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").write_bytes(bytes(5 << 20))
    assert run(capsys, "code", tmp_path / "b")[1]["error"]["code"] == "support_unreadable"
    assert run(capsys, "code", tmp_path / "none")[1]["error"]["code"] == "release_io"
