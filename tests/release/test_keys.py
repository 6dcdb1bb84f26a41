"""The desk's keys: who may sign what, where they lie, and how they are renewed."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from posagent.core.errors import PosagentError
from posagent.release import keys
from tests.release.desk import NOW_S, Desk


def root_in(folder: Path, number: int) -> Root:
    root: Root = Metadata[Root].from_bytes((folder / f"{number}.root.json").read_bytes()).signed
    return root


def test_root_and_targets_need_two_signatures_each(tmp_path: Path) -> None:
    shipped = keys.init(tmp_path / "keys", now_s=NOW_S)
    root = root_in(tmp_path / "keys", 1)
    assert shipped.read_bytes() == (tmp_path / "keys/1.root.json").read_bytes()
    assert {role: (known.threshold, len(known.keyids)) for role, known in root.roles.items()} == {
        "root": (2, 2),
        "targets": (2, 2),
        "snapshot": (1, 1),
        "timestamp": (1, 2),
    }
    assert len(root.keys) == 7


def test_only_the_owner_can_read_private_keys(tmp_path: Path) -> None:
    keys.init(tmp_path / "keys")
    public = tmp_path / "keys/vendor.pub.pem"
    private = [path for path in (tmp_path / "keys").glob("*.pem") if path != public] + [tmp_path / "keys/engineer-ca"]
    assert len(private) == 9 and public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    keys.init(tmp_path)
    before = (tmp_path / "root-1.pem").read_bytes()
    with pytest.raises(PosagentError) as caught:
        keys.init(tmp_path)
    assert caught.value.code == "keys_exist"
    assert (tmp_path / "root-1.pem").read_bytes() == before


def test_a_passphrase_locks_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "correct horse $HOME `id`")
    desk = Desk(tmp_path)
    for path in set(desk.keys.glob("*.pem")) - {desk.keys / "vendor.pub.pem"}:
        assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert desk.build(1)
    opened = ["ssh-keygen", "-y", "-f", str(desk.keys / "engineer-ca"), "-P"]
    assert subprocess.run([*opened, "correct horse $HOME `id`"], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*opened, ""], capture_output=True, check=False).returncode != 0
    for wrong in ("", "battery staple"):
        monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, wrong)
        with pytest.raises(PosagentError) as caught:
            desk.build(2)
        assert caught.value.code == "keys_unusable"


def test_a_build_needs_no_root_key_but_all_others(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for path in desk.keys.glob("root-*.pem"):
        path.unlink()
    assert desk.build(1)
    (desk.keys / "targets-2.pem").unlink()
    with pytest.raises(PosagentError) as caught:
        desk.build(2)
    assert (caught.value.code, caught.value.facts["role"]) == ("keys_unusable", "targets")


def test_a_lost_key_can_be_replaced(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (desk.keys / "targets-1.pem").unlink()
    keys.renew(desk.keys, replace=["targets-1"], now_s=NOW_S)
    old, new = root_in(desk.keys, 1), root_in(desk.keys, 2)
    assert new.roles["targets"].keyids[1] == old.roles["targets"].keyids[1]
    assert new.roles["targets"].keyids[0] not in old.keys
    assert len(new.keys) == 7
    assert desk.build(1)
    keys.renew(desk.keys, replace=["targets-1"], now_s=NOW_S)
    assert desk.build(2)


def test_root_keys_are_replaced_with_signatures_of_old_and_new(tmp_path: Path) -> None:
    keys.init(tmp_path)
    keys.renew(tmp_path, replace=["root-1", "root-2"])
    signed = Metadata[Root].from_bytes((tmp_path / "2.root.json").read_bytes())
    assert len(signed.signatures) == 4
    root_in(tmp_path, 1).verify_delegate("root", signed.signed_bytes, signed.signatures)
    signed.signed.verify_delegate("root", signed.signed_bytes, signed.signatures)
    (tmp_path / "root-1.pem").unlink()
    keys.renew(tmp_path)
    assert root_in(tmp_path, 3).version == 3


def test_an_unknown_name_renews_nothing(tmp_path: Path) -> None:
    keys.init(tmp_path)
    with pytest.raises(PosagentError) as caught:
        keys.renew(tmp_path, replace=["targets-9"])
    assert caught.value.code == "bad_request"
    assert not (tmp_path / "2.root.json").exists()


def test_a_directory_without_keys_says_so(tmp_path: Path) -> None:
    with pytest.raises(PosagentError) as caught:
        keys.renew(tmp_path)
    assert caught.value.code == "keys_unusable"
