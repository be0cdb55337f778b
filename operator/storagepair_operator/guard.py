"""What a deletion means. `kubectl delete crd` and `delete namespace` set a deletionTimestamp on every child, so that
alone is no wish to take anything off a host: before it counts, what is above the object is read live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from storagepair_crds.views import LUN, StoragePair

from storagepair_operator.cluster import NOT_FOUND, ApiError, Cluster
from storagepair_operator.kinds import ACLS, LUNS, PAIRS, Kind
from storagepair_operator.plan import exports, teardown
from storagepair_operator.snapshot import FINALIZER, Held, Intent, Snapshot

log = logging.getLogger(__name__)

_NAMESPACE = "its namespace"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"


async def judge(cluster: Cluster, snapshot: Snapshot) -> dict[str, Intent]:
    """The meaning of each deletion in a snapshot, by UID; without one it waits. Raises `ApiError`.

    All of it is read live, so it holds for a view that is not proven whole too. What has been decided already (the
    hosts' documents say Absent) is not asked again.
    """
    open_ones = [
        thing for thing in snapshot.held if thing.metadata.deletion_timestamp and not _decided(thing, snapshot)
    ]
    if not open_ones:
        return {}
    parents = await _parents(cluster, snapshot, {_kind(thing) for thing in open_ones})
    intents = {thing.metadata.uid: _judge(thing, parents) for thing in open_ones}
    return {uid: intent for uid, intent in intents.items() if intent is not None}


def _decided(thing: Held, snapshot: Snapshot) -> bool:
    if isinstance(thing, StoragePair):
        # without our finalizer nothing waits for an answer
        return FINALIZER not in thing.metadata.finalizers or teardown.begun(thing, snapshot)
    return exports.decided(thing, exports.existing(snapshot))


def _judge(thing: Held, parents: Mapping[str, dict[str, Any] | None]) -> Intent | None:
    above = {_NAMESPACE, PAIRS.crd, _kind(thing).crd}
    if not isinstance(thing, StoragePair):
        above.add(_pair(thing.spec.pair_ref.name))
    own = {name: parent for name, parent in parents.items() if name in above}
    for name, parent in own.items():
        if parent is None or parent["metadata"].get("deletionTimestamp"):
            about = f"{_kind(thing).name} {thing.metadata.namespace}/{thing.metadata.name}"
            log.info("%s is forgotten and stays on the hosts: %s goes", about, name)
            return Intent.FORGET
    containers = (own[_NAMESPACE], own[_kind(thing).crd])
    born = max(parent["metadata"]["creationTimestamp"] for parent in containers if parent is not None)
    # younger than what it is in: it has died with an earlier namespace or CRD of the name, as the audit will find
    return Intent.REMOVE if born <= thing.metadata.creation_timestamp else None


async def _parents(cluster: Cluster, snapshot: Snapshot, kinds: set[Kind]) -> dict[str, dict[str, Any] | None]:
    """What is above the objects, live, by name. None is absent."""
    namespace, name = snapshot.key
    paths = {
        _NAMESPACE: f"/api/v1/namespaces/{namespace}",
        _pair(name): PAIRS.path(namespace, name),
        **{kind.crd: _CRDS + kind.crd for kind in (PAIRS, *kinds)},
    }
    found = await asyncio.gather(*(_read(cluster, path) for path in paths.values()))
    return dict(zip(paths, found, strict=True))


async def _read(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.read(path)
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise


def _pair(name: str) -> str:
    return f"StoragePair {name}"


def _kind(thing: Held) -> Kind:
    if isinstance(thing, StoragePair):
        return PAIRS
    return LUNS if isinstance(thing, LUN) else ACLS
