"""Who serves, by what both hosts' agents say. Pure.

A host that dies leaves its last report behind, and that report says that it serves. So a report counts only as far as
the other host's later one does not contradict it.
"""

from __future__ import annotations

from dataclasses import dataclass

from storagepair_crds.views import NodeStatus, ReplicationStatus

from storagepair_operator.snapshot import Observed

_LOOSE = frozenset(
    (
        *("Unknown", "StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure"),
        *("ProtocolError", "TearDown", "WFConnection", "WFReportParams"),
    )
)
"""DRBD's words for a connection that carries nothing."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who serves. At most one of the three is set; none when nobody serves."""

    active: Observed | None = None
    unconfirmed: Observed | None = None  # served when last heard of; since then the other host lost sight of it
    both: bool = False  # both are primary, and neither report can be a leftover


def connected(replication: ReplicationStatus) -> bool:
    """Whether the mirror's halves are in touch, as one of them tells it."""
    return replication.connection not in _LOOSE


def unseen(host: Observed, peer: Observed) -> bool:
    """Whether the peer's Heartbeat has declared the host dead."""
    return peer.node.status.heartbeat.peer == "dead" and not leftover(peer, host)


def leftover(host: Observed, peer: Observed) -> bool:
    """Whether a host's report is older than the loss of that host, as the peer's later report tells."""
    mine, other = host.node.status, peer.node.status
    lost = other.heartbeat.peer == "dead" and not connected(other.replication)
    in_touch = connected(mine.replication) or mine.heartbeat.peer in ("active", "up")
    return lost and in_touch and _later(peer, host)


def roles(hosts: tuple[Observed, ...]) -> Roles:
    """Who serves, of a pair's hosts that are known."""
    serving = [host for host in hosts if _claims(host.node.status)]
    if len(serving) == 2:
        return _of_two(serving[0], serving[1])
    if not serving or not serving[0].node.status.service.active:
        return Roles()
    peers = [host for host in hosts if host is not serving[0]]
    if peers and leftover(serving[0], peers[0]):
        return Roles(unconfirmed=serving[0])
    return Roles(active=serving[0])


def _of_two(first: Observed, second: Observed) -> Roles:
    """Both say that they are primary. Connected halves know each other's role, so that one report is out of date."""
    statuses = (first.node.status, second.node.status)
    in_touch = [connected(status.replication) for status in statuses]
    known = [status.replication.peer_role == "Primary" for status in statuses if connected(status.replication)]
    if any(known) or not any(in_touch):
        return Roles(both=True)
    later = second if _later(second, first) else first
    return Roles(active=later) if later.node.status.service.active else Roles()


def _claims(status: NodeStatus) -> bool:
    return status.service.active or status.replication.role == "Primary"


def _later(one: Observed, other: Observed) -> bool:
    """By the API server's clock, and within its second by the order of writes."""
    return _moment(one) >= _moment(other)


def _moment(seen: Observed) -> tuple[str, int]:
    return seen.reported, int(seen.node.metadata.resource_version or 0)
