"""What must hold before a service is moved on request. The first thing that does not is the refusal.

All of it is read from the hosts' reports, which may be a moment old: the host's own script looks again, live, before it
begins. Here the user hears at once and in full what is in the way, and a hopeless request never reaches a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from storagepair_crds.views import StoragePair, Switchover

from storagepair_operator import moments, reasons
from storagepair_operator.plan.model import Verdict
from storagepair_operator.roles import Roles, connected, roles
from storagepair_operator.snapshot import Observed, Snapshot, own_nodes

PASSING = (reasons.NOT_SERVING, reasons.WAITING_FOR_AGENT, reasons.APPLYING)
"""Objections that may pass within seconds by themselves: the reports after the move before, or after a change."""


class Objection(NamedTuple):
    """What speaks against a move."""

    reason: reasons.Reason
    message: str


@dataclass(frozen=True, slots=True)
class _Scene:
    """A request and everything that it is judged by."""

    request: Switchover
    pair: StoragePair
    hosts: Mapping[str, Observed | None]  # both of the pair's, in its order
    who: Roles
    running: str  # the name of the pair's Switchover that is Running, "" if none is
    recorded: str  # the Failover that names this request, "" if none does
    now: datetime

    @property
    def active(self) -> str:
        return self.who.active.node.metadata.name if self.who.active is not None else ""


def objection(
    request: Switchover, snapshot: Snapshot, verdict: Verdict | None, *, running: str, recorded: str, now: datetime
) -> Objection | None:
    """The first precondition that does not hold; None when the move may begin.

    `running` is the name of the pair's Switchover that is Running, `recorded` that of a Failover which names this
    request; "" for none.
    """
    pair = snapshot.pair
    if pair is None or verdict is None:
        return Objection(
            reasons.PAIR_NOT_FOUND, f"spec.pairRef: there is no StoragePair {snapshot.key}; name one that is there"
        )
    if pair.metadata.deletion_timestamp:
        return Objection(reasons.PAIR_NOT_FOUND, f"spec.pairRef: StoragePair {snapshot.key} is being deleted")
    if not verdict.accepted:
        text = f"StoragePair {pair.metadata.name} is not accepted ({verdict.reason}): {verdict.message}"
        return Objection(reasons.PAIR_NOT_ACCEPTED, text)
    hosts: dict[str, Observed | None] = {node.name: None for node in pair.spec.nodes}
    known = own_nodes(snapshot)
    hosts.update({host.node.metadata.name: host for host in known})
    scene = _Scene(request, pair, hosts, roles(known), running, recorded, now)
    return next((found for check in _CHECKS if (found := check(scene)) is not None), None)


def _member(scene: _Scene) -> Objection | None:
    to = scene.request.spec.to
    if to in scene.hosts:
        return None
    names = " and ".join(scene.hosts)
    text = f"spec.to: {to} is no node of StoragePair {scene.pair.metadata.name}; it has {names}"
    return Objection(reasons.NODE_NOT_IN_PAIR, text)


def _in_time(scene: _Scene) -> Objection | None:
    limit = scene.request.spec.not_after
    if not limit or scene.now <= moments.parse(limit):
        return None
    return Objection(
        reasons.TOO_LATE, f"spec.notAfter: it is {moments.seconds(scene.now)}, later than {limit}; ask again without"
    )


def _first_time(scene: _Scene) -> Objection | None:
    if not scene.recorded:
        return None
    text = (
        f"metadata.name: Failover {scene.recorded} records that Switchover {scene.request.metadata.name} was carried "
        "out before; another move needs another name"
    )
    return Objection(reasons.ALREADY_CARRIED_OUT, text)


def _alone(scene: _Scene) -> Objection | None:
    if not scene.running:
        return None
    text = f"Switchover {scene.running} of StoragePair {scene.pair.metadata.name} is under way; wait until it has ended"
    return Objection(reasons.MOVE_IN_PROGRESS, text)


def _served(scene: _Scene) -> Objection | None:
    pair = scene.pair.metadata.name
    if scene.who.both:
        text = f"both nodes of StoragePair {pair} have the role Primary; resolve the split brain first"
        return Objection(reasons.DUAL_PRIMARY, text)
    if scene.who.active is not None:
        return None
    text = f"no node of StoragePair {pair} serves now, so there is nothing to hand over; see its condition Serving"
    return Objection(reasons.NOT_SERVING, text)


def _from(scene: _Scene) -> Objection | None:
    source = scene.request.spec.from_
    if not source or source == scene.active:
        return None
    return Objection(reasons.NOT_ACTIVE, f"spec.from: {source} does not serve, {scene.active} does; name that one")


def _elsewhere(scene: _Scene) -> Objection | None:
    to = scene.request.spec.to
    return (
        Objection(reasons.ALREADY_ACTIVE, f"spec.to: {to} serves already, nothing is to be done")
        if to == scene.active
        else None
    )


def _reported(scene: _Scene) -> Objection | None:
    for name, host in scene.hosts.items():
        if host is None or host.node.status.observed_generation < 0:
            text = f"the node agent on {name} has not reported yet (StorageNode {name}); does its pod run there?"
            return Objection(reasons.WAITING_FOR_AGENT, text)
        if host.node.status.observed_generation < host.node.metadata.generation:
            text = (
                f"the node agent on {name} has not carried out the newest document of StorageNode {name}; wait until "
                f"StoragePair {scene.pair.metadata.name} has the condition NodesReady, or look at the agent's log"
            )
            return Objection(reasons.APPLYING, text)
    return None


def _heard(scene: _Scene) -> Objection | None:
    for host, peer in _both(scene):
        name, other, heart = host.node.metadata.name, peer.node.metadata.name, host.node.status.heartbeat
        if not heart.running:
            text = f"Heartbeat does not run on {name} (StorageNode {name}, status.heartbeat.running); start it there"
            return Objection(reasons.PEER_NOT_SEEN, text)
        if heart.peer != "active":
            text = (
                f"Heartbeat on {name} says that {other} is {heart.peer} (StorageNode {name}, status.heartbeat.peer); "
                f"is {other} up, does Heartbeat run there, are its links up?"
            )
            return Objection(reasons.PEER_NOT_SEEN, text)
    return None


def _connected(scene: _Scene) -> Objection | None:
    for host, peer in _both(scene):
        name, other, mirror = host.node.metadata.name, peer.node.metadata.name, host.node.status.replication
        if not connected(mirror):
            text = (
                f"the mirror on {name} is not connected to {other} (StorageNode {name}, status.replication.connection "
                f"is {mirror.connection}); look at the replication network, and at `drbdadm status` on both"
            )
            return Objection(reasons.NOT_CONNECTED, text)
    return None


def _current(scene: _Scene) -> Objection | None:
    for host, _ in _both(scene):
        name, mirror = host.node.metadata.name, host.node.status.replication
        for field, state in (("diskState", mirror.disk_state), ("peerDiskState", mirror.peer_disk_state)):
            if state != "UpToDate":
                text = (
                    f"a copy of the data is not up to date (StorageNode {name}, status.replication.{field} is {state});"
                    f" wait for StoragePair {scene.pair.metadata.name} to be Replicated"
                )
                return Objection(reasons.NOT_UP_TO_DATE, text)
    return None


def _linked(scene: _Scene) -> Objection | None:
    for host, _ in _both(scene):
        for problem in _broken_links(host):
            return Objection(reasons.LINK_DOWN, problem)
    return None


def _broken_links(host: Observed) -> Iterator[str]:
    name, status = host.node.metadata.name, host.node.status
    bonds = {bond.name: bond for bond in status.bonds}
    for bond in host.node.spec.bonds:
        links = {member.name: member.link for member in bonds[bond.name].members} if bond.name in bonds else {}
        for member in bond.members:
            state = links.get(member, "not there")
            if state != "Up":
                yield (
                    f"{member} of {bond.name} on {name} is {state} (StorageNode {name}, status.bonds); check its cable "
                    "and switch: the service must not move onto fewer links than it may need"
                )
    for link in status.heartbeat.links:
        if link.state != "up":
            yield (
                f"Heartbeat on {name} hears nothing over {link.name} (StorageNode {name}, status.heartbeat.links: "
                f"{link.state}); check its cables"
            )


def _both(scene: _Scene) -> Iterator[tuple[Observed, Observed]]:
    """Each host with its peer."""
    first, second = scene.hosts.values()
    if first is not None and second is not None:
        yield first, second
        yield second, first


_CHECKS: tuple[Callable[[_Scene], Objection | None], ...] = (
    *(_member, _in_time, _first_time, _alone, _served, _from, _elsewhere),
    *(_reported, _heard, _connected, _current, _linked),
)
