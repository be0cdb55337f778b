"""A volatile disk fits the machine that it belongs to."""

from __future__ import annotations

from pathlib import Path

from lab.keeper import Keeper
from lab.machine import STORAGE, MachineSpec
from lab.volatile import VolatileDisk


def test_the_argument_for_qemu_names_the_machines_data_disk_and_comes_after_it(tmp_path: Path) -> None:
    spec = MachineSpec(
        name="node1",
        role=STORAGE,
        index=1,
        run_dir=tmp_path,
        kernel=tmp_path / "vmlinux",
        initrd=tmp_path / "initrd",
        root_disk=tmp_path / "node1.qcow2",
        data_disk=tmp_path / "node1-data.qcow2",
        loopback="127.88.1.1",
        emulator=Path("/qemu"),
        accelerator="tcg",
    )
    (option, setting) = VolatileDisk(Keeper(tmp_path), "node1", spec.data_disk, tmp_path).qemu_arguments()
    (drive,) = [word for word in spec.arguments() if f"file={spec.data_disk}" in word]
    identity = next(part for part in drive.split(",") if part.startswith("id="))
    assert option == "-set"
    assert setting.startswith(f"drive.{identity.removeprefix('id=')}.file=nbd:unix:{tmp_path}/")


def test_the_export_has_room_for_the_disk_and_its_snapshots_and_takes_no_space_for_it(tmp_path: Path) -> None:
    file = tmp_path / "disk.qcow2"
    file.write_bytes(b"QFI\xfb")
    VolatileDisk(Keeper(tmp_path), "node1", file, tmp_path).make_room(192)
    assert file.stat().st_size > 8 * 192 << 20
    assert file.stat().st_blocks * 512 < 1 << 20
    with file.open("rb") as written:
        assert written.read(4) == b"QFI\xfb"
