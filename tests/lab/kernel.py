"""From Debian's kernel package to what QEMU boots quickly: an uncompressed kernel and a small initrd.

Unpacking the compressed kernel is slow in an emulated machine (measured: 8 s of 18 s to ssh), so it is done once,
here. The initrd holds only what mounts the root file system, and a static program that does it.
"""

from __future__ import annotations

import fnmatch
import lzma
import stat
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

INIT_SOURCE = Path(__file__).parent / "guest" / "init.c"

# loaded by the initrd, with what they depend on; what the kernel has built in is skipped. crc32c_generic is no
# dependency of ext4 on paper, but mounting asks for it by its algorithm's name.
BOOT_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "ext4")

# what stays in the guests' /lib/modules, as globs below `kernel/`; dependencies are added. Hundreds of drivers
# for hardware that no guest has make up most of the package.
KEPT_MODULES = (
    "arch/x86/crypto/*",
    "crypto/*",
    "drivers/block/drbd/*",
    "drivers/block/loop.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/char/hw_random/virtio-rng.ko",
    "drivers/md/dm-*",
    "drivers/net/bonding/*",
    "drivers/net/dummy.ko",
    "drivers/net/macvlan/*",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "drivers/net/virtio_net.ko",
    "drivers/scsi/iscsi_tcp.ko",
    "drivers/scsi/scsi_mod.ko",
    "drivers/scsi/sd_mod.ko",
    "drivers/scsi/sg.ko",
    "drivers/virtio/*",
    "drivers/watchdog/softdog.ko",
    "fs/configfs/*",
    "fs/ext4/*",
    "fs/fuse/*",
    "fs/overlayfs/*",
    "fs/xfs/*",
    "lib/*",
    "net/8021q/*",
    "net/bridge/*",
    "net/ipv4/*",
    "net/ipv6/*",
    "net/netfilter/*",
    "net/packet/*",
    "net/sched/*",
    "net/unix/*",
)


class KernelError(Exception):
    """The kernel package does not look as expected."""


def uncompress(vmlinuz: bytes) -> bytes:
    """The ELF kernel inside a bzImage, found by the offsets in its setup header (Documentation/x86/boot)."""
    if vmlinuz[0x202:0x206] != b"HdrS":
        raise KernelError("not a bzImage: it has no setup header")
    setup_sectors = vmlinuz[0x1F1] or 4
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # the last four bytes are the unpacked size, not part of the stream
    payload = vmlinuz[start : start + length - 4]
    elf = _unpack_stream(payload)
    if not elf.startswith(b"\x7fELF"):
        raise KernelError("the kernel's payload is no ELF file")
    return elf


def _unpack_stream(data: bytes) -> bytes:
    if data.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        # Python 3.11 has no zstd
        done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False, timeout=120)
        if done.returncode != 0:
            raise KernelError(f"zstd: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    raise KernelError(f"unknown compression of the kernel (it starts with {data[:6].hex()})")


def module_name(path: str) -> str:
    """`kernel/fs/ext4/ext4.ko.xz` -> `ext4`, spelled as the kernel spells it."""
    return path.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_")


def parse_dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """modules.dep as {path: what to load before it, in load order}."""
    parsed = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        # depmod lists the closure, the last to be loaded first
        parsed[path] = tuple(reversed(needs.split()))
    return parsed


def load_order(dependencies: Mapping[str, Sequence[str]], wanted: Iterable[str]) -> list[str]:
    """Paths to load so that every module in `wanted` that exists is loaded after what it needs."""
    by_name = {module_name(path): path for path in dependencies}
    order: list[str] = []
    for name in wanted:
        if name in by_name:
            path = by_name[name]
            order += [each for each in (*dependencies[path], path) if each not in order]
    return order


def kept_modules(dependencies: Mapping[str, Sequence[str]]) -> set[str]:
    """The paths in modules.dep that a guest keeps: the globs of KEPT_MODULES and what those need."""
    kept: set[str] = set()
    for path, needs in dependencies.items():
        plain = path.removeprefix("kernel/").split(".ko")[0] + ".ko"
        if any(fnmatch.fnmatch(plain, pattern) for pattern in KEPT_MODULES):
            kept |= {path, *needs}
    return kept


def prune_modules(root: Path) -> Path:
    """Remove from the root file system the modules that no guest needs; returns the folder of the others.

    Those are uncompressed: unpacking them takes an emulated machine seconds at every boot.
    """
    modules = next((root / "usr/lib/modules").iterdir())
    kept = kept_modules(parse_dependencies((modules / "modules.dep").read_text()))
    for file in sorted((modules / "kernel").rglob("*.ko*")):
        if str(file.relative_to(modules)) not in kept:
            file.unlink()
        elif file.suffix == ".xz":
            file.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
            file.unlink()
    subprocess.run(["depmod", "-b", str(root), modules.name], check=True, timeout=120)
    return modules


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A `newc` archive of (name, mode, content), all owned by root: what the kernel unpacks as initrd."""

    def pieces() -> Iterator[bytes]:
        for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
            fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
            header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
            yield header + b"\0" * (-len(header) % 4)
            yield content + b"\0" * (-len(content) % 4)

    return b"".join(pieces())


def build_initrd(modules: Path, init: bytes) -> bytes:
    """An initrd with `init`, the modules that mount the root file system, and their order in `/modules`."""
    order = load_order(parse_dependencies((modules / "modules.dep").read_text()), BOOT_MODULES)
    entries = [("init", stat.S_IFREG | 0o755, init)]
    entries += [(name, stat.S_IFDIR | 0o755, b"") for name in ("dev", "root")]
    names = []
    for path in order:
        names.append(f"{module_name(path)}.ko")
        entries.append((names[-1], stat.S_IFREG | 0o644, (modules / path).read_bytes()))
    entries.append(("modules", stat.S_IFREG | 0o644, "".join(f"/{name}\n" for name in names).encode()))
    return cpio(entries)


def compile_static(source: Path, target: Path) -> None:
    """Compile one small C file to a static program."""
    command = ["gcc", "-Os", "-Wall", "-Werror", "-static", "-s", "-o", str(target), str(source)]
    subprocess.run(command, check=True, timeout=120)
