"""The rate of the time stamp counter."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
from lab.clock import counter_khz


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have no such counter, and no lab")
def test_the_measured_rate_is_the_same_twice_and_that_of_a_processor() -> None:
    first, second = counter_khz(), counter_khz()
    assert abs(first - second) < first / 1000
    # the present clock of a core may be boosted or throttled, but is of the same order
    shown = re.search(r"^cpu MHz\s*: ([\d.]+)", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    if shown:
        assert 0.2 < first / 1000 / float(shown[1]) < 5
