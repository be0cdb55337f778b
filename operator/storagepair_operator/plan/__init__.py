"""plan(): what both hosts of a pair shall be. Pure: a snapshot in, documents and verdicts out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from storagepair_crds.views import LUN, AuthkeysReference, InitiatorACL, NodeSpec

from storagepair_operator import reasons
from storagepair_operator.kinds import PairKey
from storagepair_operator.plan import claims, exports, hosts, switchovers, teardown, verdicts
from storagepair_operator.plan.model import Move, Plan, Verdict
from storagepair_operator.snapshot import FINALIZER, Held, Intent, Observed, Snapshot, own_nodes

__all__ = ["Move", "Plan", "Verdict", "authkeys_name", "plan"]


def plan(snapshot: Snapshot, intents: Mapping[str, Intent], secrets_namespace: str, now: datetime) -> Plan:
    """The whole desired state of both hosts of a pair.

    `intents` says, by UID, what the deletion of a LUN, an InitiatorACL or the pair means; one that is not in it is left
    alone.
    """
    there = exports.existing(snapshot)
    pair, nodes = _pair(snapshot, secrets_namespace)
    end = teardown.ending(snapshot.pair, snapshot, intents) if snapshot.pair is not None else None
    authkeys = _authkeys(snapshot, secrets_namespace) if nodes and _keyless(snapshot) else None
    luns = verdicts.judge_luns(snapshot, pair, there.luns)
    acls = {acl.metadata.name: verdicts.judge_acl(acl, snapshot, pair) for acl in snapshot.acls}
    moves = switchovers.judge(snapshot, pair, now)
    asked = switchovers.asked(snapshot, moves)
    if nodes:
        lun_entries = exports.lun_entries(snapshot, there, luns, intents)
        targets = exports.targets(snapshot, there, acls, intents)
        nodes = {
            name: msgspec.structs.replace(spec, luns=lun_entries, targets=targets, switchover=asked.get(name))
            for name, spec in nodes.items()
        }
    return Plan(
        pair=pair,
        nodes=nodes if end is None else {**nodes, **_with_delivered(end.nodes, snapshot)},
        luns=luns,
        acls=acls,
        hold=(*_pair_to_hold(snapshot, pair), *(t for t in snapshot.things if _to_hold(t, _verdict(t, luns, acls)))),
        release=(
            *((snapshot.pair,) if snapshot.pair is not None and end is not None and end.released else ()),
            *(t for t in snapshot.things if exports.released(t, there, _verdict(t, luns, acls), intents)),
        ),
        authkeys=authkeys,
        moves=moves,
        wake=switchovers.wake(snapshot, moves),
        kept=_kept(snapshot, there),
        torn_down=end is not None and end.torn_down,
        ending=end.message if end is not None else "",
    )


def _pair(snapshot: Snapshot, secrets_namespace: str) -> tuple[Verdict | None, dict[str, NodeSpec]]:
    """The verdict on the pair, and its hosts' documents without exports; none unless it is accepted."""
    pair = snapshot.pair
    if pair is None:
        return None, {}
    verdict = claims.judge(snapshot, pair)
    # a pair that is being deleted leaves its hosts as they are: they go on serving
    if not verdict.accepted or pair.metadata.deletion_timestamp:
        return verdict, {}
    names = (pair.spec.nodes[0].name, pair.spec.nodes[1].name)
    try:
        specs = {node.name: hosts.base(pair, node, snapshot.key, secrets_namespace) for node in pair.spec.nodes}
    except hosts.InvalidSpec as error:
        return Verdict(False, reasons.INVALID_SPEC, str(error)), {}
    return verdict, {
        name: msgspec.structs.replace(spec, service=hosts.service(name, names, snapshot.nodes))
        for name, spec in _with_delivered(specs, snapshot).items()
    }


def _with_delivered(specs: Mapping[str, NodeSpec], snapshot: Snapshot) -> dict[str, NodeSpec]:
    return {
        name: msgspec.structs.replace(spec, delivered_incidents=_delivered(snapshot.nodes.get(name), snapshot))
        for name, spec in specs.items()
    }


def _pair_to_hold(snapshot: Snapshot, verdict: Verdict | None) -> tuple[Held, ...]:
    pair = snapshot.pair
    held = pair is not None and verdict is not None and verdict.accepted and teardown.to_hold(pair)
    return (pair,) if pair is not None and held else ()


def _verdict(thing: LUN | InitiatorACL, luns: Mapping[str, Verdict], acls: Mapping[str, Verdict]) -> Verdict:
    return (luns if isinstance(thing, LUN) else acls)[thing.metadata.name]


def _to_hold(thing: LUN | InitiatorACL, verdict: Verdict) -> bool:
    metadata = thing.metadata
    return verdict.accepted and not metadata.deletion_timestamp and FINALIZER not in metadata.finalizers


def authkeys_name(pair: PairKey) -> str:
    """The Secret in which a pair's Heartbeat key is made; the hosts get copies (registrar.py)."""
    return f"{pair.namespace}.{pair.name}.heartbeat"


def _authkeys(snapshot: Snapshot, namespace: str) -> AuthkeysReference:
    return AuthkeysReference(namespace=namespace, name=authkeys_name(snapshot.key))


def _keyless(snapshot: Snapshot) -> bool:
    """Whether both hosts have said that they have no Heartbeat key. Silence is not absence."""
    states = [seen.node.status.heartbeat.authkeys for seen in own_nodes(snapshot)]
    return states == ["Absent", "Absent"]


def _delivered(seen: Observed | None, snapshot: Snapshot) -> tuple[str, ...]:
    """The incidents in a host's status of which a Failover object is on record."""
    if seen is None:
        return ()
    recorded = {failover.spec.incident for failover in snapshot.failovers}
    told = dict.fromkeys(incident.id for incident in seen.node.status.incidents)
    return tuple(incident for incident in told if incident in recorded)


def _kept(snapshot: Snapshot, now: exports.Existing) -> tuple[str, ...]:
    luns = {lun.metadata.name for lun in snapshot.luns}
    acls = {acl.metadata.name for acl in snapshot.acls}
    return tuple(
        sorted(f"LUN {name}" for name, lun in now.luns.items() if name not in luns and lun.state == "Present")
        + sorted(
            f"InitiatorACL {e.acl}" for s, e in now.initiators.items() if s[1] not in acls and e.state == "Present"
        )
    )
