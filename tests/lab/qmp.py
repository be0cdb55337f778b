"""QEMU's machine protocol: one short connection per request, with a time limit on everything."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 60.0


class QmpError(Exception):
    """QEMU refused a command, or does not answer."""


def execute(path: Path, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
    """Run one command on the QEMU whose socket is `path` and return what it returns."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout or _TIMEOUT_SECONDS)
        try:
            sock.connect(str(path))
            with sock.makefile("rwb") as stream:
                stream.readline()  # the greeting
                _ask(stream, {"execute": "qmp_capabilities"})
                return _ask(stream, {"execute": command, "arguments": dict(arguments or {})})
        except OSError as error:
            raise QmpError(f"{path}: {command}: {error}") from error


def human(path: Path, line: str, *, timeout: float | None = None) -> str:
    """Run a monitor command that has no machine form (savevm). Any output of such a command is a complaint."""
    output = str(execute(path, "human-monitor-command", {"command-line": line}, timeout=timeout)).strip()
    if output:
        raise QmpError(f"{path}: {line}: {output}")
    return output


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


def _ask(stream: Any, request: Mapping[str, Any]) -> Any:
    stream.write(json.dumps(request).encode() + b"\n")
    stream.flush()
    for line in stream:
        reply = json.loads(line)
        if "error" in reply:
            raise QmpError(f"{request['execute']}: {reply['error'].get('desc', reply['error'])}")
        if "return" in reply:
            return reply["return"]
        # anything else is an event
    raise QmpError(f"{request['execute']}: QEMU closed the connection")
