"""Encrypted payloads: readable for the terminals of the group, and for no others, in every way a download can go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posagent.core.errors import ReleaseError
from posagent.release import bundle
from posagent.sim import image
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import HARDWARE, Desk

Make = Callable[..., InProcessTerminal]
SECRET = b"nobody else may read this line of the new version\n"


def key_files(folder: Path, name: str, key: X25519PrivateKey | Ed25519PrivateKey) -> tuple[Path, Path]:
    """What `openssl genpkey` and `openssl pkey -pubout` write."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("groups")
    return {name: key_files(folder, name, X25519PrivateKey.generate()) for name in ("north", "south", "others")}


@pytest.fixture(scope="module")
def sealed(desk: Desk, groups: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of version 8.0.0, full and as a delta, for north and south."""
    folder = tmp_path_factory.mktemp("sealed")
    shutil.copytree(desk.tree, folder / "tree")
    (folder / "tree/secret").write_bytes(SECRET + os.urandom(100_000))
    return bundle.build(
        image.build(folder / "8.0.0.ext4", "8.0.0", tree=folder / "tree"),
        version="8.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[desk.images["2.0.0"]],
        groups=[groups["north"][1], groups["south"][1]],
        out=folder / "8.0.0.bundle",
    )


def test_nothing_of_what_is_new_can_be_read(sealed: Path) -> None:
    assert SECRET in (sealed.parent / "8.0.0.ext4").read_bytes() and SECRET not in sealed.read_bytes()


@pytest.mark.parametrize("group", ["north", "south"])
def test_a_terminal_of_a_group_installs_it(
    in_process: Make, sealed: Path, groups: dict[str, tuple[Path, Path]], group: str
) -> None:
    terminal = in_process(group_key_file=str(groups[group][0]))
    terminal.ask("update", source=str(sealed))
    for steps in (5, 9, 14, 20, 27):
        for _ in range(steps):
            if terminal.situation.last_outcome is None:
                terminal.step()
        terminal.boot()
    assert terminal.run_to_idle()["outcome"] == "committed"
    wanted = (sealed.parent / "8.0.0.ext4").read_bytes()
    assert terminal.layout.slot("b").read_bytes()[: len(wanted)] == wanted


def test_a_terminal_takes_the_delta(
    in_process: Make, desk: Desk, sealed: Path, groups: dict[str, tuple[Path, Path]]
) -> None:
    terminal = in_process(group_key_file=str(groups["north"][0]))
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "committed"
    terminal.ask("update", source=str(sealed))
    terminal.run_until(lambda one: bool(one.situation.update and one.situation.update.kind))
    assert terminal.situation.update is not None and terminal.situation.update.kind == "delta"
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize("group", ["others", ""])
def test_other_terminals_are_told_that_it_is_not_for_them(
    in_process: Make, sealed: Path, groups: dict[str, tuple[Path, Path]], group: str
) -> None:
    terminal = in_process(group_key_file=str(groups[group][0]) if group else "")
    terminal.ask("update", source=str(sealed))
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("failed", "bundle_sealed")


def test_a_key_that_is_none_is_trouble_with_the_trust_store(in_process: Make, sealed: Path, tmp_path: Path) -> None:
    other, _ = key_files(tmp_path, "signing", Ed25519PrivateKey.generate())
    for path in (other, tmp_path / "missing.pem"):
        terminal = in_process(group_key_file=str(path))
        terminal.ask("update", source=str(sealed))
        terminal.run_until(lambda one: one.situation.failure is not None)
        assert terminal.situation.failure is not None
        assert terminal.situation.failure["code"] == "trust_store_damaged"


def test_the_builder_refuses_a_key_of_another_kind(desk: Desk, tmp_path: Path) -> None:
    _, public = key_files(tmp_path, "signing", Ed25519PrivateKey.generate())
    with pytest.raises(ReleaseError) as caught:
        bundle.build(
            desk.images["2.0.0"],
            version="2.0.0",
            compatible=[HARDWARE],
            keys_dir=desk.keys,
            groups=[public],
            out=tmp_path / "x.bundle",
        )
    assert caught.value.code == "keys_unusable"
