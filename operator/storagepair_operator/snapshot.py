"""What one reconcile sees: an immutable picture of everything that concerns one pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from storagepair_crds.views import LUN, Failover, InitiatorACL, StorageNode, StoragePair, Switchover

from storagepair_operator.kinds import PairKey

FINALIZER = "storagepair.dev/host"

Declared = TypeVar("Declared", LUN, InitiatorACL, Switchover)
Held = StoragePair | LUN | InitiatorACL
"""What a finalizer of ours may hold."""


class Intent(StrEnum):
    """What the deletion of a LUN, an InitiatorACL or a pair means, judged with live reads (guard.py)."""

    REMOVE = "Remove"  # the user wants it off the host
    FORGET = "Forget"  # its namespace, its kind or its pair goes: the host stays as it is


@dataclass(frozen=True, slots=True)
class Observed:
    """A StorageNode; when its agent last wrote its status ("" if never): the API server's time; and since when the
    agent is silent ("" if it isn't, None while that isn't known): the host's own time. Nothing is planned by that."""

    node: StorageNode
    reported: str = ""
    silent_since: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that concerns one pair, and what the other pairs claim. Lists are in the order of age, then name."""

    key: PairKey
    pair: StoragePair | None = None
    luns: tuple[LUN, ...] = ()
    acls: tuple[InitiatorACL, ...] = ()
    failovers: tuple[Failover, ...] = ()
    switchovers: tuple[Switchover, ...] = ()
    # the pair itself and all whose claims decide about its own (more than those change nothing); None where unreadable
    pairs: Mapping[PairKey, StoragePair | None] = field(default_factory=dict)
    nodes: Mapping[str, Observed] = field(default_factory=dict)  # the StorageNodes of all these
    unguarded: str = ""  # what is wrong with the admission policies, with the remedy; "" when they stand
    unreadable: tuple[str, ...] = ()  # objects that may concern it, exist and can't be read: "LUN datastore1"

    @property
    def things(self) -> tuple[LUN | InitiatorACL, ...]:
        """What is declared for the pair: its LUNs and InitiatorACLs."""
        return (*self.luns, *self.acls)

    @property
    def held(self) -> tuple[Held, ...]:
        """All whose deletion may wait for a host."""
        return (*self.things, *((self.pair,) if self.pair is not None else ()))


def owner(node: StorageNode) -> PairKey:
    """The pair that a StorageNode was written for."""
    return PairKey(node.spec.pair_ref.namespace, node.spec.pair_ref.name)


def by_age(objects: Iterable[Declared]) -> list[Declared]:
    """Oldest first, then by name: the order in which newcomers are served."""
    return sorted(objects, key=lambda o: (o.metadata.creation_timestamp, o.metadata.name))


def own_nodes(snapshot: Snapshot) -> tuple[Observed, ...]:
    """The StorageNodes that are this pair's, in the order of its nodes (of their names, when the pair is gone)."""
    if snapshot.pair is None:
        names = sorted(name for name, seen in snapshot.nodes.items() if owner(seen.node) == snapshot.key)
    else:
        names = [node.name for node in snapshot.pair.spec.nodes]
    found = (snapshot.nodes[name] for name in names if name in snapshot.nodes)
    return tuple(seen for seen in found if owner(seen.node) == snapshot.key)
