"""The kinds that the operator watches, and where the API server has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from storagepair_crds.views import (
    API_VERSION,
    GROUP,
    LUN,
    VERSION,
    Failover,
    InitiatorACL,
    StorageNode,
    StoragePair,
    Struct,
    Switchover,
)


class PairKey(NamedTuple):
    """What names a pair: the unit of reconciling."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One of our kinds."""

    plural: str
    view: type[Struct]
    namespaced: bool = True

    @property
    def name(self) -> str:
        """The kind as in a document: StoragePair."""
        return self.view.__name__

    @property
    def crd(self) -> str:
        """The name of its CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Its URL path: of all objects, of a namespace's, of one object or of that object's subresource."""
        parts = ["", "apis", API_VERSION]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


PAIRS = Kind("storagepairs", StoragePair)
LUNS = Kind("luns", LUN)
ACLS = Kind("initiatoracls", InitiatorACL)
NODES = Kind("storagenodes", StorageNode, namespaced=False)
FAILOVERS = Kind("failovers", Failover)
SWITCHOVERS = Kind("switchovers", Switchover)
KINDS = (PAIRS, LUNS, ACLS, NODES, FAILOVERS, SWITCHOVERS)

__all__ = ["ACLS", "FAILOVERS", "GROUP", "KINDS", "LUNS", "NODES", "PAIRS", "SWITCHOVERS", "VERSION", "Kind", "PairKey"]
