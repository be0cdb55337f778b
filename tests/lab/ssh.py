"""Commands and files into the lab's machines, over OpenSSH with one shared connection per machine.

A new connection costs an emulated machine a third of a second, a command over a shared one a tenth of that. The
shared connection is a process of its own that ends by itself when its machine does, so nobody has to clean it up.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import shlex
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

Command = str | Sequence[str]
Result = subprocess.CompletedProcess[str]

DEFAULT_TIMEOUT = 120.0
_CONNECTION_LOST = 255
_CONNECT_SECONDS = 60
# a busy machine takes a second to greet, and each attempt makes it busier: the next one waits for twice as long
_BANNER_SECONDS = 4.0
_PATIENCE_SECONDS = 120.0  # and no longer


class SshError(Exception):
    """The machine can't be reached, or did not answer in time."""


class CommandFailed(Exception):
    """A command in a machine ended with an error; `result` has all of it."""

    def __init__(self, machine: str, command: Command, result: Result) -> None:
        what = command if isinstance(command, str) else shlex.join(command)
        output = (result.stderr.strip() or result.stdout.strip())[-2000:]
        super().__init__(f"{machine}: {what!r} ended with {result.returncode}: {output}")
        self.result = result


@dataclass(frozen=True)
class Ssh:
    """The way into one machine: `run_dir` is where the shared connection's socket goes."""

    machine: str
    address: str
    port: int
    key: Path
    run_dir: Path

    def arguments(self) -> list[str]:
        """ssh's argument list up to the host, for a person's terminal as well."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(_CONNECT_SECONDS),
            "ControlPath": str(self._control_path),
            "LogLevel": "ERROR",
            "Port": str(self.port),
            # throw-away machines with one host key for all
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "ServerAliveCountMax": "4",
            "ServerAliveInterval": "15",
        }
        settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # no configuration file of this machine or its user may matter
        return ["ssh", "-F", "none", "-i", str(self.key), *settings, f"root@{self.address}"]

    def run(
        self, command: Command, *, timeout: float = DEFAULT_TIMEOUT, check: bool = True, stdin: bytes = b""
    ) -> Result:
        """Run a command (an argument list, or a string for the shell there) and return what it printed."""
        line = command if isinstance(command, str) else shlex.join(command)
        done = self._execute(line, timeout, stdin)
        result = subprocess.CompletedProcess(
            line, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if done.returncode == _CONNECTION_LOST:
            raise SshError(f"{self.machine}: {line!r}: {result.stderr.strip() or 'the connection was lost'}")
        if check and done.returncode != 0:
            raise CommandFailed(self.machine, command, result)
        return result

    def write(self, path: str, content: bytes | str, *, mode: int = 0o644, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Write a file in the machine; folders above it are made."""
        data = content.encode() if isinstance(content, str) else content
        quoted = shlex.quote(path)
        line = f"mkdir -p {shlex.quote(str(PurePosixPath(path).parent))} && cat > {quoted} && chmod {mode:o} {quoted}"
        self.run(line, stdin=data, timeout=timeout)

    def read(self, path: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes:
        """The content of a file in the machine."""
        line = f"cat {shlex.quote(path)}"
        done = self._execute(line, timeout, b"")
        if done.returncode != 0:
            raise SshError(f"{self.machine}: {line}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def copy_in(self, source: Path, folder: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Copy a file or a folder with its content into `folder` in the machine, which is made if missing."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.add(source, arcname=source.name, filter=_as_root)
        quoted = shlex.quote(folder)
        self.run(f"mkdir -p {quoted} && tar -C {quoted} -xf -", stdin=stream.getvalue(), timeout=timeout)

    def copy_out(self, path: str, target: Path, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Copy one file out of the machine."""
        target.write_bytes(self.read(path, timeout=timeout))

    def answers(self, seconds: float) -> bool:
        """Does an ssh server answer in time? QEMU accepts connections in the name of a machine that is not up."""
        try:
            with socket.create_connection((self.address, self.port), timeout=seconds) as sock:
                sock.settimeout(seconds)
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    def wait(self, timeout: float) -> None:
        """Wait until commands work."""
        deadline, patience = time.monotonic() + timeout, _BANNER_SECONDS
        while True:
            began = time.monotonic()
            if self.answers(patience):
                try:
                    self.run("true", timeout=_CONNECT_SECONDS + patience)
                except SshError:
                    pass
                else:
                    return
            if time.monotonic() > deadline:
                raise SshError(f"{self.machine}: no ssh within {timeout:g} s")
            if time.monotonic() - began >= patience:  # it is slow, and not just not there yet
                patience = min(2 * patience, _PATIENCE_SECONDS)
            time.sleep(0.1)

    def set_clock(self) -> None:
        """Set the machine's clock to this machine's. The time is sent after the login, which takes a while."""
        line = 'echo ready && read -r now && date -s "@$now" > /dev/null'
        self._connect()
        process = subprocess.Popen(
            [*self.arguments(), line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{time.time():.3f}\n".encode())
                process.stdin.flush()
            try:
                code = process.wait(timeout=_CONNECT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                code = _CONNECTION_LOST
        if code != 0:
            raise SshError(f"{self.machine}: the clock could not be set")

    def drop(self) -> None:
        """Forget the shared connection: the machine at its other end is gone, or not the same any more."""
        if self._control_path.exists():
            command = [*self.arguments()[:-1], "-O", "exit", f"root@{self.address}"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, capture_output=True, check=False, timeout=_CONNECT_SECONDS)
            self._control_path.unlink(missing_ok=True)

    @property
    def _control_path(self) -> Path:
        return self.run_dir / f"{self.machine}.ssh"

    def _execute(self, line: str, timeout: float, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        self._connect()
        try:
            return subprocess.run(
                [*self.arguments(), line], input=stdin, capture_output=True, check=False, timeout=timeout
            )
        except subprocess.TimeoutExpired as error:
            raise SshError(f"{self.machine}: {line!r} took longer than {timeout:g} s") from error

    def _connect(self) -> None:
        """Make sure that the shared connection is there. Without one a command still works, only slower."""
        if self._control_path.exists():
            return
        with (self.run_dir / f"{self.machine}.ssh.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._control_path.exists():
                command = [*self.arguments()[:-1], "-M", "-N", "-f", f"root@{self.address}"]
                # it goes to the background with what it was given: never a pipe that somebody waits on
                quiet = subprocess.DEVNULL
                with contextlib.suppress(subprocess.TimeoutExpired):
                    subprocess.run(
                        command, stdin=quiet, stdout=quiet, stderr=quiet, check=False, timeout=2 * _CONNECT_SECONDS
                    )


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.endswith((".pyc", "/__pycache__")):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
