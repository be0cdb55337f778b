"""Waiting for something that happens outside of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SOON = 180.0
"""Seconds, for what is only asked whether it happens, not how quickly."""


class WaitTimeout(Exception):
    """What was waited for did not happen in time."""


def wait_for(condition: Callable[[], T], what: str, seconds: float, *, interval: float = 0.05) -> T:
    """Call `condition` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeout(f"waited {seconds:g} s for {what}")
        time.sleep(interval)
