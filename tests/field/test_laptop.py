"""What is chosen on each system. Only Linux is really here: the other two are told by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.field import laptop

LISTED = ["COM3", "COM12", "LPT1"]


def test_ssh_keygen_is_found_where_each_system_has_it() -> None:
    assert laptop.ssh_keygen("linux", {}, lambda _: "/usr/bin/ssh-keygen") == "/usr/bin/ssh-keygen"
    windows = laptop.ssh_keygen("win32", {"SYSTEMROOT": r"D:\Win"}, lambda _: None, lambda _: True)
    assert windows == r"D:\Win\System32\OpenSSH\ssh-keygen.exe"


@pytest.mark.parametrize(("system", "told"), [("win32", "optional feature"), ("darwin", "install OpenSSH")])
def test_without_ssh_keygen_it_says_what_to_install(system: str, told: str) -> None:
    with pytest.raises(PosagentError, match=told):
        laptop.ssh_keygen(system, {}, lambda _: None, lambda _: False)


def test_nothing_asks_in_the_middle_of_the_screen() -> None:
    environment, how = laptop.unattended("linux", {"SSH_AUTH_SOCK": "/agent"})
    assert environment == {"SSH_AUTH_SOCK": "/agent", "SSH_ASKPASS_REQUIRE": "never"}
    assert how == {"start_new_session": True}
    assert "start_new_session" not in laptop.unattended("win32", {})[1], "Windows has none"


def test_the_language_is_the_users() -> None:
    assert laptop.language({"LANG": "zh_CN.UTF-8"}, lambda: ("en_US", "UTF-8")) == "zh_CN.UTF-8"
    assert laptop.language({}, lambda: ("Chinese (Simplified)_China", "936")) == "zh"
    assert laptop.language({}, lambda: (None, None)) == ""


def test_ports_are_files_on_unix(tmp_path: Path) -> None:
    for name in ("ttyUSB0", "ttyUSB1", "ttyS0"):
        (tmp_path / name).touch()
    pattern, one = str(tmp_path / "ttyUSB*"), str(tmp_path / "ttyUSB1")
    assert laptop.ports_named([one, pattern], [], "linux") == [one, str(tmp_path / "ttyUSB0")]
    assert laptop.ports_named([str(tmp_path / "ttyUSB9")], [], "linux") == [], "it is not plugged in"


def test_ports_are_names_on_windows() -> None:
    assert laptop.ports_named(["com*"], LISTED, "win32") == ["COM3", "COM12"]
    assert laptop.ports_named(["COM7"], LISTED, "win32") == ["COM7"], "one that is named need not be listed"


def test_macs_list_each_port_twice() -> None:
    assert laptop.usual("/dev/cu.usbserial-1", True, "darwin")
    assert not laptop.usual("/dev/tty.usbserial-1", True, "darwin")
    assert not laptop.usual("/dev/ttyS0", False, "linux")


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_a_file_is_replaced_whole(tmp_path: Path, system: str) -> None:
    path = tmp_path / "visit.json"
    laptop.replace(path, b"old", system)
    laptop.replace(path, b"new", system)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("visit.json", b"new")]


def test_a_directory_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(PosagentError, match="No such file") as caught:
        laptop.replace(tmp_path / "gone" / "visit.json", b"")
    assert caught.value.code == "laptop_io"
