"""Keeps the nodes' identities: what each StorageNode's agent may do, and what is in that node's Secret.

Level-based like the pairs' reconcile, but by node. What is there is compared with a list per kind in the rhythm of the
audit; between two of them only nodes that are new, or that get a key, cost a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from storagepair_operator import identities
from storagepair_operator.audit import METADATA_ONLY
from storagepair_operator.cluster import CONFLICT, NOT_FOUND, ApiError, Cluster
from storagepair_operator.identities import LABEL, PARTS, SECRET, NodeKey, Part, name_of
from storagepair_operator.kinds import NODES, Kind, PairKey
from storagepair_operator.plan import authkeys_name
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store
from storagepair_operator.writer import MayNotWrite

log = logging.getLogger(__name__)

_AT_ONCE = 4
"""How many nodes are looked after at a time: a first start with hundreds of them should not take minutes."""

Listed = Mapping[Part, Mapping[str, dict[str, Any]]]


class _Metadata(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[dict[str, Any]] = []


class _Item(msgspec.Struct, rename="camel", omit_defaults=True):
    """What is compared of an object: the rest of a list is not worth the memory."""

    metadata: _Metadata
    rules: list[Any] | None = None
    role_ref: dict[str, str] | None = None
    subjects: list[dict[str, str]] | None = None
    automount_service_account_token: bool | None = None


class _List(msgspec.Struct):
    items: list[_Item] | None = None


class Registrar:
    """Makes and mends identities, for ever."""

    def __init__(self, cluster: Cluster, store: Store, leading: asyncio.Event, settings: Settings) -> None:
        self.writes: Counter[tuple[str, str]] = Counter()
        self._cluster = cluster
        self._store = store
        self._leading = leading
        self._settings = settings
        self._namespace = settings.secrets_namespace
        self._news = asyncio.Event()
        self._listed = float("-inf")  # when, by the clock of the loop
        self._good: set[NodeKey] = set()  # whose accounts and roles are as they shall be, since the last lists
        self._secrets: dict[NodeKey, PairKey | None] = {}  # of which pair the key is that each has; None for no key
        self._fresh: set[PairKey] = set()  # pairs that have just got their key
        self._problem = ""

    def changed(self, kind: Kind) -> None:
        """A StorageNode may have come."""
        if kind is NODES:
            self._news.set()

    def keyed(self, pair: PairKey) -> None:
        """A pair has its Heartbeat key now."""
        self._fresh.add(pair)
        self._news.set()

    async def run(self) -> None:
        """Look after all nodes, for ever."""
        failures = 0
        while True:
            await self._leading.wait()
            await self._store.whole.wait()
            try:
                await self._turn()
            except MayNotWrite:
                continue
            except ApiError as error:
                failures += 1
                self._complain(str(error))
                patience = min(error.retry_after_seconds, self._settings.backoff_limit_seconds)
                await asyncio.sleep(max(self._pause(failures), patience))
                continue
            except Exception:
                # a defect here must not stop the pairs
                failures += 1
                log.exception("a defect in keeping the nodes' identities")
                await asyncio.sleep(self._pause(failures))
                continue
            failures, self._problem = 0, ""
            await self._rest()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), self._settings.audit_seconds)
        except TimeoutError:
            return
        # a burst of events is one look
        await asyncio.sleep(self._settings.debounce_seconds)

    def _pause(self, failures: int) -> float:
        return min(self._settings.backoff_seconds * 2.0 ** min(failures, 10), self._settings.backoff_limit_seconds)

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("a node's identity can't be kept: %s", problem)
        self._problem = problem

    async def _turn(self) -> None:
        self._news.clear()
        fresh, self._fresh = self._fresh, set()
        nodes = self._store.nodes()
        listed: Listed = {}
        if asyncio.get_running_loop().time() - self._listed >= self._settings.audit_seconds:
            listed = await self._list()
            self._listed = asyncio.get_running_loop().time()
            self._good, self._secrets = set(), {}
        self._good &= nodes.keys()
        self._secrets = {node: pair for node, pair in self._secrets.items() if node in nodes}
        unkeyed = {n for n, pair in nodes.items() if pair in fresh or self._secrets.get(n, pair) not in (pair, None)}
        todo = {n: pair for n, pair in nodes.items() if n not in self._good or n not in self._secrets or n in unkeyed}
        try:
            await self._look_after(todo, listed)
        except BaseException:
            self._fresh |= fresh
            raise

    async def _look_after(self, todo: Mapping[NodeKey, PairKey], listed: Listed) -> None:
        gate, keys = asyncio.Semaphore(_AT_ONCE), _Keys(self._cluster, self._namespace)

        async def one(node: NodeKey, pair: PairKey) -> None:
            async with gate:
                if node not in self._good:
                    for part in PARTS:
                        await self._keep(part, node, listed)
                    self._good.add(node)
                self._secrets[node] = await self._secret(node, pair, keys, listed)

        outcomes = await asyncio.gather(*(one(*each) for each in todo.items()), return_exceptions=True)
        _raise_first(outcomes)

    async def _keep(self, part: Part, node: NodeKey, listed: Listed) -> None:
        want, name = identities.wanted(part, node, self._namespace), name_of(node.name)
        seen = listed.get(part, {}).get(name)
        if seen is not None and identities.same(part, seen, want):
            return
        if seen is None and await self._create(part, want):
            return
        # in full: what others have put there stays
        found = await self._cluster.read(part.path(self._namespace, name))
        if not identities.same(part, found, want):
            await self._update(part, identities.mended(found, want))

    async def _secret(self, node: NodeKey, pair: PairKey, keys: _Keys, listed: Listed) -> PairKey | None:
        """A copy of the pair's Heartbeat key, once there is one; of which pair the node has a key now."""
        name = name_of(node.name)
        seen = listed.get(SECRET, {}).get(name)
        if seen is not None and identities.made_for(seen, node, pair):
            return pair
        data = await keys.of(pair)
        if data is None:
            return None
        want = identities.secret(node, self._namespace, pair, data)
        if seen is None and await self._create(SECRET, want):
            return pair
        found = await self._cluster.read(SECRET.path(self._namespace, name))
        if not identities.made_for(found, node, pair):
            await self._update(SECRET, identities.mended(found, want))
        return pair

    async def _create(self, part: Part, body: Mapping[str, Any]) -> bool:
        """False when there is one already."""
        self._may_write()
        try:
            await self._cluster.call("POST", part.path(self._namespace), body)
        except ApiError as error:
            if error.status == CONFLICT and error.reason == "AlreadyExists":
                return False
            raise
        self._wrote(part, "create", body)
        return True

    async def _update(self, part: Part, body: Mapping[str, Any]) -> None:
        self._may_write()
        await self._cluster.call("PUT", part.path(self._namespace, body["metadata"]["name"]), body)
        self._wrote(part, "update", body)

    def _wrote(self, part: Part, what: str, body: Mapping[str, Any]) -> None:
        self.writes[part.kind, what] += 1
        log.info("%s %s %sd", part.kind, body["metadata"]["name"], what)

    def _may_write(self) -> None:
        if not (self._leading.is_set() and self._store.whole.is_set()):
            raise MayNotWrite

    async def _list(self) -> Listed:
        parts = (*PARTS, SECRET)
        return dict(zip(parts, await asyncio.gather(*(self._list_of(part) for part in parts)), strict=True))

    async def _list_of(self, part: Part) -> dict[str, dict[str, Any]]:
        # what is in them is not ours: of Secrets it is nobody's business here, of Leases it changes all the time
        accept = METADATA_ONLY if not part.own else "application/json"
        answer = await self._cluster.call(
            "GET", part.path(self._namespace), query={"labelSelector": LABEL}, accept=accept
        )
        items = msgspec.json.decode(answer, type=_List).items or []
        return {item.metadata.name: msgspec.to_builtins(item) for item in items}


class _Keys:
    """The pairs' Heartbeat keys, for the length of one turn: each is read once, and nothing remembers it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._known: dict[PairKey, dict[str, str] | None] = {}

    async def of(self, pair: PairKey) -> dict[str, str] | None:
        """The pair's key as a Secret's data; None when it has none (yet)."""
        if pair not in self._known:
            self._known[pair] = await self._read(pair)
        return self._known[pair]

    async def _read(self, pair: PairKey) -> dict[str, str] | None:
        try:
            found = await self._cluster.read(SECRET.path(self._namespace, authkeys_name(pair)))
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        data = found.get("data") or {}
        return {"authkey": data["authkey"]} if "authkey" in data else None


def _raise_first(outcomes: Iterable[BaseException | None]) -> None:
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
