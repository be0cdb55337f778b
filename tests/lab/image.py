"""The disk image of the lab's machines: one for storage nodes and initiator, made from Debian packages only.

Two layers, each kept in the cache: the bare image (`guest_image(suite)`), and on the same root file system one
with a kubelet and containerd (`guest_image(suite, kube)`). A storage node starts bare: no addresses on its
service and replication NICs, no bonds, no DRBD configuration. Making a storage host of it is the product's work.
An image with more packages (`guest_image(suite, more=...)`) is a third one, built only for those who ask for it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import cache, debian, kernel
from lab.kubelayer import KubeLayer

DEFAULT_SUITE = debian.SUITES[0]

_HERE = Path(__file__).resolve().parent
_GUEST = _HERE / "guest"
_ROOT_BYTES = 4 << 30
_TIMEOUT_SECONDS = 600
_ENABLED = ("lab-network.service", "ssh.service")


@dataclass(frozen=True)
class GuestImage:
    """What a machine boots from. Nothing writes to `disk`: every machine has an overlay of its own."""

    suite: str
    disk: Path
    kernel: Path
    initrd: Path
    ssh_key: Path


@dataclass(frozen=True)
class MorePackages:
    """Debian packages beside the lab's own, and those units of theirs that must not start at boot.

    `name` is that of the image: the cache keeps it apart from the lab's.
    """

    name: str
    packages: tuple[str, ...]
    idle_units: tuple[str, ...] = ()


def guest_image(
    suite: str = DEFAULT_SUITE, kube: KubeLayer | None = None, *, more: MorePackages | None = None
) -> GuestImage:
    """The image for `suite`, built first if it isn't in the cache; with the programs of `kube` if given, or `more`."""
    if suite not in debian.SUITES:
        raise debian.DebianError(f"unknown suite {suite!r}: choose from {', '.join(debian.SUITES)}")
    rootfs = _rootfs(suite, more)
    ssh = _ssh_keys()
    inputs: dict[str, cache.KeyInput] = {"rootfs": rootfs.parent.name, "ssh": ssh.name, **_source_inputs()}
    idle = more.idle_units if more else ()
    if more:
        inputs["idle"] = " ".join(idle)
    with_kernel = cache.artifact(
        _named("guest", suite, more), inputs, lambda folder: _build(folder, suite, rootfs, ssh, None, idle)
    )
    disk = with_kernel
    if kube is not None:
        disk = cache.artifact(
            f"guest-kube-{suite}",
            inputs | kube.key_inputs(),
            lambda folder: _build(folder, suite, rootfs, ssh, kube),
        )
    return GuestImage(
        suite=suite,
        disk=disk / "root.qcow2",
        kernel=with_kernel / "vmlinux",
        initrd=with_kernel / "initrd",
        ssh_key=ssh / "id_ed25519",
    )


def _source_inputs() -> dict[str, cache.KeyInput]:
    files = [each for each in sorted(_GUEST.rglob("*")) if each.is_file()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(_GUEST)} {file.stat().st_mode:o}\n".encode() + file.read_bytes())
    return {"guest": digest.hexdigest(), "image.py": Path(__file__), "kernel.py": Path(kernel.__file__)}


def _named(kind: str, suite: str, more: MorePackages | None) -> str:
    return f"{kind}-{more.name}-{suite}" if more else f"{kind}-{suite}"


def _rootfs(suite: str, more: MorePackages | None) -> Path:
    packages = (*debian.PACKAGES, *(more.packages if more else ()))

    def build(folder: Path) -> None:
        what = f"{more.name}'s packages" if more else "packages"
        with cache.step(f"fetching and unpacking Debian {suite}'s {what} for the lab's machines (once)"):
            debian.build_rootfs(suite, folder / "rootfs.tar", folder / "mmdebstrap.log", packages)

    inputs: dict[str, cache.KeyInput] = {
        "suite": suite,
        # the package list and the options, without what is this machine's own
        "command": repr(debian.mmdebstrap_command(suite, "", Path(), packages, {})),
    }
    return cache.artifact(_named("rootfs", suite, more), inputs, build) / "rootfs.tar"


def _ssh_keys() -> Path:
    """The key that opens the lab's machines and their host key: made here, good for nothing else."""

    def build(folder: Path) -> None:
        for name in ("id_ed25519", "ssh_host_ed25519_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "storagepair-lab", "-f", str(folder / name)]
            _run(command)

    return cache.artifact("lab-ssh", {"version": "1"}, build)


def _build(folder: Path, suite: str, rootfs: Path, ssh: Path, kube: KubeLayer | None, idle: Iterable[str] = ()) -> None:
    layer = "machines with a kubelet" if kube else "machines"
    with cache.step(f"making the disk image of the lab's {layer} (Debian {suite})"):
        root = folder / "root"
        root.mkdir()
        _run(["tar", "-C", str(root), "-xf", str(rootfs)])
        modules = _furnish(root, ssh)
        for wanted in (root / "etc/systemd/system").glob("*.wants/*"):
            if wanted.name in idle:
                wanted.unlink()
        if kube is None:
            _extract_kernel(root, modules, folder)
        else:
            kube.install(root)
        shutil.rmtree(root / "boot")
        _make_disk(root, folder)
        shutil.rmtree(root)


def _furnish(root: Path, ssh: Path) -> Path:
    """Turn the plain root file system into a lab machine's. Returns its pruned folder of kernel modules."""
    shutil.copytree(_GUEST / "root", root, dirs_exist_ok=True, symlinks=True)
    # what a checkout records is only the executable bit
    for file in (each for each in (_GUEST / "root").rglob("*") if each.is_file()):
        copied = root / file.relative_to(_GUEST / "root")
        copied.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    units = root / "etc/systemd/system"
    for unit in _lines(_GUEST / "masked-units.txt"):
        _link(units / unit, "/dev/null")
    for unit in _ENABLED:
        _link(units / "sysinit.target.wants" / unit, f"../{unit}")
    for name, target, mode in (
        ("id_ed25519.pub", "root/.ssh/authorized_keys", 0o600),
        ("ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key", 0o600),
        ("ssh_host_ed25519_key.pub", "etc/ssh/ssh_host_ed25519_key.pub", 0o644),
    ):
        destination = root / target
        destination.parent.mkdir(mode=0o700, exist_ok=True)
        destination.write_bytes((ssh / name).read_bytes())
        destination.chmod(mode)
    # the id comes from the kernel command line: machines with the same one get the same bond address from udev
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/fstab").write_text("")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    return kernel.prune_modules(root)


def _extract_kernel(root: Path, modules: Path, folder: Path) -> None:
    packed = next((root / "boot").glob("vmlinuz-*"))
    (folder / "vmlinux").write_bytes(kernel.uncompress(packed.read_bytes()))
    init = folder / "init"
    kernel.compile_static(kernel.INIT_SOURCE, init)
    (folder / "initrd").write_bytes(kernel.build_initrd(modules, init.read_bytes()))
    init.unlink()


def _make_disk(root: Path, folder: Path) -> None:
    raw = folder / "root.raw"
    with raw.open("wb") as stream:
        stream.truncate(_ROOT_BYTES)
    # the file is sparse, so its tables need no zeroing now, nor by a kernel thread in every machine later
    options = ["-O", "^metadata_csum,^64bit", "-E", "assume_storage_prezeroed=1", "-J", "size=32", "-m", "0"]
    _run(["mke2fs", "-q", "-t", "ext4", *options, "-L", "root", "-d", str(root), str(raw)])
    _run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(folder / "root.qcow2")])
    raw.unlink()


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _lines(path: Path) -> Iterable[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise debian.DebianError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
