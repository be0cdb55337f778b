"""Listens for the agents: reads the nodes' Leases again and again, and tells the store whose agent is silent.

Lists, not a watch: a thousand agents renew fifty times a second between them, and what is wanted is who did not. One
list a quarter of the term costs a few milliseconds; nothing is written, and no pair is looked at for a renewal.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from storagepair_operator.cluster import ApiError, Cluster
from storagepair_operator.identities import LABEL, LEASE
from storagepair_operator.settings import Settings
from storagepair_operator.silence import Lease, Watch
from storagepair_operator.store import Store

log = logging.getLogger(__name__)

LOOKS_PER_TERM = 4


class _Metadata(msgspec.Struct):
    uid: str
    labels: dict[str, str] = {}


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    renew_time: str | None = None


class _Item(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _List(msgspec.Struct):
    items: list[_Item] | None = None


class Listener:
    """Follows the agents' Leases, for ever, whether this operator leads or not: who takes over knows them already."""

    def __init__(self, cluster: Cluster, store: Store, settings: Settings) -> None:
        self._cluster = cluster
        self._store = store
        self._settings = settings
        self._watch = Watch()
        self._problem = ""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                leases = await self._read()
            except (ApiError, msgspec.DecodeError) as error:
                self._complain(str(error))
            else:
                self._problem = ""
                self._hear(leases)
            await asyncio.sleep(self._settings.agent_silent_seconds / LOOKS_PER_TERM)

    def _hear(self, leases: dict[str, Lease]) -> None:
        before = self._watch.since()
        self._watch = self._watch.look(leases, asyncio.get_running_loop().time(), self._settings.agent_silent_seconds)
        after = self._watch.since()
        for node, since in after.items():
            if since and not before.get(node):
                log.warning("the agent of %s is silent since %s (by its own clock)", node, since)
            elif not since and before.get(node):
                log.info("the agent of %s renews its Lease again", node)
        self._store.hear(after)

    def _complain(self, problem: str) -> None:
        """Said once. Nobody is called silent for it."""
        if problem != self._problem:
            log.warning("the agents' Leases can't be read: %s", problem)
        self._problem = problem

    async def _read(self) -> dict[str, Lease]:
        path = LEASE.path(self._settings.secrets_namespace)
        answer = msgspec.json.decode(await self._cluster.call("GET", path, query={"labelSelector": LABEL}), type=_List)
        return {item.metadata.labels[LABEL]: _lease(item) for item in answer.items or ()}


def _lease(item: _Item) -> Lease:
    # without a holder it is nobody's: as the operator made it, or given back
    return Lease(item.metadata.uid, (item.spec.renew_time or "") if item.spec.holder_identity else "")
