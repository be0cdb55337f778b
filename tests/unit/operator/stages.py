"""Our kinds' statuses at every stage of their lives, as the operator writes them, and the words that tools have for it.

`kstatus` is what the kstatus library must compute of it (Flux and others wait by that; tests/api/test_kstatus.py),
`argo` what Argo CD's health check must say (test_argocd.py). Why so: docs/decisions/0012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from storagepair_crds.schema import apply_defaults
from storagepair_crds.views import API_VERSION, LUN, Metadata, NodeStatus, Struct, document
from storagepair_operator.kinds import PairKey
from storagepair_operator.plan.model import Move
from storagepair_operator.snapshot import Snapshot
from storagepair_operator.summarize import summarize
from storagepair_operator.summarize.switchovers import switchover_status
from unit.operator.builders import (
    EARLIER,
    NOW,
    acl,
    failover,
    lone,
    lun,
    pair,
    planned,
    ready,
    running,
    served,
    silent,
    snapshot,
    status,
    switchover,
    written,
)

IN_PROGRESS, CURRENT, FAILED, TERMINATING = "InProgress", "Current", "Failed", "Terminating"
PROGRESSING, HEALTHY, DEGRADED = "Progressing", "Healthy", "Degraded"
SERVES = status("Active", luns=(served(),))


@dataclass(frozen=True, slots=True)
class Stage:
    """One object at one moment."""

    name: str
    document: Mapping[str, Any]
    kstatus: str
    argo: str

    def __str__(self) -> str:
        return f"{self.document['kind']} {self.name}"


def _stages(name: str, view: Snapshot, **verdicts: tuple[str, str]) -> list[Stage]:
    """The objects of a snapshot as summarize() leaves them; the verdicts by kind."""
    told = summarize(view, planned(view), NOW)
    found: dict[str, tuple[Metadata, Struct]] = {}
    if view.pair is not None and told.pair is not None:
        found["StoragePair"] = (view.pair.metadata, told.pair)
    for lun_ in view.luns:
        found["LUN"] = (lun_.metadata, told.luns[lun_.metadata.name])
    for acl_ in view.acls:
        found["InitiatorACL"] = (acl_.metadata, told.acls[acl_.metadata.name])
    return [Stage(name, _document(kind, *found[kind]), *verdict) for kind, verdict in verdicts.items()]


def _document(kind: str, about: Metadata, state: Struct | None) -> dict[str, Any]:
    whole = {"apiVersion": API_VERSION, "kind": kind, "metadata": document(about)}
    return whole if state is None else whole | {"status": document(state)}


def _fresh(kind: str) -> Stage:
    """As the API server makes it: its schema fills in a status that says that nobody has looked."""
    made = apply_defaults({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "x", "generation": 1}})
    return Stage("just made", made, IN_PROGRESS, PROGRESSING)


def _edited() -> Stage:
    """Ready, and then edited: the status is still the one of the document before."""
    (before,) = _stages("", running(lun(), active=SERVES), StoragePair=(CURRENT, HEALTHY))
    whole = {**before.document, "metadata": {**before.document["metadata"], "generation": 2}}
    return Stage("edited", whole, IN_PROGRESS, PROGRESSING)


def _refused_pair(*things: LUN) -> Snapshot:
    rival = pair(PairKey("other", "rival"), created="2026-01-01T00:00:00Z")
    return snapshot(*things, of=pair(), others=[rival])


def _resyncing() -> NodeStatus:
    mirror = msgspec.structs.replace(SERVES.replication, connection="SyncSource", peer_disk_state="Inconsistent")
    return msgspec.structs.replace(SERVES, replication=mirror)


def _both_primary() -> Snapshot:
    lonely = [msgspec.structs.replace(lone(SERVES), heartbeat=SERVES.heartbeat) for _ in range(2)]
    return running(lun(), active=lonely[0], standby=lonely[1])


def _deleting_pair() -> Snapshot:
    leaving = pair(deletion_timestamp=EARLIER)
    return snapshot(of=leaving, nodes=running(active=SERVES).nodes)


def _storage_nodes() -> list[Stage]:
    """As agents write them."""
    cases = {
        "nothing reported": (NodeStatus(), IN_PROGRESS, PROGRESSING),
        "ready": (status("Active"), CURRENT, HEALTHY),
        "not ready": (status(conditions=(ready("False"),)), IN_PROGRESS, PROGRESSING),
        "behind its document": (status(observed_generation=0), IN_PROGRESS, PROGRESSING),
    }
    about = Metadata(name="node1", generation=1)
    return [
        Stage(name, _document("StorageNode", about, state) | _observed(state), kstatus, argo)
        for name, (state, kstatus, argo) in cases.items()
    ]


def _observed(state: NodeStatus) -> dict[str, Any]:
    # document() leaves a default out, the API server fills it in
    return {"status": {"observedGeneration": state.observed_generation, **document(state)}}


def _switchovers() -> list[Stage]:
    """A request, phase by phase."""
    phases = {"Pending": WAITS, "Running": WAITS, "Succeeded": GOOD, "Refused": BAD, "Failed": BAD}
    found = []
    for phase, verdict in phases.items():
        request = switchover()
        told = switchover_status(request, Move(phase, phase, "as the test says"), NOW)
        found.append(Stage(phase, _document("Switchover", request.metadata, told), *verdict))
    return found


WAITS, GOOD, BAD, BROKEN = (
    (IN_PROGRESS, PROGRESSING),
    (CURRENT, HEALTHY),
    (FAILED, DEGRADED),
    (IN_PROGRESS, DEGRADED),
)
LEAVES = (TERMINATING, PROGRESSING)

STAGES: list[Stage] = [
    *map(_fresh, ("StoragePair", "LUN", "InitiatorACL", "StorageNode", "Switchover")),
    *_stages("without agents", snapshot(lun(), acl()), StoragePair=WAITS, LUN=WAITS, InitiatorACL=WAITS),
    *_stages(
        "being prepared",
        snapshot(lun(), nodes=written(snapshot(lun()), (status(), status()))),
        StoragePair=WAITS,
        LUN=WAITS,
    ),
    *_stages("served", running(lun(), acl(), active=SERVES), StoragePair=GOOD, LUN=GOOD, InitiatorACL=GOOD),
    _edited(),
    *_stages("a machine applies it", running(active=SERVES, standby=status(observed_generation=0)), StoragePair=WAITS),
    *_stages("a machine is lost", running(lun(), active=lone(SERVES)), StoragePair=BROKEN, LUN=GOOD),
    *_stages("an agent is silent", silent(running(lun(), active=SERVES), node2=EARLIER), StoragePair=BROKEN, LUN=GOOD),
    *_stages("resyncing", running(lun(), active=_resyncing()), StoragePair=BROKEN, LUN=GOOD),
    *_stages("nobody serves", running(lun(), active=status()), StoragePair=BROKEN, LUN=WAITS),
    *_stages("taken over just now", running(active=SERVES, standby=lone(status())), StoragePair=BROKEN),
    *_stages("both primary", _both_primary(), StoragePair=BAD),
    *_stages("refused", _refused_pair(), StoragePair=BAD),
    *_stages("its pair is refused", _refused_pair(lun()), LUN=BAD),
    *_stages("without its pair", snapshot(lun(), acl(), of=None), LUN=WAITS, InitiatorACL=WAITS),
    *_stages(
        "no such target", running(lun(target="gold"), acl(target="gold"), active=SERVES), LUN=BAD, InitiatorACL=BAD
    ),
    *_stages(
        "the host failed",
        running(lun(), active=status("Active", luns=(served(state="Failed"),))),
        StoragePair=GOOD,
        LUN=BAD,
    ),
    *_stages(
        "being deleted", running(lun(deleted=True), acl(deleted=True), active=SERVES), LUN=LEAVES, InitiatorACL=LEAVES
    ),
    *_stages("being deleted", _deleting_pair(), StoragePair=LEAVES),
    *_storage_nodes(),
    *_switchovers(),
    Stage("on record", _document("Failover", failover().metadata, None), CURRENT, HEALTHY),
]
