"""A data disk with a write cache that power takes with it: what the guest did not flush is gone after a cut.

QEMU alone can't show that. What a guest writes lands in this machine's page cache, which outlives QEMU, flushed or not.
So between QEMU and the disk's file stands nbdkit with its cache filter: a write is kept in a file without a name, and
reaches the disk's file only when the guest flushes. Whoever kills nbdkit takes the rest away, as a power cut does with
a disk's own cache. Everything else, snapshots among it, is as with any other disk: the file is the same qcow2.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from lab.keeper import Keeper, NotRunning
from lab.waiting import wait_for

NBDKIT = "nbdkit"
# each flush looks at every block of the export for dirty ones: few large blocks, and no larger an export than needed
_BLOCK = 64 << 10
# an export can't grow as a file does: room for the disk as it is and as snapshots remember it, whole
_KEPT_CONTENTS = 8
_METADATA_MIB = 64
_START_SECONDS = 60.0


@dataclass(frozen=True)
class VolatileDisk:
    """The server of one machine's data disk, as a process of the lab's keeper."""

    keeper: Keeper
    machine: str
    file: Path
    run_dir: Path

    @property
    def process(self) -> str:
        """The server's name at the keeper."""
        return f"{self.machine}.disk"

    def make_room(self, data_mib: int) -> None:
        """Give the file of a disk of `data_mib` MiB the size that the export keeps for ever. It stays sparse."""
        os.truncate(self.file, (data_mib * _KEPT_CONTENTS + _METADATA_MIB) << 20)

    def serve(self) -> None:
        """Start a server with an empty cache; an earlier one, left by a machine that switched itself off, ends."""
        self.cut()
        for stale in (self._socket, self._ready):
            stale.unlink(missing_ok=True)
        command = [NBDKIT, "--foreground", f"--unix={self._socket}", f"--pidfile={self._ready}", "--filter=cache"]
        command += ["file", str(self.file), "cache=writeback", f"cache-min-block-size={_BLOCK}"]
        # where it keeps the file without a name
        environment = {"TMPDIR": str(self.file.parent)}
        self.keeper.spawn(self.process, command, log=self.run_dir / f"{self.process}.log", env=environment)
        wait_for(self._ready.exists, f"{NBDKIT} to serve the disk of {self.machine}", _START_SECONDS, interval=0.01)

    def cut(self) -> None:
        """End the server and forget what it had not written; no-op when there is none."""
        with contextlib.suppress(NotRunning):
            self.keeper.kill(self.process)

    def qemu_arguments(self) -> list[str]:
        """To be added to a machine's own arguments: its data disk's file is behind the server."""
        return ["-set", f"drive.data.file=nbd:unix:{self._socket}"]

    @property
    def _socket(self) -> Path:
        return self.run_dir / f"{self.process}.sock"

    @property
    def _ready(self) -> Path:
        # the last thing that nbdkit writes before it serves
        return self.run_dir / f"{self.process}.pid"
