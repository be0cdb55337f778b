"""Kopf's rim: events in, objects into the store. Nothing else happens here, and nothing blocks."""

from __future__ import annotations

import kopf

from storagepair_operator.cluster import Cluster
from storagepair_operator.kinds import GROUP, KINDS, VERSION, Kind
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store


def registry(store: Store, cluster: Cluster) -> kopf.OperatorRegistry:
    """Handlers of raw events for our kinds: no indices, no finalizers and no annotations of Kopf's (docs/decisions)."""
    result = kopf.OperatorRegistry()
    for kind in KINDS:
        _observe(result, store, kind)

    @kopf.on.login(registry=result)
    async def _login(**_: object) -> kopf.ConnectionInfo:
        return cluster.login()

    return result


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """Kopf's settings."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False  # our events have names, so that each appears once
    result.watching.server_timeout = settings.watch_seconds
    result.networking.request_timeout = settings.request_timeout_seconds
    # True would watch nothing for ever when started before the CRDs, and die when a CRD goes (both seen)
    result.scanning.disabled = False
    return result


def _observe(registry: kopf.OperatorRegistry, store: Store, kind: Kind) -> None:
    @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)
    async def _event(event: kopf.RawEvent, **_: object) -> None:
        document = event["object"]
        if event["type"] == "DELETED":
            store.deleted(kind, document["metadata"]["uid"])
            return
        if event["type"] is None and store.whole.is_set():
            store.relist()
        store.put(kind, document)
