"""Which pairs wait to be reconciled: each at most once, none twice at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storagepair_operator.kinds import PairKey


class KeyQueue:
    """A debounced queue of keys. For the event loop's thread only."""

    def __init__(self, debounce_seconds: float) -> None:
        self._debounce = debounce_seconds
        self._ready: asyncio.Queue[PairKey] = asyncio.Queue()
        self._waiting: dict[PairKey, asyncio.TimerHandle] = {}
        self._queued: set[PairKey] = set()
        self._running: set[PairKey] = set()
        self._again: set[PairKey] = set()

    def add(self, key: PairKey, delay: float | None = None) -> None:
        """Have a key reconciled soon, or after a delay. An earlier date wins."""
        if key in self._queued:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + (self._debounce if delay is None else delay)
        timer = self._waiting.get(key)
        if timer is not None and timer.when() <= when:
            return
        if timer is not None:
            timer.cancel()
        self._waiting[key] = loop.call_at(when, self._due, key)

    @asynccontextmanager
    async def next(self) -> AsyncIterator[PairKey]:
        """The next key; while the block runs nobody else gets it."""
        key = await self._ready.get()
        self._queued.discard(key)
        self._running.add(key)
        try:
            yield key
        finally:
            self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self._due(key)

    def _due(self, key: PairKey) -> None:
        self._waiting.pop(key, None)
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)
