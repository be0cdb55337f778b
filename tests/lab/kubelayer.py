"""The layer that makes a storage node a Kubernetes node: kubelet, containerd 2 and images already unpacked.

Importing an image takes an emulated machine more than a minute, so a private containerd does it here, into the
folder that becomes the machine's /var/lib/containerd. What belongs to one lab - credentials, our own code -
is put into the running machine (lab.kubenode): the layer stays the same for all labs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import cache, images, kernel
from lab.binaries import binaries
from lab.keeper import Keeper
from lab.ociarchive import Image, Layer
from lab.waiting import wait_for

NAMESPACE = "k8s.io"
# marks an image as the kubelet's: without it containerd's CRI part overlooks it
IMAGE_LABEL = "io.cri-containerd.image=managed"
PROGRAMS = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr")

_HERE = Path(__file__).resolve().parent
_KUBE = _HERE / "kube"
_PAUSE_SOURCE = _KUBE / "pause.c"
# the one that kube/root/etc/containerd/config.toml names
_PAUSE_NAME = "storagepair.dev/lab-pause:1"
_ENABLED = ("containerd.service", "kubelet.service")
_START_SECONDS = 60.0
_IMPORT_SECONDS = 300.0


class KubeLayerError(Exception):
    """The layer can't be made; the message says why."""


@dataclass(frozen=True)
class KubeLayer:
    """What the layer is made of: the programs by name, and the images that the kubelet finds unpacked."""

    binaries: tuple[tuple[str, Path], ...]
    images: tuple[Image, ...] = ()

    def key_inputs(self) -> dict[str, cache.KeyInput]:
        """What the layer's content depends on."""
        inputs: dict[str, cache.KeyInput] = {f"program {name}": _stamp(path) for name, path in self.binaries}
        inputs |= {f"image {each.name}": repr([layer.digest for layer in each.layers]) for each in self.images}
        inputs |= {f"file {each.relative_to(_KUBE)}": each for each in _files()}
        return inputs | {"kubelayer.py": Path(__file__)}

    def install(self, root: Path) -> None:
        """Add the layer to the unpacked root file system `root`."""
        for file in _files():
            inside = file.relative_to(_KUBE)
            if inside.parts[0] == "root":
                target = root / inside.relative_to("root")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
                target.chmod(0o644)
        for name, path in self.binaries:
            shutil.copyfile(path, root / "usr/local/bin" / name)
            (root / "usr/local/bin" / name).chmod(0o755)
        wants = root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        for unit in _ENABLED:
            (wants / unit).unlink(missing_ok=True)
            (wants / unit).symlink_to(f"../{unit}")
        preload(root / "var/lib/containerd", self.images, dict(self.binaries))


def kube_layer() -> KubeLayer:
    """The layer as the lab uses it; what it is made of is built first if it isn't in the cache."""
    programs = binaries(*PROGRAMS)
    return KubeLayer(tuple(programs.items()), (_pause_image(), *map(images.base_image, images.SOURCES)))


def preload(store: Path, images: tuple[Image, ...], programs: dict[str, Path]) -> None:
    """Make `store` the data folder of a containerd that has these images, imported and unpacked."""
    store.mkdir(parents=True, exist_ok=True, mode=0o711)
    # a short name: unix sockets are in it
    work = Path(tempfile.mkdtemp(prefix="storagepair-preload-"))
    keeper = Keeper.start(work, owner_pid=os.getpid())
    try:
        _import_all(keeper, work, store, images, programs)
    finally:
        keeper.shutdown()
        shutil.rmtree(work)


def _import_all(keeper: Keeper, work: Path, store: Path, images: tuple[Image, ...], programs: dict[str, Path]) -> None:
    address = work / "containerd.sock"
    (work / "config.toml").write_text(_PRIVATE_CONFIGURATION.format(store=store, work=work))
    # what it mounts while it unpacks is gone with it
    argv = ["unshare", "--mount", str(programs["containerd"]), f"--config={work / 'config.toml'}"]
    keeper.spawn("containerd", argv, log=work / "containerd.log")
    ctr = [str(programs["ctr"]), f"--address={address}", f"--namespace={NAMESPACE}"]

    def ready() -> bool:
        if keeper.exit_status("containerd") is not None:
            raise KubeLayerError(f"containerd does not run here:\n{_tail(work / 'containerd.log')}")
        return _run([*ctr, "version"]).returncode == 0

    wait_for(ready, "the private containerd to start", _START_SECONDS, interval=0.1)
    for image in images:
        archive = work / "image.tar"
        image.write(archive)
        done = _run([*ctr, "images", "import", f"--label={IMAGE_LABEL}", str(archive)])
        if done.returncode != 0:
            reason = f"{done.stderr.strip()}\n{_tail(work / 'containerd.log')}"
            raise KubeLayerError(f"{image.name} can't be imported: {reason}")
        archive.unlink()
    # its databases are whole only after an orderly end
    keeper.kill("containerd", signal.SIGTERM, timeout=_START_SECONDS)


_PRIVATE_CONFIGURATION = """\
version = 3
root = '{store}'
state = '{work}/state'
disabled_plugins = [
  'io.containerd.cri.v1.images',
  'io.containerd.cri.v1.runtime',
  'io.containerd.grpc.v1.cri',
  'io.containerd.internal.v1.tracing',
  'io.containerd.nri.v1.nri',
]

[grpc]
  address = '{work}/containerd.sock'

[ttrpc]
  address = '{work}/containerd.ttrpc.sock'
"""


def _pause_image() -> Image:
    """The container that holds a pod's namespaces: one static program."""

    def build(folder: Path) -> None:
        kernel.compile_static(_PAUSE_SOURCE, folder / "pause")
        with tarfile.open(folder / "layer.tar", "w") as archive:
            archive.add(folder / "pause", "pause", filter=_plain)

    folder = cache.artifact("lab-pause", {"source": _PAUSE_SOURCE}, build)
    return Image(_PAUSE_NAME, (Layer.of(folder / "layer.tar"),), ("/pause",))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    member.mode = 0o755
    return member


def _files() -> list[Path]:
    return sorted(each for each in _KUBE.rglob("*") if each.is_file())


def _stamp(path: Path) -> str:
    # 170 MB that need not be read each time: the folder is the artifact's key, and files in it don't change
    facts = path.stat()
    return f"{path.parent.name} {facts.st_size} {facts.st_mtime_ns}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS
    )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else "it left no log"
