"""The audit: is the store the whole truth?

Kopf says neither when a list is complete nor what vanished while a watch was broken, so the store is compared with a
list of metadata per kind: at the start, after every relist of a watch, and once a minute. With it goes what no watch
tells: whether the admission policies stand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from storagepair_operator import policies
from storagepair_operator.cluster import NOT_FOUND, ApiError, Cluster
from storagepair_operator.kinds import KINDS, Kind
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store

log = logging.getLogger(__name__)

_GULP_SECONDS = 0.05
"""A start brings thousands of events at once. Compared after each, the comparisons would cost more than the events."""

_UNGUARDED_SECONDS = 5.0
"""How soon the policies are looked for again when they are missing: somebody may just be applying them."""

METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class _ItemMetadata(msgspec.Struct, rename="camel"):
    uid: str
    resource_version: str


class _Item(msgspec.Struct):
    metadata: _ItemMetadata


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_Item] | None = None  # null when there are none


class Auditor:
    """Proves the store whole, again and again, and says when it can't."""

    def __init__(self, cluster: Cluster, store: Store, settings: Settings, renew: Callable[[], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._settings = settings
        self._renew = renew  # has the watches begin anew
        self._unserved: set[Kind] = set()
        self._stalled_since: float | None = None
        self._problem = ""

    @property
    def alive(self) -> bool:
        """False when the API server has answered for long and the watches still don't deliver what it lists."""
        since = self._stalled_since
        return since is None or asyncio.get_running_loop().time() - since < self._settings.stall_seconds

    async def run(self) -> None:
        """Audit for ever."""
        while True:
            self._store.relisted.clear()
            passed = await self._audit()
            soon = _UNGUARDED_SECONDS if passed else 2
            wait = self._settings.audit_seconds
            if not passed or self._store.unguarded:
                wait = min(wait, soon)
            try:
                await asyncio.wait_for(self._store.relisted.wait(), wait)
            except TimeoutError:
                continue

    async def _audit(self) -> bool:
        try:
            self._guard(await policies.missing(self._cluster))
            missing = await self._compare()
        except ApiError as error:
            # the API server's silence is no reason to restart us
            self._stalled_since = None
            self._fail(f"the lists can't be read: {error}")
            return False
        if missing:
            if self._stalled_since is None:
                self._stalled_since = asyncio.get_running_loop().time()
            self._fail(f"the watches have not delivered {missing}")
            self._renew()
            return False
        self._stalled_since = None
        if self._store.relisted.is_set():
            return False  # a watch began anew while we looked
        if not self._store.whole.is_set():
            log.info("the view is whole: %s", self._sizes())
            self._problem = ""
            self._store.whole.set()
        return True

    def _fail(self, problem: str) -> None:
        self._store.whole.clear()
        if problem != self._problem:
            log.warning("the view is not proven whole, nothing is written: %s", problem)
        self._problem = problem

    def _guard(self, problem: str) -> None:
        if problem != self._store.unguarded:
            level = logging.WARNING if problem else logging.INFO
            log.log(level, "no pair is accepted: %s" if problem else "the admission policies stand%s", problem)
        self._store.guard(problem)

    async def _compare(self) -> str:
        """What the watches owe; "" when nothing."""
        lists = dict(zip(KINDS, await asyncio.gather(*(self._list(kind) for kind in KINDS)), strict=True))
        for kind, (listed, version) in lists.items():
            if lost := self._store.vanished(kind, listed, version):
                log.warning("vanished unseen, which is no instruction: %s", ", ".join(lost))
        return await self._catch_up({kind: listed for kind, (listed, _) in lists.items()})

    async def _catch_up(self, lists: dict[Kind, dict[str, int]]) -> str:
        until = asyncio.get_running_loop().time() + self._settings.catch_up_seconds
        while True:
            self._store.grown.clear()
            owed = self._owed(lists)
            if not owed:
                return ""
            self._store.whole.clear()
            try:
                await asyncio.wait_for(self._store.grown.wait(), max(0, until - asyncio.get_running_loop().time()))
            except TimeoutError:
                return ", ".join(f"{len(uids)} {kind.plural}" for kind, uids in owed.items())
            await asyncio.sleep(_GULP_SECONDS)
            lists = {kind: {uid: lists[kind][uid] for uid in uids} for kind, uids in owed.items()}

    def _owed(self, lists: dict[Kind, dict[str, int]]) -> dict[Kind, list[str]]:
        owed = {kind: self._store.missing(kind, listed) for kind, listed in lists.items()}
        return {kind: uids for kind, uids in owed.items() if uids}

    async def _list(self, kind: Kind) -> tuple[dict[str, int], int]:
        try:
            data = await self._cluster.call("GET", kind.path(), accept=METADATA_ONLY)
        except ApiError as error:
            if error.status == NOT_FOUND:
                self._unserved.add(kind)
            raise
        if kind in self._unserved:
            # Kopf looks for a new kind when its CRD changes, which is a moment before it is served; and then no more
            log.info("%s are served now; the watches begin anew", kind.plural)
            self._unserved.discard(kind)
            self._renew()
        answer = msgspec.json.decode(data, type=_List)
        listed = {item.metadata.uid: int(item.metadata.resource_version) for item in answer.items or ()}
        return listed, int(answer.metadata.resource_version)

    def _sizes(self) -> str:
        return ", ".join(f"{self._store.count(kind)} {kind.plural}" for kind in KINDS)
