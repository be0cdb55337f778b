"""The lab's volatile disks: does a power cut take what was not flushed, all of it, and nothing else?"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lab.guest import Guest
from lab.image import DEFAULT_SUITE
from lab.lab import Lab

DISK = "/dev/vdb"
BLOCK = 4096
FRESH = "fresh"


@pytest.fixture(scope="module")
def volatile_lab_session() -> Iterator[Lab]:
    """Bare machines whose data disks have a write cache, with the snapshot `fresh`."""
    suite = os.environ.get("SUITE", DEFAULT_SUITE)
    lab = Lab.up(f"disks-{os.getpid()}", suite=suite, owner_pid=os.getpid(), volatile_disks=True)
    try:
        lab.snapshot(FRESH)
        yield lab
    finally:
        lab.down()


@pytest.fixture()
def volatile_lab(volatile_lab_session: Lab) -> Lab:
    """The same, back in their first state: the disks are empty."""
    volatile_lab_session.restore(FRESH)
    return volatile_lab_session


def write(node: Guest, text: str, *, at: int, flush: bool) -> None:
    """Write a block that begins with `text` past the machine's own cache; only with `flush` is the disk's emptied."""
    command = ["dd", f"of={DISK}", f"bs={BLOCK}", f"seek={at}", "conv=sync" + (",fsync" if flush else "")]
    node.ssh([*command, "oflag=direct", "status=none"], stdin=text.encode())


def read(node: Guest, *, at: int) -> str:
    command = ["dd", f"if={DISK}", f"bs={BLOCK}", f"skip={at}", "count=1", "iflag=direct", "status=none"]
    return node.ssh(command).stdout.rstrip("\0")


def test_a_power_cut_takes_what_was_not_flushed_and_a_flush_that_never_came_saves_nothing(volatile_lab: Lab) -> None:
    honest, lying = volatile_lab.nodes
    # the control: a machine that takes its disk for one without a cache sends no flush, whatever its programs ask for
    lying.ssh(["tee", "/sys/block/vdb/queue/write_cache"], stdin=b"write through")
    for node in volatile_lab.nodes:
        write(node, "flushed", at=0, flush=True)
        write(node, "not flushed", at=1000, flush=False)
        assert (read(node, at=0), read(node, at=1000)) == ("flushed", "not flushed")
    volatile_lab.blackout()
    for node in volatile_lab.nodes:
        node.power_up()
    volatile_lab.wait_ssh()
    assert (read(honest, at=0), read(honest, at=1000)) == ("flushed", "")
    assert (read(lying, at=0), read(lying, at=1000)) == ("", "")


@pytest.mark.drill
def test_a_snapshot_has_what_the_disks_cache_held(volatile_lab: Lab) -> None:
    node = volatile_lab.node1
    write(node, "before", at=0, flush=False)
    volatile_lab.snapshot("middle")
    write(node, "after", at=0, flush=True)
    volatile_lab.restore("middle")
    assert read(node, at=0) == "before"
    # and what was flushed after a restore is as durable as ever
    write(node, "later", at=1, flush=True)
    volatile_lab.restore("middle")
    assert (read(node, at=0), read(node, at=1)) == ("before", "")
