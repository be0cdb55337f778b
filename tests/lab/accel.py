"""Can this machine run guests with KVM? A device node proves nothing, so a guest kernel is booted with it.

Seen on build machines: /dev/kvm is there, opens, and guests hang in early boot. The answer is kept until the machine
boots again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from lab import cache, emulator, machine

PROOF = "lab-init: started"
PROBE_SECONDS = 30.0
_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def choose(qemu: Path, kernel: Path, initrd: Path) -> str:
    """`kvm` if a guest of the emulator `qemu` really boots with it here, else `tcg`."""
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    answer = cache.root() / "accelerator"
    boot_id = _BOOT_ID.read_text().strip()
    if answer.exists():
        known_boot, _, accelerator = answer.read_text().strip().partition(" ")
        if known_boot == boot_id and accelerator in machine.ACCELERATORS:
            return accelerator
    with cache.step("trying whether guests boot with KVM here"):
        accelerator = "kvm" if _boots(qemu, kernel, initrd) else "tcg"
    cache.say(f"    guests run with {accelerator}")
    answer.parent.mkdir(parents=True, exist_ok=True)
    unfinished = answer.with_suffix(f".{os.getpid()}")
    unfinished.write_text(f"{boot_id} {accelerator}\n")
    unfinished.rename(answer)
    return accelerator


def _boots(qemu: Path, kernel: Path, initrd: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="storagepair-kvm-") as folder:
        console = Path(folder) / "console"
        command = [*emulator.command(qemu), "-nodefaults", "-display", "none", "-M", "pc"]
        command += ["-accel", "kvm", "-cpu", "host"]
        command += ["-m", "256", "-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 quiet"]
        command += ["-no-reboot", "-serial", f"file:{console}"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return _proof_appears(process, console)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _proof_appears(process: subprocess.Popen[bytes], console: Path) -> bool:
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline:
        if console.exists() and PROOF in console.read_text(errors="replace"):
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.1)
    return False
