#!/usr/bin/env python3
"""Write unique blocks to a disk, remember every one that was acknowledged, and verify them all afterwards.

Runs on the initiator, beside nothing but Python's standard library. Every block of 4 KiB is filled to its last byte
from the run's id and the write's sequence number, so a block that is missing, old, torn or somebody else's is found.
The log of acknowledgements is on the initiator's own disk, not on the one under test.

    verifying_writer.py run DEVICE LOG RESULT.json [--dsync] [--seconds N]    until SIGTERM; then verifies
    verifying_writer.py verify DEVICE LOG RESULT.json                         only the verification, once more
    verifying_writer.py status LOG                                            how far it is
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

BLOCK = 4096
GAP_SECONDS = 0.7
SYNC_SECONDS = 0.25
RETRY_SECONDS = 0.3
# how long a verification goes on asking for a block that can't be read
READ_RETRY_SECONDS = 180.0
READ_BLOCKS = 16
SHOWN = 20
_HEADER = struct.Struct("<8sQQ")
_MAGIC = b"LABWRITE"
_LOG_HEADER = struct.Struct("<8sQQ")
_RECORD = struct.Struct("<Qdd")


def block(run: int, sequence: int) -> bytes:
    """The content of write number `sequence` of the run: all 4096 bytes depend on both numbers."""
    header = _HEADER.pack(_MAGIC, run, sequence)
    filling = hashlib.sha256(header).digest()
    return (header + filling * (BLOCK // len(filling)))[:BLOCK]


@dataclass(frozen=True)
class Ack:
    """One acknowledged write: its number, and when the acknowledgement came (wall clock, monotonic clock)."""

    sequence: int
    at: float
    monotonic: float


@dataclass(frozen=True)
class Gap:
    """A time in which no write was acknowledged."""

    start: float
    end: float
    seconds: float


@dataclass
class Result:
    """What a run found. `lost` counts acknowledged writes whose block does not hold what was written."""

    run: int
    acked: int
    lost: int = 0
    errors: int = 0
    started: float = 0.0
    ended: float = 0.0
    longest_gap: float = 0.0
    gaps: list[Gap] = field(default_factory=list)
    lost_blocks: list[dict[str, object]] = field(default_factory=list)
    first_errors: list[dict[str, object]] = field(default_factory=list)

    def save(self, path: str) -> None:
        """Write the result, whole."""
        unfinished = path + ".new"
        with open(unfinished, "w") as stream:
            json.dump(asdict(self), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(unfinished, path)


class AckLog:
    """Appends acknowledgements to a file. Written at once, so that they outlive this process; on the disk soon."""

    def __init__(self, path: str, run: int, blocks: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.write(self._fd, _LOG_HEADER.pack(_MAGIC, run, blocks))
        self._synced = 0.0

    def add(self, ack: Ack) -> None:
        """Record one acknowledged write."""
        os.write(self._fd, _RECORD.pack(ack.sequence, ack.at, ack.monotonic))
        if ack.monotonic - self._synced > SYNC_SECONDS:
            self.sync()
            self._synced = ack.monotonic

    def sync(self) -> None:
        """Make all records durable."""
        os.fdatasync(self._fd)


def read_log(path: str) -> tuple[int, int, list[Ack]]:
    """The run's id, the number of blocks it uses, and all acknowledged writes."""
    with open(path, "rb") as stream:
        magic, run, blocks = _LOG_HEADER.unpack(stream.read(_LOG_HEADER.size))
        if magic != _MAGIC:
            raise ValueError(f"{path} is no log of acknowledgements")
        records = stream.read()
    whole = len(records) - len(records) % _RECORD.size
    return run, blocks, [Ack(*fields) for fields in _RECORD.iter_unpack(records[:whole])]


def find_gaps(acks: Sequence[Ack], ended: float | None = None) -> list[Gap]:
    """The times over 0.7 s without an acknowledgement; `ended` (monotonic) closes the last one."""
    gaps = []
    for before, after in itertools.pairwise(acks):
        seconds = after.monotonic - before.monotonic
        if seconds > GAP_SECONDS:
            gaps.append(Gap(before.at, before.at + seconds, round(seconds, 3)))
    if acks and ended is not None and ended - acks[-1].monotonic > GAP_SECONDS:
        seconds = ended - acks[-1].monotonic
        gaps.append(Gap(acks[-1].at, acks[-1].at + seconds, round(seconds, 3)))
    return gaps


def expected_blocks(blocks: int, acks: Sequence[Ack]) -> dict[int, tuple[int, ...]]:
    """Which write's content may be found at each block.

    The last acknowledged one; and at one place the write that was under way when the writer was killed.
    """
    expected: dict[int, tuple[int, ...]] = {ack.sequence % blocks: (ack.sequence,) for ack in acks}
    if acks:
        under_way = acks[-1].sequence + 1
        place = under_way % blocks
        if place in expected:
            expected[place] = (*expected[place], under_way)
    return expected


