"""The pure parts of making an image: what is asked of apt, what is kept of the kernel, what the initrd holds."""

from __future__ import annotations

import lzma
import stat
import struct
from pathlib import Path

import pytest
from lab import debian, kernel

MODULES_DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/char/hw_random/virtio-rng.ko:
kernel/drivers/gpu/drm/drm.ko:
"""


def test_modules_are_loaded_after_what_they_need() -> None:
    order = kernel.load_order(kernel.parse_dependencies(MODULES_DEP), ["virtio_net", "virtio_rng", "ext4"])
    assert [kernel.module_name(path) for path in order] == [
        "failover",
        "net_failover",
        "virtio_net",
        "virtio_rng",
        "jbd2",
        "mbcache",
        "crc16",
        "ext4",
    ]


def test_a_module_that_is_built_into_the_kernel_is_skipped() -> None:
    assert kernel.load_order(kernel.parse_dependencies(MODULES_DEP), ["virtio_pci"]) == []


def test_what_is_kept_of_the_kernel_brings_what_it_needs() -> None:
    kept = kernel.kept_modules(kernel.parse_dependencies(MODULES_DEP))
    assert "kernel/net/core/failover.ko" in kept
    assert "kernel/fs/jbd2/jbd2.ko.xz" in kept
    assert "kernel/drivers/gpu/drm/drm.ko" not in kept


def test_the_kernel_is_found_inside_its_compressed_form() -> None:
    elf = b"\x7fELF" + b"kernel" * 1000
    payload = lzma.compress(elf) + struct.pack("<I", len(elf))
    image = bytearray(2 * 512)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 100, len(payload))
    assert kernel.uncompress(bytes(image) + b"\0" * 100 + payload + b"trailing") == elf


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(kernel.KernelError):
        kernel.uncompress(b"\0" * 4096)


def test_a_cpio_entry_has_its_name_mode_and_content() -> None:
    archive = kernel.cpio([("init", stat.S_IFREG | 0o755, b"#!")])
    assert archive.startswith(b"070701")
    assert len(archive) % 4 == 0
    mode, size = int(archive[14:22], 16), int(archive[54:62], 16)
    assert (mode, size) == (stat.S_IFREG | 0o755, 2)
    assert b"TRAILER!!!" in archive


TARGETS = """\
http://mirror.example/debian/ bookworm main
http://mirror.example/debian/ bookworm-updates main
http://security.example/debian-security/ bookworm-security main
https://else.example/apt stable main
"""


def test_the_mirror_is_the_one_that_the_machines_own_packages_come_from() -> None:
    assert debian.parse_mirror(TARGETS, "bookworm") == "http://mirror.example/debian"
    assert debian.parse_mirror(TARGETS, "trixie") is None


def test_only_options_that_matter_for_the_mirror_are_taken_over() -> None:
    dump = (
        'Acquire::http::Proxy "http://proxy.example:3128";\nAPT::Install-Recommends "1";\nAcquire::https::Proxy "";\n'
    )
    assert debian.parse_options(dump) == {"Acquire::http::Proxy": "http://proxy.example:3128"}


def test_the_command_asks_for_every_package_and_nothing_recommended() -> None:
    command = debian.mmdebstrap_command("trixie", "http://mirror.example/debian", Path("x.tar"), ["a", "b"], {})
    assert command[0] == "mmdebstrap"
    assert command[-3:] == ["trixie", "x.tar", "http://mirror.example/debian"]
    assert "--include=a,b" in command
    assert '--aptopt=APT::Install-Recommends "false"' in command
