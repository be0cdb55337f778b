"""How fast this machine's time stamp counter runs: emulated guests read the same one, and can't measure it themselves.

A guest's kernel finds the counter's rate at boot by comparing it with an emulated timer. On a busy machine that timer
stands still for a while, and the kernel believes what it saw. Seen at a load of 12: "Detected 378.981 MHz" where it was
2596, and that guest's clock ran seven times too fast, with every timeout in it. So the kernel is told.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable

_SECONDS = 0.1
_SAMPLES = 200
# rdtsc; shl rdx, 32; or rax, rdx; ret
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")


def counter_khz() -> int:
    """The rate of this machine's time stamp counter (x86-64), measured against its clock, in steps of 10 kHz."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(_READ_COUNTER)
        anchor = ctypes.c_char.from_buffer(page)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))
        first = _sample(read)
        time.sleep(_SECONDS)
        last = _sample(read)
        del read, anchor  # the page can't be given back while something points to it
    per_second = (last[1] - first[1]) * 1e9 / (last[0] - first[0])
    return round(per_second / 1e4) * 10


def _sample(read: Callable[[], int]) -> tuple[float, int]:
    """Clock (ns) and counter at one moment: the least disturbed of many readings."""
    best = None
    for _ in range(_SAMPLES):
        before = time.monotonic_ns()
        counter = read()
        taken = time.monotonic_ns() - before
        if best is None or taken < best[0]:
            best = (taken, before + taken / 2, counter)
    assert best is not None
    return best[1], best[2]