def write_blocks(device: str, log: AckLog, run: int, blocks: int, flags: int, options: argparse.Namespace) -> Result:
    """Write one block after the other until told to stop; a failed write is repeated until it is acknowledged."""
    stopping: list[int] = []
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _frame: stopping.append(number))
    result = Result(run, 0, started=time.time())
    end = time.monotonic() + options.seconds if options.seconds else float("inf")
    buffer = mmap.mmap(-1, BLOCK)
    fd = os.open(device, os.O_RDWR | flags)
    sequence = 0
    while not stopping and time.monotonic() < end:
        buffer[:] = block(run, sequence)
        try:
            written = os.pwrite(fd, buffer, sequence % blocks * BLOCK)
        except OSError as error:
            note_error(result, sequence, error)
            time.sleep(RETRY_SECONDS)
            continue
        if written == BLOCK:
            log.add(Ack(sequence, time.time(), time.monotonic()))
            sequence += 1
        time.sleep(options.pause)
    os.close(fd)
    log.sync()
    result.ended = time.time()
    return result


def note_error(result: Result, sequence: int, error: OSError) -> None:
    """Count an error that a write met; the first ones are kept."""
    result.errors += 1
    if len(result.first_errors) < SHOWN:
        result.first_errors.append({"at": time.time(), "sequence": sequence, "error": str(error)})


def read_blocks(device: str, flags: int, places: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
    """The content of the blocks at `places` (ascending), past every cache; None for what can't be read."""
    fd = os.open(device, os.O_RDONLY | flags)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = mmap.mmap(-1, READ_BLOCKS * BLOCK)
    wanted = set(places)
    for first in range(0, (places[-1] + 1) if places else 0, READ_BLOCKS):
        here = [place for place in range(first, first + READ_BLOCKS) if place in wanted]
        if here:
            count = read_patiently(lambda start=first: os.preadv(fd, [buffer], start * BLOCK))  # type: ignore[misc]
            for place in here:
                start = (place - first) * BLOCK
                yield place, bytes(buffer[start : start + BLOCK]) if start + BLOCK <= count else None
    os.close(fd)


def read_patiently(read: Callable[[], int]) -> int:
    """A read that is repeated while it fails: a target that moves is no loss. 0 when it never works."""
    deadline = time.monotonic() + READ_RETRY_SECONDS
    while True:
        try:
            return read()
        except OSError:
            if time.monotonic() > deadline:
                return 0
            time.sleep(RETRY_SECONDS)


def verify(device: str, log_path: str, flags: int, result: Result | None = None) -> Result:
    """Compare every acknowledged block, byte by byte, with what was written."""
    run, blocks, acks = read_log(log_path)
    result = result or Result(run, 0, started=acks[0].at if acks else 0.0, ended=acks[-1].at if acks else 0.0)
    result.acked = len(acks)
    ended = None
    if acks and result.ended > acks[-1].at:
        ended = acks[-1].monotonic + result.ended - acks[-1].at
    result.gaps = find_gaps(acks, ended)
    result.longest_gap = max((gap.seconds for gap in result.gaps), default=0.0)
    expected = expected_blocks(blocks, acks)
    for place, content in read_blocks(device, flags, sorted(expected)):
        if content not in [block(run, sequence) for sequence in expected[place]]:
            result.lost += 1
            if len(result.lost_blocks) < SHOWN:
                result.lost_blocks.append({"sequence": expected[place][0], "block": place, "found": describe(content)})
    return result


def describe(content: bytes | None) -> str:
    """What is found in the place of a lost block."""
    if content is None:
        return "unreadable"
    if not any(content):
        return "zeros"
    magic, run, sequence = _HEADER.unpack_from(content)
    return f"write {sequence} of run {run}, or a part of it" if magic == _MAGIC else "something else"


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description="Write to a disk and verify every acknowledged write.")
    commands = parser.add_subparsers(required=True, dest="command")
    for name in ("run", "verify"):
        command = commands.add_parser(name)
        for each in ("device", "log", "result"):
            command.add_argument(each)
        command.add_argument("--buffered", action="store_true", help="through the page cache: for files that need it")
        if name == "run":
            command.add_argument("--dsync", action="store_true", help="O_DSYNC: each write asks to be durable")
            command.add_argument("--seconds", type=float, default=0.0, help="end by itself after this time")
            command.add_argument("--pause", type=float, default=0.002, help="seconds between two writes")
            command.add_argument("--blocks", type=int, default=0, help="use only so many blocks of the device")
    commands.add_parser("status").add_argument("log")
    options = parser.parse_args(arguments)
    if options.command == "status":
        _, _, acks = read_log(options.log)
        print(json.dumps({"acked": len(acks), "last": acks[-1].at if acks else None, "now": time.time()}))
        return 0
    direct = 0 if options.buffered else os.O_DIRECT
    result = None
    if options.command == "run":
        run = time.time_ns()
        blocks = options.blocks or device_blocks(options.device)
        log = AckLog(options.log, run, blocks)
        flags = direct | (os.O_DSYNC if options.dsync else 0)
        result = write_blocks(options.device, log, run, blocks, flags, options)
    result = verify(options.device, options.log, direct, result)
    result.save(options.result)
    return 1 if result.lost else 0


def device_blocks(device: str) -> int:
    """How many blocks fit on the device."""
    fd = os.open(device, os.O_RDONLY)
    size = os.lseek(fd, 0, os.SEEK_END)
    os.close(fd)
    return size // BLOCK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
