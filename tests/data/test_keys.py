"""The terminal's key: made once, kept by root or by a token, and a lost one is told with what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.data.keys import FileKeys, KeyStore
from posagent.platform.storage import LinuxFiles
from tests.data.shop import Shop

MODULE = next(map(str, Path("/usr").glob("lib*/softhsm/libsofthsm2.so")), None)
TOKENS = ("till-0", "till-1")
KEY = bytes(range(32))


def file_keys(base: Path) -> KeyStore:
    return FileKeys(LinuxFiles(0o600), str(base / "key"))


def token_keys(base: Path) -> KeyStore:
    """In a token of SoftHSM's; each test's key has a name of its own."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    from posagent.platform.pkcs11 import Pkcs11Keys

    if MODULE is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed: apt-get install softhsm2")
    (base / "pin").write_text("1234\n")
    label = next(part for part in base.parts if part.startswith("test_"))
    token = TOKENS[base.name == "other"]
    return Pkcs11Keys(LinuxFiles(), module=MODULE, token=token, label=label, pin_file=str(base / "pin"))


@pytest.fixture(scope="session", autouse=True)
def tokens(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A loaded module sees no tokens that are made later."""
    base = tmp_path_factory.mktemp("softhsm")
    (base / "tokens").mkdir()
    (base / "softhsm2.conf").write_text(f"directories.tokendir = {base}/tokens\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(base / "softhsm2.conf")
    for token in TOKENS if shutil.which("softhsm2-util") else ():
        command = ["softhsm2-util", "--init-token", "--free", "--label", token, "--pin", "1234", "--so-pin", "5678"]
        subprocess.run(command, check=True, capture_output=True)


Makes = Callable[[Path], KeyStore]
both = pytest.mark.parametrize("makes", [file_keys, token_keys])


@both
def test_what_it_wraps_it_unwraps(tmp_path: Path, makes: Makes) -> None:
    keys = makes(tmp_path)
    name, wrapped = keys.wrap(KEY)
    assert keys.unwrap(name, wrapped) == KEY
    assert KEY not in wrapped and len(wrapped) == len(KEY) + 8, "RFC 3394"
    assert keys.wrap(KEY) == (name, wrapped), "the key is made once"


@both
def test_damage_is_no_key(tmp_path: Path, makes: Makes) -> None:
    keys = makes(tmp_path)
    name, wrapped = keys.wrap(KEY)
    for bad in (b"", wrapped[:-1], wrapped[:-8], wrapped + bytes(8), bytes([wrapped[0] ^ 1]) + wrapped[1:], bytes(40)):
        with pytest.raises(ValueError):
            keys.unwrap(name, bad)


@both
def test_opening_makes_no_key(tmp_path: Path, makes: Makes) -> None:
    with pytest.raises(PosagentError, match="data_key"):
        makes(tmp_path).unwrap("posagent-data", bytes(40))
    assert not (tmp_path / "key").exists()


@both
def test_a_backup_opens_with_its_key(tmp_path: Path, makes: Makes) -> None:
    shop = Shop(tmp_path).open()
    shop.keys = makes(tmp_path)
    shop.make()
    shop.restored()


@both
def test_another_terminals_backup_does_not_open(tmp_path: Path, makes: Makes) -> None:
    shops = [Shop(tmp_path / name).open() for name in ("one", "other")]
    for shop in shops:
        shop.keys = makes(shop.root.parent)
        shop.make()
    shutil.copy(shops[1].file(), shops[0].file())
    for work in (shops[0].backups.verify("u-1"), shops[0].backups.restore("u-1", str(tmp_path / "one/out"))):
        with pytest.raises(PosagentError, match=r"data_key|data_backup_corrupt"):
            list(work)


def test_the_file_is_roots_alone_and_whole(tmp_path: Path) -> None:
    file_keys(tmp_path).wrap(KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_lost_key_is_told_with_the_next_step(tmp_path: Path) -> None:
    shop = Shop(tmp_path).open()
    shop.make()
    (shop.root / "key").unlink()
    with pytest.raises(PosagentError) as lost:
        list(shop.backups.verify("u-1"))
    assert lost.value.code == "data_key" and str(shop.root / "key") in lost.value.detail
    assert lost.value.spec.remedy and lost.value.spec.remedy_zh
    shop.make("u-2")
    list(shop.backups.verify("u-2"))
    with pytest.raises(PosagentError, match="made with the key"):
        list(shop.backups.verify("u-1"))


@pytest.mark.parametrize("text", [b"", b"posagent-data-key-1 12\n", b"posagent-data-key-1 " + b"0" * 64])
def test_a_damaged_key_is_never_replaced_in_silence(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "key").write_bytes(text)
    with pytest.raises(PosagentError, match="data_key"):
        file_keys(tmp_path).wrap(KEY)
    assert (tmp_path / "key").read_bytes() == text


def test_a_wrong_pin_and_a_token_that_is_gone_are_told(tmp_path: Path) -> None:
    keys = token_keys(tmp_path)
    keys.wrap(KEY)
    (tmp_path / "pin").write_text("9999")
    with pytest.raises(PosagentError, match="PinIncorrect"):
        keys.wrap(KEY)
    (tmp_path / "pin").unlink()
    with pytest.raises(PosagentError, match="pin: No such file"):
        keys.wrap(KEY)
    (tmp_path / "pin").write_text("1234")
    keys._token = "gone"  # type: ignore[attr-defined]
    with pytest.raises(PosagentError, match="NoSuchToken"):
        keys.wrap(KEY)
