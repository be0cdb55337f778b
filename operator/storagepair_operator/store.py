"""The snapshot store: every object of our kinds as last seen, and whether that is the whole truth.

Watches feed it, and the answers to our own writes, so that a reconcile never acts twice on what it has just changed.
An audit (audit.py) proves it whole; while it isn't, `whole` is clear and nobody writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from storagepair_crds.views import LUN as LUNView
from storagepair_crds.views import Failover, InitiatorACL, StorageNode, StoragePair, Struct, Switchover, view

from storagepair_operator.claimindex import ClaimIndex
from storagepair_operator.identities import NodeKey
from storagepair_operator.kinds import ACLS, FAILOVERS, KINDS, LUNS, NODES, PAIRS, SWITCHOVERS, Kind, PairKey
from storagepair_operator.snapshot import Observed, Snapshot, by_age, owner

log = logging.getLogger(__name__)

_TOMBSTONES = 20_000
"""How many UIDs of deleted objects are remembered. They keep a late answer from raising the dead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: what is needed of it, typed; `value` is None when it can't be read as its kind."""

    kind: Kind
    uid: str
    version: int
    namespace: str
    name: str
    value: Struct | None
    reported: str

    @property
    def keys(self) -> tuple[PairKey, ...]:
        """The pair that it concerns."""
        value = self.value
        if isinstance(value, LUNView | InitiatorACL | Failover | Switchover):
            return (PairKey(self.namespace, value.spec.pair_ref.name),)
        if isinstance(value, StorageNode):
            return (owner(value),)
        return (PairKey(self.namespace, self.name),) if self.kind is PAIRS else ()


