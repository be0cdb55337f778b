"""The lab's own QEMU uses nothing of this machine's."""

from __future__ import annotations

from pathlib import Path

from lab import emulator


def test_loader_libraries_program_and_firmware_all_come_from_its_folder() -> None:
    paths = [word for word in emulator.command(Path("/cache/qemu")) if "/" in word]
    assert len(paths) == 5, "Debian has the machine's firmware in a package and a folder of its own"
    assert all(path.startswith("/cache/qemu/") for path in paths)
    assert paths[0].endswith("/ld-linux-x86-64.so.2"), "not the one that its program names"
