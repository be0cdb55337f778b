"""The keeper owns the lab's processes, so that none outlives the lab.

A lab must leave nothing behind: not after `down`, and not when whoever started it was killed without a chance
to clean up. So nobody starts a lab process directly. A small detached daemon, one per run directory, starts
them all as its own children, and the kernel kills them when the daemon dies. This module is the client;
the daemon is `lab.keeperd`, started as `python -m lab.keeper RUN_DIR [--owner PID]`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SOCKET_NAME = "keeper.sock"
LOG_NAME = "keeper.log"
# sun_path holds 108 bytes with its final zero
SOCKET_PATH_LIMIT = 107
REPLY_MARGIN_SECONDS = 30.0


class KeeperError(Exception):
    """The keeper refused or could not do what was asked; the message says why."""


class KeeperGone(KeeperError):
    """No keeper answers in this run directory: never started, or it ended with all its children."""


class NotRunning(KeeperError):
    """The named process is not known to the keeper, or it has ended."""


_KINDS: Mapping[str, type[KeeperError]] = {"NotRunning": NotRunning}


class Keeper:
    """A handle on the keeper of one run directory. Cheap, stateless, usable from any thread or process."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    @classmethod
    def start(cls, run_dir: Path, *, owner_pid: int | None) -> Keeper:
        """Start a keeper for `run_dir` (made if missing) and return when it answers.

        With `owner_pid` the keeper kills its children and ends as soon as that process is gone, however it
        went; without, it lives until `shutdown`.
        """
        run_dir = run_dir.absolute()
        _check_socket_path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # -E and -S: nothing from the caller's environment or virtual environment may matter to the daemon
        argv = [sys.executable, "-E", "-S", "-m", "lab.keeper", str(run_dir)]
        if owner_pid is not None:
            argv += ["--owner", str(owner_pid)]
        # the launched process forks the daemon off when its socket listens, and ends: its end means "ready"
        with (run_dir / LOG_NAME).open("ab") as log:
            try:
                done = subprocess.run(
                    argv,
                    cwd=Path(__file__).resolve().parents[1],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=REPLY_MARGIN_SECONDS,
                    start_new_session=True,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise KeeperError(f"the keeper of {run_dir} did not start in {error.timeout:g} s") from error
        if done.returncode != 0:
            lines = (run_dir / LOG_NAME).read_text(errors="replace").splitlines()
            reason = lines[-1] if lines else f"exit status {done.returncode}"
            raise KeeperError(f"the keeper of {run_dir} did not start: {reason}")
        return cls(run_dir)

    @classmethod
    def connect(cls, run_dir: Path) -> Keeper:
        """A handle on the keeper that already runs for `run_dir`; raises `KeeperGone` when there is none."""
        keeper = cls(run_dir.absolute())
        keeper._ask({"op": "ping"})
        return keeper

    @property
    def pid(self) -> int:
        """The process id of the daemon itself."""
        return int(self._ask({"op": "ping"})["pid"])

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> int:
        """Start `argv` under `name` and return its process id. Output is appended to `log`.

        `env` is added to the keeper's environment (the one it was started with). The name is free again once
        its process has ended. The process leads a session of its own; what is left of its process group is
        killed when it ends.
        """
        request = {
            "op": "spawn",
            "name": name,
            "argv": list(argv),
            "log": str(log.absolute()),
            "env": dict(env or {}),
            "cwd": str((cwd or self.run_dir).absolute()),
        }
        return int(self._ask(request)["pid"])

    def kill(self, name: str, sig: int = signal.SIGKILL, *, timeout: float = 10) -> float:
        """Send `sig` and wait until the process is reaped. Returns the wall-clock time of the signal."""
        request = {"op": "kill", "name": name, "signal": int(sig), "timeout": timeout}
        return float(self._ask(request, timeout=timeout + REPLY_MARGIN_SECONDS)["sentAt"])

    def signal(self, name: str, sig: int) -> float:
        """Send `sig` without waiting for an end (SIGSTOP, SIGCONT, ...). Returns the time of the signal."""
        request = {"op": "kill", "name": name, "signal": int(sig), "timeout": None}
        return float(self._ask(request)["sentAt"])

    def running(self) -> dict[str, int]:
        """Names and process ids of all children that have not ended."""
        return {str(name): int(pid) for name, pid in self._ask({"op": "running"})["running"].items()}

    def exit_status(self, name: str) -> int | None:
        """How `name` last ended (negative: by that signal), None while it runs. Unknown: `NotRunning`."""
        status = self._ask({"op": "exit_status", "name": name})["status"]
        return None if status is None else int(status)

    def shutdown(self) -> None:
        """Kill all children and end the daemon; returns when that has happened. Fine if it is gone."""
        try:
            self._ask({"op": "shutdown"}, until_closed=True)
        except KeeperGone:
            return

    def _ask(
        self, request: Mapping[str, Any], *, timeout: float = REPLY_MARGIN_SECONDS, until_closed: bool = False
    ) -> dict[str, Any]:
        """One connection per request: nothing to share between threads, nothing to clean up after a fork."""
        path = self.run_dir / SOCKET_NAME
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(timeout)
                sock.connect(str(path))
                sock.sendall(json.dumps(request).encode() + b"\n")
                with sock.makefile("rb") as stream:
                    line = stream.readline()
                    if until_closed:
                        stream.read()
        except TimeoutError as error:
            raise KeeperError(f"the keeper at {path} did not answer {request['op']} in {timeout:g} s") from error
        except OSError as error:
            raise KeeperGone(f"no keeper answers at {path}: {error}") from error
        if not line.endswith(b"\n"):
            raise KeeperGone(f"the keeper at {path} ended while it was asked to {request['op']}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise _KINDS.get(reply.get("kind", ""), KeeperError)(reply["error"])
        return reply


def _check_socket_path(run_dir: Path) -> None:
    length = len(os.fsencode(run_dir / SOCKET_NAME))
    if length > SOCKET_PATH_LIMIT:
        raise KeeperError(
            f"{run_dir}: too long for a unix socket ({length} of {SOCKET_PATH_LIMIT} bytes): "
            "use a shorter run directory"
        )


if __name__ == "__main__":
    # imported late: clients have no use for the daemon's code
    from lab.keeperd import main

    sys.exit(main(sys.argv[1:]))
