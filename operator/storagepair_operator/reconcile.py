"""The level-based loop: for each pair that something happened to, snapshot -> plan -> summary -> the difference."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Iterable
from datetime import UTC, datetime

from storagepair_operator import guard, policies
from storagepair_operator.cluster import ApiError, Cluster
from storagepair_operator.kinds import NODES, PAIRS, Kind, PairKey
from storagepair_operator.plan import Plan, plan
from storagepair_operator.plan.teardown import given_up
from storagepair_operator.queue import KeyQueue
from storagepair_operator.settings import Settings
from storagepair_operator.snapshot import Intent, Snapshot, owner
from storagepair_operator.store import Store
from storagepair_operator.summarize import summarize
from storagepair_operator.writer import MayNotWrite, Writer

log = logging.getLogger(__name__)

_WAKE_LATER_SECONDS = 0.1
"""A date is over once it is past: woken at its very moment a pair would be looked at twice."""


class Reconciler:
    """Brings pairs to what is declared, one at a time each, for ever."""

    def __init__(
        self, cluster: Cluster, store: Store, writer: Writer, leading: asyncio.Event, settings: Settings
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._leading = leading
        self._writer = writer
        self._settings = settings
        self._queue = KeyQueue(settings.debounce_seconds)
        self._failures: dict[PairKey, int] = {}
        self._refused: set[PairKey] = set()
        self._sentences: dict[PairKey, str] = {}
        self._parked: set[PairKey] = set()
        self._parking = asyncio.Event()

    def changed(self, kind: Kind, keys: Iterable[PairKey]) -> None:
        """Something happened to what concerns these pairs."""
        for key in keys:
            self._queue.add(key)
        if kind in (PAIRS, NODES):
            # what a refused pair lacks may be free now
            for key in self._refused:
                self._queue.add(key)

    async def run(self) -> None:
        """Reconcile for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._unpark())
            for _ in range(self._settings.workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            async with self._queue.next() as key:
                await self._attempt(key)

    async def _unpark(self) -> None:
        """What came while nothing could be written is looked at when it can."""
        while True:
            await self._parking.wait()
            await self._leading.wait()
            await self._store.whole.wait()
            self._parking.clear()
            while self._parked:
                self._queue.add(self._parked.pop())

    async def _attempt(self, key: PairKey) -> None:
        try:
            if not self._leading.is_set():
                self._park(key)
            elif not self._store.whole.is_set():
                self._park(key)
                await self._forget(key)
            else:
                await self._reconcile(key)
        except MayNotWrite:
            # looked at once more: what waits for a view that never becomes whole again is let go of, the rest is parked
            self._queue.add(key)
        except ApiError as error:
            delay = max(self._delay(key, quick=error.conflict), self._patience(error))
            level = logging.DEBUG if error.conflict else logging.WARNING
            log.log(level, "%s: %s; again in %.1f s", key, error, delay)
            self._queue.add(key, delay)
        except Exception:
            # a defect in one pair's path must not stop all the others
            delay = self._delay(key, quick=False)
            log.exception("%s: a defect; again in %.1f s", key, delay)
            self._queue.add(key, delay)
        else:
            self._failures.pop(key, None)

    def _park(self, key: PairKey) -> None:
        self._parked.add(key)
        self._parking.set()

    async def _forget(self, key: PairKey) -> None:
        """The one thing that needs no whole view, and that others wait for: a CRD that goes is not whole any more."""
        snapshot = self._store.snapshot(key)
        intents = await guard.judge(self._cluster, snapshot)
        await self._writer.release(
            thing
            for thing in snapshot.held
            if intents.get(thing.metadata.uid) is Intent.FORGET
            or (thing.metadata.deletion_timestamp and given_up(thing))
        )

    async def _reconcile(self, key: PairKey) -> None:
        snapshot = self._store.snapshot(key)
        if snapshot.pair is None and key in snapshot.pairs:
            log.error("%s can't be read and is left alone", key)
            return
        intents = await guard.judge(self._cluster, snapshot)
        now = datetime.now(UTC)
        planned = plan(snapshot, intents, self._settings.secrets_namespace, now)
        if _takes_a_host(snapshot, planned):
            # rare, and the policy may be gone since the last audit
            self._store.guard(await policies.missing(self._cluster, (policies.USE,)))
            snapshot = dataclasses.replace(snapshot, unguarded=self._store.unguarded)
            planned = plan(snapshot, intents, self._settings.secrets_namespace, now)
        summary = summarize(snapshot, planned, now)
        self._note_refusal(key, refused=planned.pair is not None and not planned.pair.accepted)
        done = await self._writer.carry_out(snapshot, planned, summary)
        if planned.wake is not None:
            self._queue.add(key, max(0.0, (planned.wake - datetime.now(UTC)).total_seconds()) + _WAKE_LATER_SECONDS)
        self._tell(key, summary.sentence, done)
        if snapshot.pair is None and not snapshot.things:
            self._sentences.pop(key, None)

    def _note_refusal(self, key: PairKey, *, refused: bool) -> None:
        (self._refused.add if refused else self._refused.discard)(key)

    def _tell(self, key: PairKey, sentence: str, done: list[str]) -> None:
        """One sentence per reconcile; what only repeats the one before is for those who debug."""
        news = bool(done) or self._sentences.get(key) != sentence
        self._sentences[key] = sentence
        log.log(
            logging.INFO if news else logging.DEBUG,
            "%s; %s",
            sentence,
            "wrote " + ", ".join(done) if done else "no change",
        )

    def _patience(self, error: ApiError) -> float:
        return min(error.retry_after_seconds, self._settings.backoff_limit_seconds)

    def _delay(self, key: PairKey, *, quick: bool) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        base = self._settings.backoff_seconds / (5 if quick else 1)
        delay = min(base * 2.0 ** min(failures - 1, 10), self._settings.backoff_limit_seconds)
        return delay * random.uniform(0.7, 1.3)  # noqa: S311 - to spread retries, not to guard anything


def _takes_a_host(snapshot: Snapshot, planned: Plan) -> bool:
    """Whether a host becomes the pair's that was not its own before."""
    return any(name not in snapshot.nodes or owner(snapshot.nodes[name].node) != snapshot.key for name in planned.nodes)
