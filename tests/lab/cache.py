"""What the lab builds once and keeps: content-keyed artifacts, and the progress that is shown meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT_VARIABLE = "STORAGEPAIR_CACHE"
KEPT_VERSIONS = 2
HEARTBEAT_SECONDS = 30.0

# a file's path stands for its content; everything else is taken as it is
KeyInput = str | bytes | Path

_output = threading.Lock()


def root() -> Path:
    """The cache's folder: STORAGEPAIR_CACHE, or ~/.cache/storagepair."""
    given = os.environ.get(ROOT_VARIABLE)
    return Path(given).absolute() if given else Path.home() / ".cache" / "storagepair"


def artifact(name: str, key_inputs: Mapping[str, KeyInput], build: Callable[[Path], None]) -> Path:
    """The folder of the artifact `name` made from these inputs; built by `build(folder)` if it isn't there.

    Only one process builds an artifact at a time, the others wait for it. A build that fails or is killed
    leaves nothing that could be taken for an artifact. The two versions used last are kept.
    """
    path = artifact_path(name, key_inputs)
    if not path.is_dir():
        with _alone(path.parent, name):
            if not path.is_dir():
                _build(path, build)
                _prune(path)
    os.utime(path)  # what was used last is pruned last
    return path


def artifact_path(name: str, key_inputs: Mapping[str, KeyInput]) -> Path:
    """Where `artifact` keeps what it builds from these inputs, built or not."""
    return root() / name / _key(key_inputs)


def say(message: str) -> None:
    """One line of progress, whole, whoever else writes at the same time."""
    with _output:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


@contextmanager
def step(message: str) -> Iterator[None]:
    """Tell what is being done: at the start, every 30 s while it lasts, at the end with the seconds taken."""
    started = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"    {message}: still at it after {time.monotonic() - started:.0f} s")

    say(f"==> {message} ...")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        done.set()
        thread.join()
        say(f"    {message}: {outcome} {time.monotonic() - started:.1f} s")


def _key(key_inputs: Mapping[str, KeyInput]) -> str:
    digest = hashlib.sha256(platform.machine().encode())
    for label, value in sorted(key_inputs.items()):
        content = value.read_bytes() if isinstance(value, Path) else value
        data = content.encode() if isinstance(content, str) else content
        # lengths, so that no two different sets of inputs are the same bytes
        digest.update(f"{len(label)}:{label}={len(data)}:".encode() + data)
    return digest.hexdigest()[:16]


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the artifact's lock. The kernel drops it when the holder dies, so it can't be left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for another process that builds {name}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(path: Path, build: Callable[[Path], None]) -> None:
    # beside its final place: a rename is atomic only within one file system
    unfinished = path.with_name(f".{path.name}.tmp")
    for leftover in path.parent.glob(".*.tmp"):
        shutil.rmtree(leftover)
    unfinished.mkdir()
    try:
        build(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(path)


def _prune(newest: Path) -> None:
    others = [each for each in newest.parent.iterdir() if not each.name.startswith(".") and each != newest]
    others.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    for old in others[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(old)
