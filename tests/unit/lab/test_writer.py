"""The verifying writer, on a file. What it must never do is to call a lost block found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.initiator import WriterResult
from lab.writer import verifying_writer as writer

PROGRAM = Path(writer.__file__)
BLOCKS = 64


class Run:
    """A writer that ran on a file of 64 blocks."""

    def __init__(self, folder: Path) -> None:
        self.device, self.log, self.document = folder / "device", folder / "log", folder / "result.json"
        self.device.write_bytes(b"\0" * BLOCKS * writer.BLOCK)

    def arguments(self, command: str, *options: str) -> list[str]:
        files = [str(each) for each in (self.device, self.log, self.document)]
        return [sys.executable, "-I", str(PROGRAM), command, *files, "--buffered", *options]

    def run(self, seconds: float, *options: str) -> WriterResult:
        argv = self.arguments("run", f"--seconds={seconds}", *options)
        subprocess.run(argv, check=True, timeout=60)
        return WriterResult.parse(self.document.read_text())

    def verify(self) -> WriterResult:
        subprocess.run(self.arguments("verify"), check=False, timeout=60)
        return WriterResult.parse(self.document.read_text())

    def change(self, place: int, change: Callable[[bytearray], None]) -> None:
        content = bytearray(self.device.read_bytes())
        block = content[place * writer.BLOCK : (place + 1) * writer.BLOCK]
        change(block)
        content[place * writer.BLOCK : (place + 1) * writer.BLOCK] = block
        self.device.write_bytes(content)


@pytest.fixture()
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_every_acknowledged_write_is_found(run: Run) -> None:
    result = run.run(0.5, "--pause=0.02")
    assert 1 < result.acked < BLOCKS
    assert (result.lost, result.errors, result.gaps) == (0, 0, ())


def test_a_disk_may_be_written_over_and_over(run: Run) -> None:
    result = run.run(1, "--pause=0")
    assert result.acked > BLOCKS
    assert result.lost == 0


def flip_last_bit(block: bytearray) -> None:
    block[-1] ^= 1


def zero(block: bytearray) -> None:
    block[:] = bytes(len(block))


def tear(block: bytearray) -> None:
    block[512:1024] = bytes(512)


def age(block: bytearray) -> None:
    """The same place as an earlier pass over the disk left it."""
    _, run_id, sequence = writer._HEADER.unpack_from(block)
    block[:] = writer.block(run_id, sequence - BLOCKS)


@pytest.mark.parametrize("damage", [flip_last_bit, zero, tear, age])
def test_a_damaged_block_is_lost(run: Run, damage: Callable[[bytearray], None]) -> None:
    run.run(1, "--pause=0")
    run.change(5, damage)
    result = run.verify()
    assert result.lost == 1
    assert result.document["lost_blocks"][0]["block"] == 5


def test_a_block_of_another_run_is_lost(run: Run) -> None:
    run.run(0.5, "--pause=0.02")
    run.change(0, lambda block: block.__setitem__(slice(None), writer.block(1, 0)))
    assert run.verify().lost == 1


def test_blocks_swapped_are_both_lost(run: Run) -> None:
    run.run(0.5, "--pause=0.02")
    content = run.device.read_bytes()
    size = writer.BLOCK
    run.device.write_bytes(content[size : 2 * size] + content[:size] + content[2 * size :])
    assert run.verify().lost == 2


def test_a_disk_that_shrank_has_lost_its_end(run: Run) -> None:
    result = run.run(1, "--pause=0")
    assert result.acked >= BLOCKS
    os.truncate(run.device, (BLOCKS - 3) * writer.BLOCK)
    assert run.verify().lost == 3


def test_a_block_that_was_never_acknowledged_is_not_missed(run: Run) -> None:
    result = run.run(0.3, "--pause=0.02")
    run.change(result.acked + 1, flip_last_bit)
    assert run.verify().lost == 0


def test_a_killed_writer_leaves_a_log_that_can_be_verified(run: Run) -> None:
    process = subprocess.Popen(run.arguments("run", "--pause=0"))
    while not run.log.exists() or run.log.stat().st_size < 10_000:
        time.sleep(0.02)
    process.kill()
    process.wait()
    result = run.verify()
    assert result.acked > BLOCKS
    assert result.lost == 0


def test_a_signal_ends_the_writing_and_begins_the_verification(run: Run) -> None:
    process = subprocess.Popen(run.arguments("run"))
    while not run.log.exists() or run.log.stat().st_size < 1000:
        time.sleep(0.02)
    status = subprocess.run(
        [sys.executable, str(PROGRAM), "status", str(run.log)], capture_output=True, check=True, timeout=60
    )
    assert json.loads(status.stdout)["acked"] > 10
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert WriterResult.parse(run.document.read_text()).lost == 0


def test_all_bytes_of_a_block_depend_on_its_number() -> None:
    one, other = writer.block(7, 1), writer.block(7, 2)
    assert len(one) == writer.BLOCK
    sectors = [(one[start : start + 512], other[start : start + 512]) for start in range(0, writer.BLOCK, 512)]
    assert all(a != b for a, b in sectors)


def test_gaps_are_times_without_an_acknowledgement() -> None:
    acks = [writer.Ack(n, 1000 + at, at) for n, at in enumerate((0.0, 0.1, 0.2, 5.2, 5.3))]
    assert writer.find_gaps(acks) == [writer.Gap(1000.2, 1005.2, 5.0)]
    # the pause that was still going on when the writer was stopped counts too
    assert [gap.seconds for gap in writer.find_gaps(acks, ended=8.3)] == [5.0, 3.0]


def test_a_clock_that_was_set_makes_no_gap() -> None:
    acks = [writer.Ack(0, 1000, 1.0), writer.Ack(1, 2000, 1.1)]
    assert writer.find_gaps(acks) == []


def test_a_failed_read_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.0)
    answers = [OSError(5, "I/O error"), OSError(5, "I/O error")]

    def read() -> int:
        if answers:
            raise answers.pop()
        return 4096

    assert writer.read_patiently(read) == 4096
    monkeypatch.setattr(writer, "READ_RETRY_SECONDS", 0.0)
    answers.extend([OSError(5, "I/O error")] * 3)
    assert writer.read_patiently(read) == 0
