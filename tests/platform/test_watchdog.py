"""The watchdog is told of life over both ways, and never by itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.platform.watchdog import SystemWatchdog


@pytest.fixture
def manager(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The service manager's end of sd_notify."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(str(short_path / "notify"))
    end.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    return end


def test_the_service_manager_hears_ready_and_every_pet(manager: socket.socket) -> None:
    watchdog = SystemWatchdog(systemd=True)
    assert watchdog.interval_s == pytest.approx(10)
    watchdog.ready()
    watchdog.pet()
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


def test_the_device_is_written_and_asked_often_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    device = tmp_path / "watchdog"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    watchdog = SystemWatchdog(systemd=True, device=str(device), device_timeout_s=30)
    assert watchdog.interval_s == pytest.approx(10)
    watchdog.pet()
    assert os.read(reader, 10) == b"\0"


def test_without_a_watchdog_nothing_is_petted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert SystemWatchdog(systemd=True).interval_s is None


def test_a_configured_device_that_is_not_there_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(PosagentError, match="config_bad_value"):
        SystemWatchdog(systemd=False, device=str(tmp_path / "none"))


def test_a_manager_that_went_away_does_not_stop_the_agent(manager: socket.socket) -> None:
    watchdog = SystemWatchdog(systemd=True)
    manager.close()
    watchdog.pet()
