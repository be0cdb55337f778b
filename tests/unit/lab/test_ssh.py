"""Waiting for a machine's ssh, with a server that greets late."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lab import ssh
from lab.ssh import Ssh, SshError

GREETS_AFTER_SECONDS = 0.5


@pytest.fixture
def slow_port() -> Iterator[int]:
    """A server that needs half a second to greet, on each connection anew."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # who waited did not wait long enough
            time.sleep(GREETS_AFTER_SECONDS)
            connection.sendall(b"SSH-2.0-slow\r\n")

    def accept() -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def machine(port: int, folder: Path) -> Ssh:
    return Ssh("node1", "127.0.0.1", port, folder / "key", folder)


def test_a_machine_that_greets_late_is_given_more_time(
    slow_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[object] = []
    monkeypatch.setattr(ssh, "_BANNER_SECONDS", GREETS_AFTER_SECONDS / 10)
    monkeypatch.setattr(Ssh, "run", lambda self, command, **_: ran.append(command))
    machine(slow_port, tmp_path).wait(60)
    assert ran == ["true"]


def test_a_machine_that_never_greets_is_told(slow_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "_BANNER_SECONDS", GREETS_AFTER_SECONDS / 10)
    monkeypatch.setattr(ssh, "_PATIENCE_SECONDS", GREETS_AFTER_SECONDS / 5)
    with pytest.raises(SshError, match="node1: no ssh within 1 s"):
        machine(slow_port, tmp_path).wait(1)
