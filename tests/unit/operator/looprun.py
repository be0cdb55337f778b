"""The operator's loops in the loop's own time: waits take no real time, and a busy machine makes nothing late."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import looptime


def run_in_loop_time(scenario: Coroutine[object, object, None]) -> None:
    """`asyncio.run` for what only waits and computes (no threads, no sockets)."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(scenario)
