"""What a deletion means. `kubectl delete crd` and `delete namespace` set a deletionTimestamp on every child, so that
alone is no wish to take anything off a host: before it counts, what is above the object is read live."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from storagepair_crds.views import LUN, InitiatorACL

from storagepair_operator.cluster import NOT_FOUND, ApiError, Cluster
from storagepair_operator.kinds import ACLS, LUNS, PAIRS, Kind
from storagepair_operator.plan import exports
from storagepair_operator.snapshot import Intent, Snapshot

log = logging.getLogger(__name__)

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"


async def judge(cluster: Cluster, snapshot: Snapshot) -> dict[str, Intent]:
    """The meaning of each deletion in a snapshot, by UID; without one it waits. Raises `ApiError`.

    What has been decided already (the hosts' documents say Absent) is not asked again.
    """
    now = exports.existing(snapshot)
    deleted = [t for t in snapshot.things if t.metadata.deletion_timestamp]
    open_ones = [t for t in deleted if not exports.decided(t, now)]
    if not open_ones:
        return {}
    if snapshot.pair is None or snapshot.pair.metadata.deletion_timestamp:
        return {thing.metadata.uid: Intent.FORGET for thing in open_ones}
    above = await _above(cluster, snapshot, {_kind(thing) for thing in open_ones})
    intents = {}
    for thing in open_ones:
        parents = [parent for kind, parent in above if kind in (None, _kind(thing))]
        if intent := _judge(thing, parents):
            intents[thing.metadata.uid] = intent
    return intents


def _judge(thing: LUN | InitiatorACL, parents: list[dict[str, Any] | None]) -> Intent | None:
    name = f"{_kind(thing).name} {thing.metadata.namespace}/{thing.metadata.name}"
    for parent in parents:
        if parent is None or parent["metadata"].get("deletionTimestamp"):
            what = f"{parent['kind']} {parent['metadata']['name']}" if parent else "what is above it"
            log.info("%s is forgotten, the hosts keep it: %s goes", name, what)
            return Intent.FORGET
        if parent["metadata"]["creationTimestamp"] > thing.metadata.creation_timestamp and _contains(parent):
            # what we see has died with an earlier namespace or CRD; the audit will notice
            return None
    return Intent.REMOVE


def _contains(parent: dict[str, Any]) -> bool:
    return parent["kind"] in ("Namespace", "CustomResourceDefinition")


async def _above(
    cluster: Cluster, snapshot: Snapshot, kinds: set[Kind]
) -> list[tuple[Kind | None, dict[str, Any] | None]]:
    """What is above the objects, live: of one kind or of all (None). An absent one is None."""
    namespace, name = snapshot.key
    paths: list[tuple[Kind | None, str]] = [
        (None, f"/api/v1/namespaces/{namespace}"),
        (None, _CRDS + PAIRS.crd),
        (None, PAIRS.path(namespace, name)),
        *((kind, _CRDS + kind.crd) for kind in kinds),
    ]
    found = await asyncio.gather(*(_read(cluster, path) for _, path in paths))
    return [(kind, document) for (kind, _), document in zip(paths, found, strict=True)]


async def _read(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.read(path)
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise


def _kind(thing: LUN | InitiatorACL) -> Kind:
    return LUNS if isinstance(thing, LUN) else ACLS
