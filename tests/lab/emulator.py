"""The lab's own QEMU: Debian 13's, whatever this machine has, unpacked into the cache and run from there.

Debian 12's takes a third longer to boot a storage node and three times as long to start programs in it, and its
`cmpxchg16b` is broken (docs/decisions/0026, 0027). Nothing is installed on this machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab import cache, debian

_SUITE = "trixie"
_PACKAGES = ("qemu-system-x86",)
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


def emulator() -> Path:
    """The folder with the unpacked QEMU; fetched first if it isn't in the cache."""

    def build(folder: Path) -> None:
        with cache.step(f"fetching and unpacking Debian {_SUITE}'s QEMU for the lab (once)"):
            command = _mmdebstrap(folder / "root", debian.machine_mirror(), debian.machine_options())
            debian.run_mmdebstrap(command, folder / "mmdebstrap.log")

    inputs: dict[str, cache.KeyInput] = {"command": repr(_mmdebstrap(Path(), "", {}))}
    return cache.artifact(f"qemu-{_SUITE}", inputs, build) / "root"


def command(emulator: Path) -> tuple[str, ...]:
    """How the QEMU in that folder is started: with the libraries and the firmware that lie beside it."""
    libraries = emulator / _LIBRARIES
    loader = libraries / "ld-linux-x86-64.so.2"
    program = emulator / "usr/bin/qemu-system-x86_64"
    firmware = [word for folder in _FIRMWARE for word in ("-L", str(emulator / folder))]
    return (str(loader), "--library-path", str(libraries), str(program), *firmware)


def version(emulator: Path) -> str:
    """What it says of its version."""
    done = subprocess.run([*command(emulator), "--version"], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def _mmdebstrap(target: Path, mirror: str, options: dict[str, str]) -> list[str]:
    # extract: no package's script runs, nothing of it is ever started as a system
    return debian.mmdebstrap_command(_SUITE, mirror, target, _PACKAGES, options, variant="extract")
