"""How fast this machine's time stamp counter runs: emulated guests read it as it is, and are told.

A guest that measures it in early boot gets it wrong where this machine is busy at that moment (seen: 379 MHz for 2594,
so that its clock ran 7 times too fast). Linux takes our word with `tsc_early_khz` (kernel-parameters.txt).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab import cache, kernel

_SOURCE = Path(__file__).parent / "guest" / "tsc.c"


def khz() -> int:
    """The counter's frequency in kHz, measured now (a fifth of a second)."""
    program = cache.artifact("tsc", {"source": _SOURCE}, lambda folder: kernel.compile_static(_SOURCE, folder / "tsc"))
    done = subprocess.run([str(program / "tsc")], capture_output=True, text=True, check=True, timeout=30)
    return int(done.stdout)
