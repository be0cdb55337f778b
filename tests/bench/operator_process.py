"""What a process costs, by /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One running process."""

    pid: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def rss_megabytes(self) -> float:
        """Its resident memory now."""
        return self._status("VmRSS")

    @property
    def peak_megabytes(self) -> float:
        """The most that its resident memory ever was."""
        return self._status("VmHWM")

    def rest(self, *, seconds: float = 2, share: float = 0.05, within: float = 300) -> float:
        """Until it has used less than a share of a core for a while; the moment (monotonic) when that began."""
        end = time.monotonic() + within
        began, used = time.monotonic(), self.cpu_seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            now, cpu = time.monotonic(), self.cpu_seconds
            if cpu - used > share * seconds:
                began, used = now, cpu
            elif now - began >= seconds:
                return began
        raise TimeoutError(f"process {self.pid} did not come to rest within {within:g} s")

    def _status(self, field: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(f"/proc/{self.pid}/status has no {field}")
