"""Machines that have booted already: a lab starts from their saved state in seconds, where a boot takes a minute.

The state of the first boot of an image is kept in the cache: per machine a file with the memory and overlays with
what the boot wrote. A lab's own overlays lie over those. The files of a chain name each other relatively, and a lab
has hard links to all of them, so that nothing breaks when the cache forgets an old version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import cache, emulator, machine
from lab.guest import Guest
from lab.image import GuestImage
from lab.state import LabState

BASE = "base.qcow2"
KERNEL = "vmlinux"
INITRD = "initrd"
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Template:
    """A folder with the saved machines of one image."""

    folder: Path

    def root(self, name: str) -> str:
        """The file that a machine's root disk lies over."""
        return f"{name}-booted.qcow2"

    def data(self, name: str) -> str:
        """The file that a storage node's data disk lies over."""
        return f"{name}-data-booted.qcow2"

    def memory(self, name: str) -> str:
        """The file with a machine's memory."""
        return f"{name}.memory"

    def save(self, guests: Iterable[Guest]) -> None:
        """Take the machines of a running lab as they are; they end."""
        for guest in guests:
            guest.pause()
            guest.save_memory(self.folder / self.memory(guest.name))
            guest.power_cut()
            os.link(guest.spec.root_disk, self.folder / self.root(guest.name))
            if guest.spec.role.data_disk:
                os.link(guest.spec.data_disk, self.folder / self.data(guest.name))


def template(image: GuestImage, settings: LabState, boot: Callable[[Template], None], *, kind: str = "") -> Template:
    """The saved machines for `image`; if there are none yet, `boot` brings a lab up and saves it.

    The cache keeps those of each `kind` of image apart.
    """
    kvm = settings.accelerator == "kvm"
    inputs: dict[str, cache.KeyInput] = {
        "image": f"{image.disk.parent.name} {image.kernel.parent.name}",
        "sizes": f"{settings.memory_mib} {settings.data_mib}",
        "machine.py": Path(machine.__file__),
        # a state fits the emulator, or with KVM the processor, that it was made on
        "qemu": emulator.version(Path(settings.emulator)),
        "accelerator": settings.accelerator + (_processor() if kvm else ""),
        # and the clock that it was made with, to a thousandth of 1 GHz
        "tsc": str(round(settings.tsc_khz / 1000)),
    }
    kind = kind or ("kube" if "kube" in image.disk.parent.parent.name else "")
    return Template(
        cache.artifact(
            "-".join(filter(None, ("booted", kind, image.suite))), inputs, lambda folder: boot(Template(folder))
        )
    )


def link_files(image: GuestImage, saved: Template | None, folder: Path) -> None:
    """Give a lab's folder of disks its own links to all that its machines start from."""
    for source, name in ((image.disk, BASE), (image.kernel, KERNEL), (image.initrd, INITRD)):
        os.link(source, folder / name)
    if saved is not None:
        for file in saved.folder.iterdir():
            os.link(file, folder / file.name)


def _processor() -> str:
    lines = _CPU_INFO.read_text().splitlines()
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
