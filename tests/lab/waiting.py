"""Waiting for something that happens outside of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SOON = 180.0
"""Seconds, for what is only asked whether it happens, not how quickly."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.4
"""Seconds between two looks at what is waited for."""
_GROWTH = 1.2


class WaitTimeout(Exception):
    """What was waited for did not happen in time."""


def wait_for(condition: Callable[[], T], what: str, seconds: float, *, interval: float | None = None) -> T:
    """Call `condition` until it returns something true, and return that.

    Between two calls: `interval` seconds; unless it is given, less and less often, since what has not come for long
    need not be seen at once, and a look costs an API server several milliseconds.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE if interval is None else interval
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeout(f"waited {seconds:g} s for {what}")
        time.sleep(pause)
        if interval is None:
            pause = min(pause * _GROWTH, LONGEST_PAUSE)
