"""Is it really empty? And was a mkfs finished?"""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_node_agent.host import Host
from storagepair_node_agent.subsystems import blockdevice, filesystem

MIB = 2**20


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("disk") / "image"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    return path


def looks_empty(path):
    size = path.stat().st_size
    return blockdevice.is_zero(path, size, blockdevice._spread(size))


@given(
    st.one_of(
        st.integers(0, 4 * MIB - 1),
        st.integers(60 * MIB, 64 * MIB - 1),
        st.builds(lambda n, inside: n * MIB + inside, st.integers(1, 63), st.integers(0, 65535)),
    )
)
@settings(max_examples=60, deadline=None)
def test_one_byte_at_either_end_or_in_a_sample_is_seen(image, offset):
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(b"\1")
    try:
        assert not looks_empty(image)
    finally:
        with image.open("r+b") as file:
            file.seek(offset)
            file.write(b"\0")
    assert looks_empty(image)


@pytest.mark.parametrize("size", [4096, MIB, 5 * MIB, 8 * MIB])
def test_small_disks(tmp_path, size):
    path = tmp_path / "image"
    path.write_bytes(bytes(size))
    assert looks_empty(path)
    path.write_bytes(bytes(size - 1) + b"\1")
    assert not looks_empty(path)


def test_a_disk_that_ends_early_is_not_empty(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(MIB))
    assert not blockdevice.is_zero(path, 2 * MIB, blockdevice._spread(2 * MIB))


def test_a_file_a_folder_and_nothing_are_no_disk(tmp_path):
    host = Host(tmp_path)
    (tmp_path / "file").write_bytes(bytes(MIB))
    for path in ("/file", "/", "/missing"):
        assert blockdevice.size_of(host, path) is None
        assert not blockdevice.inspect(host, path).present


@pytest.mark.parametrize("kind", ["ext3", "ext4"])
def test_our_mkfs_is_known_to_be_finished_and_labelled(tmp_path, kind):
    path = tmp_path / "image"
    path.write_bytes(bytes(16 * MIB))
    subprocess.run([*filesystem._MKFS[kind], str(path)], check=True, capture_output=True)
    first = path.read_bytes()[:4096]
    assert filesystem.made_to_the_end(kind, first)
    assert b"storagepair" in first
    state = filesystem._EXT_STATE
    assert not filesystem.made_to_the_end(kind, first[:state] + b"\0" + first[state + 1 :])


def test_an_xfs_in_progress_is_not_finished():
    first = bytearray(4096)
    assert filesystem.made_to_the_end("xfs", bytes(first))
    first[126] = 1
    assert not filesystem.made_to_the_end("xfs", bytes(first))