class Store:
    """All objects by kind and UID. For the event loop's thread only."""

    def __init__(self, changed: Callable[[Kind, Iterable[PairKey]], None] = lambda kind, keys: None) -> None:
        self.whole = asyncio.Event()
        self.relisted = asyncio.Event()
        self.grown = asyncio.Event()  # set at every change; the audit waits on it for what it misses
        self.unguarded = ""  # what is wrong with the admission policies, by the last look at them
        self._changed = changed
        self._entries: dict[Kind, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self._by_pair: dict[tuple[Kind, PairKey], dict[str, Entry]] = {}
        self._claims = ClaimIndex()
        self._garbled: dict[str, Entry] = {}
        self._silent_since: dict[str, str] = {}  # by node, see Observed
        self._gone: OrderedDict[str, None] = OrderedDict()

    def put(self, kind: Kind, document: Mapping[str, Any]) -> bool:
        """Take a newer version of an object; False when it was known already, or deleted."""
        metadata = document["metadata"]
        known = self._entries[kind].get(metadata["uid"])
        if metadata["uid"] in self._gone or (known is not None and known.version >= int(metadata["resourceVersion"])):
            return False
        entry = _entry(kind, document)
        self._unlink(known)
        self._entries[kind][entry.uid] = entry
        if entry.value is None:
            self._garbled[entry.uid] = entry
        for key in entry.keys:
            self._by_pair.setdefault((kind, key), {})[entry.uid] = entry
        self._claims.add(entry.uid, entry.keys, entry.value)
        self._announce(kind, known, entry)
        return True

    def deleted(self, kind: Kind, uid: str) -> None:
        """An object was seen to go."""
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        self._drop(kind, uid)

    def vanished(self, kind: Kind, listed: Mapping[str, int], version: int) -> list[str]:
        """Drop what is in no list and no newer than the list: it went unseen, which says nothing about why."""
        lost = [e for uid, e in self._entries[kind].items() if uid not in listed and e.version <= version]
        for entry in lost:
            self._drop(kind, entry.uid)
        return [f"{kind.name} {entry.namespace}/{entry.name}" for entry in lost]

    def missing(self, kind: Kind, listed: Mapping[str, int]) -> list[str]:
        """The listed UIDs whose listed version (or a newer one, or the end) has not been seen here."""
        entries = self._entries[kind]
        return [
            uid
            for uid, version in listed.items()
            if uid not in self._gone and (uid not in entries or entries[uid].version < version)
        ]

    def relist(self) -> None:
        """A watch had to begin anew, so something may have gone unseen: prove the view again before writing."""
        self.whole.clear()
        self.relisted.set()

    def guard(self, problem: str) -> None:
        """Take note of what is wrong with the admission policies ("" for nothing); all pairs hear of a change."""
        if problem != self.unguarded:
            self.unguarded = problem
            self._changed(PAIRS, {key for entry in self._entries[PAIRS].values() for key in entry.keys})

    def hear(self, silent_since: Mapping[str, str]) -> None:
        """Take note of whose agent is silent (silence.py); only the pairs hear of it for whom that is news."""
        before, self._silent_since = self._silent_since, dict(silent_since)
        turned = {n for n in before.keys() | silent_since.keys() if before.get(n) != silent_since.get(n)}
        if turned:
            self._changed(NODES, {pair for node, pair in self.nodes().items() if node.name in turned})

    @property
    def silent_agents(self) -> int:
        """How many agents are silent now."""
        return sum(1 for since in self._silent_since.values() if since)

    def count(self, kind: Kind) -> int:
        """How many objects of a kind are in view."""
        return len(self._entries[kind])

    def nodes(self) -> dict[NodeKey, PairKey]:
        """All StorageNodes, and the pair that each was written for. Of two of one name the newer one."""
        found = {e.name: e for e in _latest(self._entries[NODES].values())}
        return {NodeKey(e.name, e.uid): owner(e.value) for e in found.values() if isinstance(e.value, StorageNode)}

    def snapshot(self, key: PairKey) -> Snapshot:
        """An immutable picture of what concerns one pair: its own, and the other pairs that claim what it claims."""
        rivals = self._claims.rivals(key)
        pairs = {k: e.value for k in rivals for e in _latest(self._of(PAIRS, k))}
        mine = [entry for kind in (LUNS, ACLS, FAILOVERS, SWITCHOVERS) for entry in self._of(kind, key)]
        pair = pairs.get(key)
        return Snapshot(
            key=key,
            pair=pair if isinstance(pair, StoragePair) else None,
            luns=tuple(by_age(e.value for e in mine if isinstance(e.value, LUNView))),
            acls=tuple(by_age(e.value for e in mine if isinstance(e.value, InitiatorACL))),
            failovers=tuple(e.value for e in mine if isinstance(e.value, Failover)),
            switchovers=tuple(by_age(e.value for e in mine if isinstance(e.value, Switchover))),
            nodes={
                e.name: Observed(e.value, e.reported, self._silent_since.get(e.name))
                for e in _latest(self._entries[NODES][uid] for uid in self._claims.nodes(rivals))
                if isinstance(e.value, StorageNode)
            },
            pairs={k: v if isinstance(v, StoragePair) else None for k, v in pairs.items()},
            unreadable=self._unreadable(key),
            unguarded=self.unguarded,
        )

    def _of(self, kind: Kind, key: PairKey) -> Iterable[Entry]:
        return self._by_pair.get((kind, key), {}).values()

    def _unreadable(self, key: PairKey) -> tuple[str, ...]:
        entries = (e for e in self._garbled.values() if e.kind is NODES or e.namespace == key.namespace)
        return tuple(sorted(f"{e.kind.name} {e.name}" for e in entries))

    def _drop(self, kind: Kind, uid: str) -> None:
        entry = self._entries[kind].pop(uid, None)
        if entry is not None:
            self._unlink(entry)
            self._announce(kind, entry)

    def _unlink(self, entry: Entry | None) -> None:
        if entry is None:
            return
        self._garbled.pop(entry.uid, None)
        self._claims.remove(entry.uid)
        for key in entry.keys:
            siblings = self._by_pair[entry.kind, key]
            del siblings[entry.uid]
            if not siblings:
                del self._by_pair[entry.kind, key]

    def _announce(self, kind: Kind, *entries: Entry | None) -> None:
        self.grown.set()
        self._changed(kind, {key for entry in entries if entry is not None for key in entry.keys})


def _entry(kind: Kind, document: Mapping[str, Any]) -> Entry:
    metadata = document["metadata"]
    value: Struct | None = None
    try:
        value = view(kind.view, document)
    except msgspec.ValidationError as error:
        # counts as present, and that is all: an object that we can't read must neither stop the others nor be undone
        log.error("%s %s can't be read: %s", kind.name, metadata["name"], error)
    return Entry(
        kind=kind,
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        value=value,
        reported=_reported(metadata) if kind is NODES else "",
    )


def _reported(metadata: Mapping[str, Any]) -> str:
    fields = metadata.get("managedFields") or ()
    return max((field.get("time", "") for field in fields if field.get("subresource") == "status"), default="")


def _latest(entries: Iterable[Entry]) -> Iterable[Entry]:
    """In the order of their versions: of two objects of one name (one deleted, one new) the newer wins a dict."""
    return sorted(entries, key=lambda entry: entry.version)
