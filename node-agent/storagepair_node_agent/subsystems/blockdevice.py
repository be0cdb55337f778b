"""Looking at a block device without touching it: is it provably empty, and who uses it?"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import DiskFacts

_END_BYTES = 4 * 1024 * 1024
_SAMPLE_BYTES = 64 * 1024
_SAMPLES = 64
_SECTOR = 512
_REFRESH_SECONDS = 60


class DeviceError(Exception):
    """The device can't be examined; the message says why."""


def size_of(host: Host, path: str) -> int | None:
    """A whole block device's size in bytes; None when `path` is none (missing, a file, a partition)."""
    folder = _sysfs(host, path)
    if folder is None or (folder / "partition").exists():
        return None
    return int((folder / "size").read_text()) * _SECTOR


def inspect(host: Host, path: str) -> DiskFacts:
    """Everything that speaks for or against "provably empty". Looked at again once a minute and after every
    change that we made: it forks and reads 12 MiB.

    Raises DeviceError when the device does not let itself be examined: not being able to see a signature must never
    pass for there being none.
    """
    size = size_of(host, path)
    if size is None:
        return DiskFacts(path)
    key = (host.changes, path, size, _sysfs(host, path), int(time.monotonic() / _REFRESH_SECONDS))
    return host.remember("disk", key, lambda: _inspect(host, path, size))


def is_zero(device: Path, size: int, ranges: Iterator[tuple[int, int]]) -> bool:
    """Whether all these (offset, length) ranges hold only zeros. Raises OSError.

    Read through the page cache, dropped first: DRBD writes to its lower device beside the cache, so that cached
    zeros may be stale.
    """
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for offset, length in ranges:
            length = min(length, size - offset)
            content = os.pread(descriptor, length, offset)
            if len(content) != length or content.count(0) != length:
                return False
    finally:
        os.close(descriptor)
    return True


def head() -> Iterator[tuple[int, int]]:
    """The range where every file system, partition table and volume manager has its first signature."""
    yield 0, _END_BYTES


def signatures(host: Host, path: str) -> tuple[str, ...]:
    """All that libblkid knows on the device: file systems, RAID, LVM, DRBD, partition tables. Raises DeviceError."""
    result = host.run(("wipefs", "--no-act", "--noheadings", "--output", "TYPE", path), timeout_seconds=30)
    if result.returncode != 0:
        raise DeviceError(f"wipefs --no-act {path}: {result.complaint()}")
    return tuple(dict.fromkeys(result.stdout.split()))


def _inspect(host: Host, path: str, size: int) -> DiskFacts:
    found = signatures(host, path)
    users = tuple(_users(host, path))
    ranges = _spread(size)
    try:
        # non-zero content is no news where a signature was found
        zeroed = not found and is_zero(host.path(path), size, ranges)
    except OSError as error:
        raise DeviceError(f"{path} can't be read: {error.strerror}") from error
    return DiskFacts(path, present=True, size_bytes=size, signatures=found, in_use_by=users, zeroed=zeroed)


def _spread(size: int) -> Iterator[tuple[int, int]]:
    """Both ends, where signatures are, and samples between, where data without any signature would show."""
    yield 0, _END_BYTES
    yield max(0, size - _END_BYTES), _END_BYTES
    for index in range(1, _SAMPLES):
        yield size // _SAMPLES * index // 4096 * 4096, _SAMPLE_BYTES


def _users(host: Host, path: str) -> Iterator[str]:
    """Partitions, device-mapper and RAID holders, mounts, swap, and whoever else has claimed the device."""
    folder = _sysfs(host, path)
    if folder is None:
        return
    yield from (f"partition {entry.parent.name}" for entry in folder.glob("*/partition"))
    yield from (f"holder {entry.name}" for entry in folder.glob("holders/*"))
    number = (folder / "dev").read_text().strip()
    for line in (host.read("/proc/1/mountinfo") or "").splitlines():
        words = line.split()  # proc(5): the third is major:minor, the fifth the mount point
        if len(words) > 4 and words[2] == number:
            yield f"mounted at {words[4]}"
    for line in (host.read("/proc/swaps") or "").splitlines()[1:]:
        if line.split()[0].rpartition("/")[2] == folder.name:
            yield "swap"
    with suppress(FileNotFoundError):
        yield from _claim(host, path)


def _claim(host: Host, path: str) -> Iterator[str]:
    """O_EXCL without O_CREAT on a block device fails with EBUSY where the kernel has it in use (open(2))."""
    try:
        os.close(os.open(host.path(path), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise DeviceError(f"{path} can't be opened: {error.strerror}") from error
        yield "claimed by the kernel"


def _sysfs(host: Host, path: str) -> Path | None:
    """The device's folder in sysfs, by its number: names may be symbolic links (/dev/disk/by-id/...)."""
    try:
        seen = host.path(path).stat()
    except OSError:
        return None
    if not stat.S_ISBLK(seen.st_mode):
        return None
    link = host.path(f"/sys/dev/block/{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}")
    return link.parent / link.readlink() if link.is_symlink() else None
