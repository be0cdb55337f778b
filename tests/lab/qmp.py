"""QEMU's machine protocol, with a time limit on everything. One short connection per purpose: nothing to share."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT_SECONDS = 60.0
# as fast as the disk takes it; QEMU's own limit is for a network
_STATE_BYTES_PER_SECOND = 16 << 30


class QmpError(Exception):
    """QEMU refused a command, or does not answer."""


class Session:
    """A connection to the QEMU whose socket is `path`."""

    def __init__(self, path: Path, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._stream = self._socket.makefile("rb")
            self._stream.readline()  # the greeting
            self.execute("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise QmpError(f"{path}: {error}") from error

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, fd: int | None = None) -> Any:
        """Run one command, with a file descriptor handed over if given, and return what it returns."""
        request = json.dumps({"execute": command, "arguments": dict(arguments or {})}).encode() + b"\n"
        try:
            socket.send_fds(self._socket, [request], [] if fd is None else [fd])
            for line in self._stream:
                reply = json.loads(line)
                if "error" in reply:
                    raise QmpError(f"{self._path}: {command}: {reply['error'].get('desc', reply['error'])}")
                if "return" in reply:
                    return reply["return"]
                # anything else is an event
        except OSError as error:
            raise QmpError(f"{self._path}: {command}: {error}") from error
        raise QmpError(f"{self._path}: {command}: QEMU closed the connection")


def execute(path: Path, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Run one command on the QEMU whose socket is `path`."""
    with Session(path) as session:
        return session.execute(command, arguments)


def human(path: Path, line: str, *, timeout: float) -> None:
    """Run a monitor command that has no machine form (savevm). Any output of such a command is a complaint."""
    with Session(path, timeout=timeout) as session:
        output = str(session.execute("human-monitor-command", {"command-line": line})).strip()
    if output:
        raise QmpError(f"{path}: {line}: {output}")


def wait_answering(path: Path, timeout: float, alive: Callable[[], bool]) -> str:
    """Wait until the QEMU at `path` answers; its run state (`running`, `paused`, ...). Gives up when it ended."""
    deadline = time.monotonic() + timeout
    while True:
        running = alive()
        try:
            return str(execute(path, "query-status")["status"])
        except QmpError:
            if not running or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def save_state(path: Path, target: Path) -> None:
    """Write a paused machine's state to a file. Its disks are flushed, and it never runs again."""
    with target.open("wb") as stream, Session(path) as session:
        session.execute("migrate-set-parameters", {"max-bandwidth": _STATE_BYTES_PER_SECOND})
        session.execute("getfd", {"fdname": "state"}, fd=stream.fileno())
        session.execute("migrate", {"uri": "fd:state"})
        _wait_migrated(session)


def load_state(path: Path, source: Path) -> None:
    """Load a state that `save_state` wrote into a machine started with `-incoming defer`; it stays paused."""
    with source.open("rb") as stream, Session(path) as session:
        session.execute("getfd", {"fdname": "state"}, fd=stream.fileno())
        session.execute("migrate-incoming", {"uri": "fd:state"})
        _wait_migrated(session)


def _wait_migrated(session: Session) -> None:
    deadline = time.monotonic() + 5 * TIMEOUT_SECONDS
    while True:
        status = session.execute("query-migrate").get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise QmpError(f"the machine's state could not be moved: {status}")
        time.sleep(0.02)
