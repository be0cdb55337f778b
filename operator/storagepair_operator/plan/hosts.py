"""A pair's document as each of its two hosts gets it."""

from __future__ import annotations

from collections.abc import Mapping

from storagepair_crds.quantity import QuantityError, parse_quantity
from storagepair_crds.views import (
    AuthkeysReference,
    HeartbeatLink,
    NodeBond,
    NodeHeartbeat,
    NodePairReference,
    NodeReplication,
    NodeSpec,
    NodeVirtualIP,
    PairNode,
    PairSpec,
    ReplicationHost,
    ReplicationMetadata,
    StoragePair,
)

from storagepair_operator.identities import name_of
from storagepair_operator.kinds import PairKey
from storagepair_operator.plan.claims import bare
from storagepair_operator.snapshot import Observed


class InvalidSpec(Exception):
    """A document that the schema should have refused; the text names the field."""


def base(pair: StoragePair, node: PairNode, key: PairKey, secrets_namespace: str) -> NodeSpec:
    """A host's document without targets, LUNs and what the hosts' state adds. Raises `InvalidSpec`."""
    spec = pair.spec
    peer = next(other for other in spec.nodes if other.name != node.name)
    first, second = (_host(n, spec.replication.bond) for n in spec.nodes)
    return NodeSpec(
        pair_ref=NodePairReference(namespace=key.namespace, name=key.name, uid=pair.metadata.uid),
        bonds=_bonds(spec, node),
        replication=NodeReplication(
            hosts=(first, second),
            seed=spec.nodes[0].name,
            port=spec.replication.port,
            resync_rate_bytes=_rate(spec.replication.resync_rate),
        ),
        filesystem=spec.filesystem,
        heartbeat=NodeHeartbeat(
            preferred=spec.nodes[0].name,
            links=tuple(_link(link, peer) for link in spec.heartbeat.links),
            # its own Secret: an agent may read no other one
            authkeys_secret_ref=AuthkeysReference(namespace=secrets_namespace, name=name_of(node.name)),
            ping_addresses=spec.heartbeat.ping_addresses,
            keepalive_seconds=spec.heartbeat.keepalive_seconds,
            deadtime_seconds=spec.heartbeat.deadtime_seconds,
            auto_failback=spec.heartbeat.auto_failback,
        ),
        virtual_ip=NodeVirtualIP(device=spec.virtual_ip.bond, address=spec.virtual_ip.address),
    )


def service(name: str, names: tuple[str, str], nodes: Mapping[str, Observed]) -> str:
    """Run once the hosts are prepared: a file system is there and both disks carry the mirror. Never goes back."""
    seen = nodes.get(name)
    if seen is not None and seen.node.spec.service == "Run":
        return "Run"
    statuses = [nodes[n].node.status for n in names if n in nodes]
    formatted = any(status.filesystem.state == "Formatted" for status in statuses)
    mirrored = [status.replication.metadata == ReplicationMetadata.INITIALIZED for status in statuses]
    return "Run" if formatted and mirrored == [True, True] else "Prepare"


def _bonds(spec: PairSpec, node: PairNode) -> tuple[NodeBond, ...]:
    return tuple(
        NodeBond(
            name=bond.name,
            members=bond.members,
            addresses=tuple(a.address for a in node.addresses if a.bond == bond.name),
            miimon_milliseconds=bond.miimon_milliseconds,
        )
        for bond in spec.bonds
    )


def _address(node: PairNode, bond: str) -> str:
    for address in node.addresses:
        if address.bond == bond:
            return bare(address.address)
    raise InvalidSpec(f"spec.nodes: {node.name} has no address on {bond}")


def _host(node: PairNode, bond: str) -> ReplicationHost:
    return ReplicationHost(name=node.name, disk=node.disk, address=_address(node, bond))


def _link(bond: str, peer: PairNode) -> HeartbeatLink:
    return HeartbeatLink(device=bond, peer_address=_address(peer, bond))


def _rate(text: str) -> int:
    try:
        return parse_quantity(text)
    except QuantityError as error:
        raise InvalidSpec(f"spec.replication.resyncRate: {error}") from error
