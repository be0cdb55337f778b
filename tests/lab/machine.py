"""One lab machine as QEMU's arguments. Pure: a specification in, an argument list out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import emulator, switches

ACCELERATORS = ("tcg", "kvm")
# where the machine's own loopback is seen from a guest's cluster network: the way to the API server
HOST_FROM_GUEST = "10.0.2.2"
SSH_PORT = 2222
KUBELET_PORT = 10250

_CLUSTER_NETWORK = "10.0.2.0/24"
_MANAGEMENT_NETWORK = "10.0.3.0/24"
_MANAGEMENT_ADDRESS = "10.0.3.15"
_FIRST_NIC_SLOT = 0x10

# quick to boot, and deterministic enough for timings
_KERNEL_OPTIONS = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off nokaslr audit=0 net.ifnames=0 selinux=0 apparmor=0 "
    "init_on_alloc=0 random.trust_cpu=on tsc=reliable systemd.show_status=0 systemd.ssh_auto=no"
)

# what an emulator is slow at, such as string instructions (erms, fsrm) and wide vectors: a boot takes a fifth longer
# with all of these (docs/decisions/0025)
_SLOW_IN_EMULATION = ("erms", "fsrm", "avx", "avx2", "la57", "smap", "smep")

# cmpxchg16b leaves bits of a pointer in the flags: the kernel, whose allocator uses it, has died of a double fault
# (docs/decisions/0026)
_WRONG_IN_EMULATION = ("cx16",)


@dataclass(frozen=True)
class Nic:
    """A network card: its name in the guest and what its cable leads to (a switch, or a network of QEMU's own)."""

    name: str
    network: str


@dataclass(frozen=True)
class Role:
    """What kind of machine it is: its cards in order, its disks, and what it boots without."""

    name: str
    nics: tuple[Nic, ...]
    data_disk: bool
    masked_units: tuple[str, ...] = ()

    def nic(self, network: str) -> str | None:
        """The name of the card on `network`, if there is one."""
        return next((nic.name for nic in self.nics if nic.network == network), None)


STORAGE = Role(
    name="storage",
    nics=(
        Nic("eth0", "svcA"),
        Nic("eth1", "svcB"),
        Nic("eth2", "replA"),
        Nic("eth3", "replB"),
        Nic("eth4", "management"),
        Nic("eth5", "cluster"),
    ),
    data_disk=True,
)
INITIATOR = Role(
    name="initiator",
    nics=(Nic("eth0", "svcA"), Nic("eth1", "svcB"), Nic("eth2", "management")),
    data_disk=False,
    # the image is a storage node's too
    masked_units=("heartbeat.service", "logd.service", "tgt.service"),
)


@dataclass(frozen=True)
class MachineSpec:
    """Everything that QEMU needs to know about one machine."""

    name: str
    role: Role
    index: int
    run_dir: Path
    kernel: Path
    initrd: Path
    root_disk: Path
    data_disk: Path
    loopback: str
    emulator: Path
    accelerator: str
    memory_mib: int = 512
    kube: bool = False
    tsc_khz: int = 0

    @property
    def qmp_socket(self) -> Path:
        """Where QEMU takes commands."""
        return self.run_dir / f"{self.name}.qmp"

    @property
    def console_log(self) -> Path:
        """The serial console's output, over all boots."""
        return self.run_dir / f"{self.name}.console"

    @property
    def cluster_address(self) -> str:
        """The machine's own address on the cluster network; each guest's network is apart from the others'."""
        return f"10.0.2.{10 + self.index}"

    def port(self, nic: str) -> str:
        """The name of the switch port that a card's cable goes to."""
        return f"{self.name}-{nic}"

    def ports(self) -> dict[str, str]:
        """Switch ports and their switches."""
        return {self.port(nic.name): nic.network for nic in self.role.nics if nic.network in switches.SWITCHES}

    def arguments(self, *, restore: str | None = None, incoming: bool = False) -> list[str]:
        """QEMU's argument list. With `restore`, stopped in that snapshot; with `incoming`, it waits for a state."""
        command = [
            *emulator.command(self.emulator),
            *("-name", self.name, "-nodefaults", "-display", "none", "-vga", "none", "-monitor", "none"),
            *("-M", "pc", *self._processor(), "-m", str(self.memory_mib), "-smp", "1"),
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", self.kernel_options()),
            *("-rtc", "base=utc,clock=host", "-device", "virtio-rng-pci"),
            *("-chardev", f"file,id=console,path={self.console_log},append=on", "-serial", "chardev:console"),
            *("-qmp", f"unix:{self.qmp_socket},server=on,wait=off"),
            *_disk("root", self.root_disk),
        ]
        if self.role.data_disk:
            command += _disk("data", self.data_disk, serial=f"{self.name}-data")
        for position, nic in enumerate(self.role.nics):
            command += ["-netdev", self._netdev(nic), "-device", self._device(nic, position)]
        if restore is not None:
            command += ["-loadvm", restore, "-S"]
        if incoming:
            command += ["-incoming", "defer", "-S"]
        return command

    def kernel_options(self) -> str:
        """The kernel's command line, which also tells the guest who it is (guest/root/usr/local/sbin/lab-network)."""
        # without an id of its own two machines would get the same addresses for their bonds from udev
        machine_id = hashlib.md5(f"storagepair lab {self.name}".encode(), usedforsecurity=False).hexdigest()
        words = [
            _KERNEL_OPTIONS,
            f"systemd.hostname={self.name} systemd.machine_id={machine_id} lab.role={self.role.name}",
            f"lab.management={self.role.nic('management')}",
        ]
        cluster = self.role.nic("cluster")
        if cluster is not None:
            words.append(f"lab.cluster={cluster} lab.address={self.cluster_address}")
        words += [f"systemd.mask={unit}" for unit in self.role.masked_units]
        if not self.kube:
            words.append("lab.nokube")
        if self.tsc_khz:
            words.append(f"tsc_early_khz={self.tsc_khz}")
        return " ".join(words)

    def _processor(self) -> Sequence[str]:
        if self.accelerator == "kvm":
            return ("-accel", "kvm", "-cpu", "host")
        without = ",".join(f"{feature}=off" for feature in (*_SLOW_IN_EMULATION, *_WRONG_IN_EMULATION))
        return ("-accel", "tcg,thread=multi,tb-size=128", "-cpu", f"max,{without}")

    def _netdev(self, nic: Nic) -> str:
        if nic.network == "management":
            # restricted: ssh comes in, nothing goes out
            forward = f"hostfwd=tcp:{self.loopback}:{SSH_PORT}-{_MANAGEMENT_ADDRESS}:22"
            return f"user,id={nic.name},net={_MANAGEMENT_NETWORK},restrict=on,{forward}"
        if nic.network == "cluster":
            forward = f"hostfwd=tcp:{self.loopback}:{KUBELET_PORT}-{self.cluster_address}:{KUBELET_PORT}"
            return f"user,id={nic.name},net={_CLUSTER_NETWORK},{forward}"
        path = switches.port_socket(self.run_dir, self.port(nic.name))
        return f"stream,id={nic.name},server=off,addr.type=unix,addr.path={path}"

    def _device(self, nic: Nic, position: int) -> str:
        mac = f"52:54:00:00:{self.index:02x}:{position:02x}"
        # the slot fixes the order in which the guest names its cards
        slot = f"addr={_FIRST_NIC_SLOT + position:#x}"
        return f"virtio-net-pci,netdev={nic.name},mac={mac},romfile=,{slot}"


def _disk(name: str, path: Path, serial: str = "") -> Iterable[str]:
    # every writable disk must be qcow2: a snapshot of the machine goes into the disks
    device = f"virtio-blk-pci,drive={name}" + (f",serial={serial}" if serial else "")
    return ("-drive", f"file={path},if=none,id={name},format=qcow2,cache=writeback", "-device", device)
