"""The host as the agent reaches it: its files, its programs. The one module that runs and writes there.

In the DaemonSet's pod (hostPID, privileged) the host's files are under /proc/1/root and its programs run in its
namespaces by nsenter; as a plain process on the host the root is / and programs run directly.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

ACTION_LOG = "/var/log/storagepair/actions.log"
_ACTION_LOG_LIMIT = 4 * 1024 * 1024
_MEANWHILE_SECONDS = 5.0
_NSENTER = ("nsenter", "--target", "1", "--mount", "--uts", "--ipc", "--net", "--")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": SEARCH_PATH, "LC_ALL": "C"}

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """A finished program: exit code (124 when it was killed at its time limit, 127 when it isn't there) and output."""

    returncode: int
    stdout: str
    stderr: str

    def complaint(self) -> str:
        """The last thing it said about why it failed, in one line of at most 300 characters."""
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return " / ".join(lines[-3:])[:300] or "it said nothing"

    def last_word(self) -> str:
        """The last line of its output; where there is none, its complaint. At most 1000 characters."""
        lines = [line.strip() for line in self.stdout.splitlines() if line.strip()]
        return (lines[-1] if lines else self.complaint())[:1000]


class Host:
    """Files and programs of one host."""

    def __init__(self, root: Path = Path("/"), prefix: Sequence[str] = ()) -> None:
        self._root = root
        self._prefix = tuple(prefix)
        self.meanwhile: Callable[[], None] = lambda: None  # called every few seconds while a program runs on and on
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="program")  # so that there is a meanwhile
        self.changes = 0  # how many actions this process logged: what was remembered before one may not hold after it
        self._memory: dict[str, tuple[Hashable, object]] = {}

    @classmethod
    def detect(cls) -> Host:
        """From inside a container with the host's PID namespace: PID 1's root; else this very machine."""
        try:
            own, init = Path("/proc/self/ns/mnt").readlink(), Path("/proc/1/ns/mnt").readlink()
        except OSError:
            return cls()
        return cls() if own == init else cls(Path("/proc/1/root"), _NSENTER)

    @classmethod
    def at(cls, root: Path) -> Host:
        """The host whose files are seen under `root`, its programs reached by nsenter into PID 1's namespaces."""
        return cls(root, _NSENTER)

    def path(self, path: str) -> Path:
        """Where the agent sees the host's absolute `path`."""
        return self._root / path.lstrip("/")

    def run(self, argv: Sequence[str], *, timeout_seconds: float = 10, stdin: str | None = None) -> Result:
        """Run a program in the host's namespaces; never raises for its failure, see `Result`."""
        run = self._runner.submit(self._run, argv, timeout_seconds, stdin or "")
        end = time.monotonic() + timeout_seconds
        while not wait([run], _MEANWHILE_SECONDS).done:
            if time.monotonic() < end:  # later it is a program that can't even be killed
                self.meanwhile()
        return run.result()

    def _run(self, argv: Sequence[str], timeout_seconds: float, stdin: str) -> Result:
        try:
            done = subprocess.run(
                [*self._prefix, *argv],
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
                env=_ENVIRONMENT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result(124, "", f"no answer from {argv[0]} within {timeout_seconds:g} s")
        except FileNotFoundError:
            return Result(127, "", f"{argv[0]}: not found")
        return Result(done.returncode, done.stdout, done.stderr)

    def spawn(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program that goes on (an event stream on its stdout); the caller ends it. Raises OSError."""
        return subprocess.Popen(
            [*self._prefix, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
        )

    def which(self, program: str) -> str | None:
        """The host's absolute path of a program, None when it isn't installed."""
        if program.startswith("/"):
            return program if self.present(program) else None
        candidates = (f"{folder}/{program}" for folder in SEARCH_PATH.split(":"))
        return next((path for path in candidates if self.present(path)), None)

    def present(self, path: str) -> bool:
        """Whether there is anything at `path`, be it a symbolic link whose absolute target can't be followed here."""
        return os.path.lexists(self.path(path))

    def stamp(self, path: str) -> tuple[int, int, int] | None:
        """What changes when a file is replaced or written: inode, size, time. None when it isn't there."""
        try:
            seen = self.path(path).stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns

    def remember(self, key: str, fingerprint: Hashable, produce: Callable[[], T]) -> T:
        """`produce()`'s answer, asked again only when `fingerprint` differs from last time.

        An observation every few seconds must not fork for what can't have changed: give what it depends on.
        """
        known = self._memory.get(key)
        if known is None or known[0] != fingerprint:
            known = (fingerprint, produce())
            self._memory[key] = known
        return cast(T, known[1])

    def read(self, path: str) -> str | None:
        """A text file's content, None when it isn't there."""
        try:
            return self.path(path).read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, path: str) -> bool:
        return self.path(path).exists()

    def write(self, path: str, content: str, mode: int) -> None:
        """Replace the file whole: after a power cut it holds the old content or the new, never a part."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.storagepair")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)  # the mode of os.open is subject to the umask and to a file left behind
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self, path: str) -> None:
        self.path(path).unlink(missing_ok=True)

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        self.path(path).mkdir(mode=mode, parents=True, exist_ok=True)

    def log_action(self, line: str) -> None:
        """Append to the host's action log: what the agent changed, and when. Kept under 8 MiB."""
        self.changes += 1
        log = self.path(ACTION_LOG)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _ACTION_LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")
