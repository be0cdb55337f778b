"""The only module that writes: plan and summary against what is there, and the difference to the API server."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import msgspec
from storagepair_crds.views import (
    API_VERSION,
    LUN,
    AuthkeysReference,
    Failover,
    Metadata,
    NodeSpec,
    StoragePair,
    Struct,
    Switchover,
    SwitchoverStatus,
    document,
)

from storagepair_operator.cluster import CONFLICT, NOT_FOUND, ApiError, Cluster
from storagepair_operator.kinds import ACLS, FAILOVERS, LUNS, NODES, PAIRS, SWITCHOVERS, Kind, PairKey
from storagepair_operator.plan.model import Plan
from storagepair_operator.snapshot import FINALIZER, Held, Observed, Snapshot
from storagepair_operator.store import Store
from storagepair_operator.summarize.model import Event, Summary

log = logging.getLogger(__name__)

JSON_PATCH = "application/json-patch+json"
REPORTER = "storagepair-operator"

_TOLD = 20_000
"""How many names of events and keys are remembered, so that they are not offered again and again."""

_NOTE, _WORD = 1024, 128
"""How long an event's note may be, in bytes (the API server says characters, and counts bytes), and its reason."""

_KEY_SECONDS = 300
"""How often a key is offered again to hosts that have none: somebody may have deleted it before it got there."""


class MayNotWrite(Exception):
    """The view stopped being proven, or another operator leads, while something was about to be written."""


