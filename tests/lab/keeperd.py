"""The keeper's daemon: one thread, one selector, and the lab's processes as its children.

It needs nothing but the standard library and `lab.niceness`, which needs nothing else. One thread on purpose:
PR_SET_PDEATHSIG, which makes the kernel kill a child with its parent, fires when the *thread* that forked the child
ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.niceness import give_to_session

SOCKET_NAME = "keeper.sock"
LOCK_NAME = "keeper.lock"
PR_SET_PDEATHSIG = 1
MAX_REQUEST_BYTES = 4 << 20

# loaded before any fork: between fork and exec nothing should need the dynamic loader
_LIBC = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A request that can't be done; `kind` names the exception that the client raises."""

    def __init__(self, message: str, kind: str = "KeeperError") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class _Child:
    """A process under its name: running while `status` is None."""

    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    status: int | None = None


@dataclass
class _Client:
    """A connection: one request line in, one reply line out."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)


@dataclass
class _Waiter:
    """A client that waits for the end of a child that was sent a signal."""

    client: _Client
    child: _Child
    deadline: float
    reply: Mapping[str, Any]


class Daemon:
    """Serves the run directory's socket until it is told to end, or its owner is gone."""

    def __init__(self, listener: socket.socket, socket_path: Path, owner_fd: int | None) -> None:
        self._listener = listener
        self._socket_path = socket_path
        self._children: dict[str, _Child] = {}
        self._waiters: list[_Waiter] = []
        self._farewell: list[_Client] = []
        self._ending = False
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._watch(listener, self._accept)
        if owner_fd is not None:
            self._watch(owner_fd, self._end)
        self._watch(_signal_pipe(signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._end)

    def serve(self) -> None:
        """Run until the end; all children are dead and reaped when this returns."""
        try:
            while not self._ending:
                self._turn()
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._socket_path.unlink()
            for child in self._alive():
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            for child in self._alive():
                self._reap(child)
        for client in self._farewell:
            self._reply(client, {})

    def _turn(self) -> None:
        now = time.monotonic()
        timeout = min((waiter.deadline - now for waiter in self._waiters), default=None)
        for key, _ in self._selector.select(None if timeout is None else max(0.0, timeout)):
            key.data()
        now = time.monotonic()
        for waiter in [each for each in self._waiters if each.deadline <= now]:
            self._waiters.remove(waiter)
            message = f"{waiter.child.name} (pid {waiter.child.process.pid}) got the signal but did not end in time"
            self._reply(waiter.client, {"error": message})

    def _watch(self, fileobj: int | socket.socket, callback: Callable[[], None]) -> None:
        self._selector.register(fileobj, selectors.EVENT_READ, callback)

    def _end(self) -> None:
        self._ending = True

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            client = _Client(sock)
            self._watch(sock, lambda: self._receive(client))

    def _receive(self, client: _Client) -> None:
        try:
            data = client.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.received += data
        line, newline, _ = client.received.partition(b"\n")
        if newline or not data or len(client.received) > MAX_REQUEST_BYTES:
            self._selector.unregister(client.sock)
            if newline:
                self._handle(client, bytes(line))
            else:
                client.sock.close()

    def _handle(self, client: _Client, line: bytes) -> None:
        try:
            request = json.loads(line)
            operation = getattr(self, f"_do_{request['op']}", None)
            if operation is None:
                raise Refused(f"unknown operation {request['op']!r}")
            reply = operation(client, request)
        except Refused as refused:
            reply = {"error": str(refused), "kind": refused.kind}
        except Exception as error:  # noqa: BLE001 - a bad request must never end the keeper: it would end the lab
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        if reply is not None:
            self._reply(client, reply)

    def _reply(self, client: _Client, reply: Mapping[str, Any]) -> None:
        # replies are short: they fit the socket's buffer. A client that has gone needs none.
        with contextlib.suppress(OSError):
            client.sock.sendall(json.dumps(reply).encode() + b"\n")
        client.sock.close()

    def _do_ping(self, _client: _Client, _request: Mapping[str, Any]) -> dict[str, Any]:
        return {"pid": self._pid}

    def _do_spawn(self, _client: _Client, request: Mapping[str, Any]) -> dict[str, Any]:
        name = request["name"]
        old = self._children.get(name)
        if old is not None and old.status is None:
            raise Refused(f"{name} already runs (pid {old.process.pid})")
        try:
            process = self._popen(request)
        except OSError as error:
            raise Refused(f"cannot start {name}: {error}") from error
        child = _Child(name, process, os.pidfd_open(process.pid))
        self._children[name] = child
        self._watch(child.pidfd, lambda: self._reap(child))
        return {"pid": process.pid}

    def _popen(self, request: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        keeper = self._pid

        def in_the_child() -> None:
            give_to_session()
            if _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != keeper:
                os._exit(127)  # the keeper went in this very moment

        Path(request["log"]).parent.mkdir(parents=True, exist_ok=True)
        with Path(request["log"]).open("ab") as log:
            return subprocess.Popen(
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | request["env"],
                cwd=request["cwd"],
                start_new_session=True,
                preexec_fn=in_the_child,  # safe: the daemon has one thread
            )

    def _do_kill(self, client: _Client, request: Mapping[str, Any]) -> dict[str, Any] | None:
        child = self._find(request["name"])
        if child.status is not None:
            raise Refused(f"{child.name} has ended (status {child.status})", "NotRunning")
        sent_at = time.time()
        signal.pidfd_send_signal(child.pidfd, request["signal"])
        reply = {"sentAt": sent_at}
        if request["timeout"] is None:
            return reply
        self._waiters.append(_Waiter(client, child, time.monotonic() + request["timeout"], reply))
        return None

    def _do_running(self, _client: _Client, _request: Mapping[str, Any]) -> dict[str, Any]:
        return {"running": {child.name: child.process.pid for child in self._alive()}}

    def _do_exit_status(self, _client: _Client, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"status": self._find(request["name"]).status}

    def _do_shutdown(self, client: _Client, _request: Mapping[str, Any]) -> None:
        self._farewell.append(client)
        self._ending = True

    def _find(self, name: str) -> _Child:
        child = self._children.get(name)
        if child is None:
            raise Refused(f"no process was started under the name {name!r}", "NotRunning")
        return child

    def _alive(self) -> list[_Child]:
        return [child for child in self._children.values() if child.status is None]

    def _reap(self, child: _Child) -> None:
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
        # what the child started goes with it; before it is reaped, its number can't belong to anybody else
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.status = child.process.wait()
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        for waiter in [each for each in self._waiters if each.child is child]:
            self._waiters.remove(waiter)
            self._reply(waiter.client, waiter.reply)


def _signal_pipe(*signals: signal.Signals) -> int:
    """A descriptor that becomes readable on any of `signals`. Handlers, unlike SIG_IGN, end at an exec."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for each in signals:
        signal.signal(each, lambda _number, _frame: None)
    return read_end


def _listen(run_dir: Path) -> socket.socket:
    """Listen on the run directory's socket, alone: the lock tells a stale socket from a served one."""
    lock = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until this process ends: never closed
    except BlockingIOError:
        raise Refused(f"a keeper already runs in {run_dir}") from None
    path = run_dir / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def main(arguments: Sequence[str]) -> int:
    """Listen, fork the daemon off, and end with 0: the caller then knows that the keeper answers."""
    parser = argparse.ArgumentParser(prog="python -m lab.keeper", description="Own the processes of one lab.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--owner", type=int, help="end when the process with this id is gone")
    options = parser.parse_args(arguments)
    try:
        owner_fd = None if options.owner is None else os.pidfd_open(options.owner)
        listener = _listen(options.run_dir)
    except (OSError, Refused) as error:
        print(f"keeper: {error}", file=sys.stderr, flush=True)
        return 1
    if os.fork() != 0:
        os._exit(0)
    os.chdir(options.run_dir)
    Daemon(listener, options.run_dir / SOCKET_NAME, owner_fd).serve()
    return 0