class Writer:
    """Carries out plans. Counts what it writes; what is there already is neither written nor counted."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        instance: str,
        may_write: Callable[[], bool],
        keyed: Callable[[PairKey], None] = lambda pair: None,
    ) -> None:
        self.writes: Counter[tuple[str, str]] = Counter()
        self._cluster = cluster
        self._store = store
        self._instance = instance
        self._may_write = may_write
        self._keyed = keyed  # hears of each pair that has a Heartbeat key now
        self._told: dict[str, float] = {}

    async def carry_out(self, snapshot: Snapshot, plan: Plan, summary: Summary) -> list[str]:
        """Write what differs; what was written, in words. Raises the first `ApiError` after all that can go on did.

        The order guards the hosts: what is released needs nothing more; what reaches a host is held first, so that it
        can't go away unseen; what a status tells has been written before.
        """
        done: list[str] = []
        errors: list[ApiError] = []
        for thing in plan.release:
            await self._try(errors, self._finalizers(thing, hold=False, done=done))
        released = {thing.metadata.uid for thing in plan.release if thing.metadata.deletion_timestamp}
        held = [await self._try(errors, self._finalizers(thing, hold=True, done=done)) for thing in plan.hold]
        if plan.authkeys is not None:
            await self._try(errors, self._authkeys(snapshot.key, plan.authkeys, done))
        if all(held):
            for name, spec in plan.nodes.items():
                await self._try(errors, self._node(name, spec, snapshot.nodes.get(name), done))
        for event in summary.events:
            await self._try(errors, self._event(event, done))
        if not errors:  # the event of a move comes before its record, which is what says that it was told
            for failover in summary.failovers:
                await self._try(errors, self._failover(failover, done))
            for failover in summary.trim:
                await self._try(errors, self._trim(failover, done))
            await self._statuses(snapshot, summary, released, errors, done)
        if errors:
            raise errors[0]
        return done

    async def release(self, things: Iterable[Held]) -> None:
        """Let go of what is being deleted and was judged to be forgotten. Takes nothing from a host."""
        for thing in things:
            if FINALIZER in thing.metadata.finalizers:
                await self._finalizers(thing, hold=False, done=[])

    async def _try(self, errors: list[ApiError], step: Coroutine[None, None, None]) -> bool:
        if not self._may_write():
            step.close()
            raise MayNotWrite
        try:
            await step
        except ApiError as error:
            errors.append(error)
            return False
        return True

    async def _statuses(
        self, snapshot: Snapshot, summary: Summary, gone: set[str], errors: list[ApiError], done: list[str]
    ) -> None:
        pair = snapshot.pair
        for request in snapshot.switchovers:
            if request.metadata.name in summary.switchovers:
                status = summary.switchovers[request.metadata.name]
                await self._try(errors, self._switchover(request, status, done))
        if pair is not None and summary.pair is not None and pair.metadata.uid not in gone:
            await self._try(errors, self._status(PAIRS, pair.metadata, pair.status, summary.pair, done))
        for thing in snapshot.things:
            if thing.metadata.uid not in gone:
                kind, told = (LUNS, summary.luns) if isinstance(thing, LUN) else (ACLS, summary.acls)
                await self._try(
                    errors, self._status(kind, thing.metadata, thing.status, told[thing.metadata.name], done)
                )

    async def _finalizers(self, thing: Held, *, hold: bool, done: list[str]) -> None:
        metadata = thing.metadata
        kind = PAIRS if isinstance(thing, StoragePair) else LUNS if isinstance(thing, LUN) else ACLS
        finalizers = [f for f in metadata.finalizers if f != FINALIZER] + ([FINALIZER] if hold else [])
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
        ]
        await self._patch(kind, "finalizer", metadata, metadata.name, patch, done)

    async def _authkeys(self, pair: PairKey, reference: AuthkeysReference, done: list[str]) -> None:
        """Generate the key unless there is one. It is never read, updated or logged here."""
        name = f"{reference.namespace}/{reference.name}"
        if asyncio.get_running_loop().time() - self._told.get(name, -_KEY_SECONDS) < _KEY_SECONDS:
            return
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": reference.name, "namespace": reference.namespace},
            "type": "Opaque",
            "stringData": {"authkey": secrets.token_hex(32)},
        }
        if await self._create(f"/api/v1/namespaces/{reference.namespace}/secrets", body) is not None:
            self._wrote("Secret", "create", reference.name, done)
        self._tell(name)
        self._keyed(pair)

    async def _node(self, name: str, spec: NodeSpec, seen: Observed | None, done: list[str]) -> None:
        metadata: dict[str, Any] = {"name": name}
        if seen is None:
            body = {"apiVersion": API_VERSION, "kind": NODES.name, "metadata": metadata, "spec": document(spec)}
            answer = await self._cluster.call("POST", NODES.path(), body)
            self._wrote(NODES.name, "create", name, done)
            self._learn(NODES, answer)
            return
        old = seen.node
        if old.spec == spec:
            return
        # replaced whole, so that no stranger's field survives in what is root on a host
        metadata["resourceVersion"] = old.metadata.resource_version
        metadata["labels"], metadata["annotations"] = old.metadata.labels, old.metadata.annotations
        metadata["finalizers"] = old.metadata.finalizers
        body = {"apiVersion": API_VERSION, "kind": NODES.name, "metadata": metadata, "spec": document(spec)}
        answer = await self._cluster.call("PUT", NODES.path(name=name), body)
        self._wrote(NODES.name, "spec", f"{name} ({_difference(old.spec, spec)})", done)
        self._learn(NODES, answer)

    async def _failover(self, failover: Failover, done: list[str]) -> None:
        body = {"apiVersion": API_VERSION, "kind": FAILOVERS.name, **document(failover)}
        answer = await self._create(FAILOVERS.path(failover.metadata.namespace), body)
        if answer is not None:
            self._wrote(FAILOVERS.name, "create", failover.metadata.name, done)
            self._learn(FAILOVERS, answer)

    async def _trim(self, failover: Failover, done: list[str]) -> None:
        """Of that very object: one of the same name that was made since is another record."""
        about = failover.metadata
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": about.uid}}
        try:
            answer = await self._cluster.call("DELETE", FAILOVERS.path(about.namespace, about.name), body)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return
        self._wrote(FAILOVERS.name, "delete", about.name, done)
        left = msgspec.json.decode(answer)
        if left.get("kind") == FAILOVERS.name:  # somebody's finalizer holds it
            self._store.put(FAILOVERS, left)
        else:
            self._store.deleted(FAILOVERS, about.uid)

    async def _event(self, event: Event, done: list[str]) -> None:
        if event.name in self._told:
            return
        namespace = event.about.namespace
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": namespace},
            "eventTime": event.time,
            "reportingController": REPORTER,
            "reportingInstance": self._instance,
            "regarding": _reference(event),
            "type": event.type,
            "reason": event.reason[:_WORD],
            "action": event.action[:_WORD],
            "note": note_of(event.note),
        }
        try:
            answer = await self._create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
        except ApiError as error:
            if not error.final:
                raise
            # for instance a namespace that is being deleted; an event is a by-product and holds up nothing
            log.info("not told: %s", error)
            answer = None
        if answer is not None:
            self._wrote("Event", "create", f"{event.about.name} {event.reason}", done)
        self._tell(event.name)

    async def _status(self, kind: Kind, about: Metadata, old: Struct, new: Struct, done: list[str]) -> None:
        if old == new:
            return
        # the UID, not the resourceVersion: a status is made from what is seen, and whoever saw last writes last
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": about.uid},
            {"op": "add", "path": "/status", "value": document(new)},
        ]
        await self._patch(kind, "status", about, f"{about.name} ({_difference(old, new)})", patch, done)

    async def _switchover(self, request: Switchover, status: SwitchoverStatus, done: list[str]) -> None:
        """Here the resourceVersion counts: a phase is a decision, made once, from what is on record."""
        about = request.metadata
        if request.status == status:
            return
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": about.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": about.resource_version},
            {"op": "add", "path": "/status", "value": document(status)},
        ]
        name = f"{about.name} ({_difference(request.status, status)})"
        await self._patch(SWITCHOVERS, "status", about, name, patch, done)

    async def _patch(self, kind: Kind, what: str, about: Metadata, name: str, patch: object, done: list[str]) -> None:
        path = kind.path(about.namespace, about.name, "status" if what == "status" else "")
        try:
            answer = await self._cluster.call("PATCH", path, patch, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return  # gone meanwhile, as the watch is about to tell
        self._wrote(kind.name, what, name, done)
        self._learn(kind, answer)

    async def _create(self, path: str, body: Mapping[str, Any]) -> bytes | None:
        """None when it is there already."""
        try:
            return await self._cluster.call("POST", path, body)
        except ApiError as error:
            if error.status == CONFLICT and error.reason == "AlreadyExists":
                return None
            raise

    def _wrote(self, kind: str, what: str, name: str, done: list[str]) -> None:
        self.writes[kind, what] += 1
        done.append(f"{kind} {name}")
        log.debug("wrote %s of %s %s", what, kind, name)

    def _learn(self, kind: Kind, answer: bytes) -> None:
        self._store.put(kind, msgspec.json.decode(answer))

    def _tell(self, name: str) -> None:
        self._told[name] = asyncio.get_running_loop().time()
        while len(self._told) > _TOLD:
            del self._told[next(iter(self._told))]


def _reference(event: Event) -> dict[str, str]:
    about = event.about
    return {
        "apiVersion": API_VERSION,
        "kind": event.kind.name,
        "namespace": about.namespace,
        "name": about.name,
        "uid": about.uid,
        "resourceVersion": about.resource_version,
    }


def note_of(text: str) -> str:
    """An event's note, cut to what the API server takes."""
    data, mark = text.encode(), "…"
    return text if len(data) <= _NOTE else data[: _NOTE - len(mark.encode())].decode(errors="ignore") + mark


def _difference(old: Struct, new: Struct) -> str:
    """The names of the fields that differ."""
    fields = (field for field in new.__struct_fields__ if getattr(old, field) != getattr(new, field))
    return ", ".join(field.rstrip("_") for field in fields)
