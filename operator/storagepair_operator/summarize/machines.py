"""A pair's two machines, for people: ready, role, disk, and what is wrong.

Of a machine whose agent is silent the last report is all there is: role and disk stay as told, and the silence is said
beside it. Where the other machine tells that it is gone, that says more, and the silence is no news.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from storagepair_crds.views import Condition, NodeStatus, PairNodeStatus, PairStatus

from storagepair_operator import moments, reasons
from storagepair_operator.roles import Roles, leftover, unseen
from storagepair_operator.snapshot import Observed
from storagepair_operator.summarize.conditions import FALSE, TRUE, UNKNOWN, State, find

_BY_SEVERITY = (
    *(reasons.NODE_NOT_READY, reasons.NODE_NOT_SEEN, reasons.WAITING_FOR_AGENT),
    *(reasons.AGENT_SILENT, reasons.APPLYING),
)


def silent_agents(hosts: Mapping[str, Observed | None], old: PairStatus) -> dict[str, str]:
    """Since when which machines' agents are silent. Where that isn't known (after a start) it is as it was told."""
    told = {node.name: node.agent_silent_since for node in old.nodes}
    since = {
        name: told.get(name, "") if host.silent_since is None else host.silent_since
        for name, host in hosts.items()
        if host is not None
    }
    return {name: moments.seconds(moments.parse(moment)) for name, moment in since.items() if moment}


def nodes_ready(
    hosts: Mapping[str, Observed | None], silent: Mapping[str, str], old: PairStatus, generation: int
) -> State:
    """The condition NodesReady: its reason is the worst machine's, its message tells of all, the worst first."""
    settled = _settled(old, generation)
    problems: dict[tuple[reasons.Reason, str], list[str]] = {}
    for name in hosts:
        for problem in _problems(name, hosts, silent.get(name, ""), settled):
            problems.setdefault(problem, []).append(name)
    if not problems:
        return State("NodesReady", TRUE, reasons.NODES_READY, f"{' and '.join(hosts)} are ready")
    ordered = sorted(problems, key=lambda problem: _BY_SEVERITY.index(problem[0]))
    message = "; ".join(f"{' and '.join(problems[problem])}: {problem[1]}" for problem in ordered)
    if ordered[0][0] == reasons.AGENT_SILENT:
        return State("NodesReady", UNKNOWN, reasons.AGENT_SILENT, message)
    return State("NodesReady", FALSE, ordered[0][0], message)


def at_a_glance(
    hosts: Mapping[str, Observed | None], silent: Mapping[str, str], roles: Roles
) -> tuple[PairNodeStatus, ...]:
    """Each machine in three words."""
    return tuple(_glance(name, hosts, silent.get(name, ""), roles) for name in hosts)


def unheard(node: PairNodeStatus) -> bool:
    """Whether nothing but an old report tells of a machine: the agent is silent, and the other machine sees it."""
    return node.ready == UNKNOWN and node.agent_silent_since != ""


def silence(name: str, since: str) -> str:
    """What is said of a silent agent, with the remedy."""
    return (
        f"its node agent is silent since {since}, so what is told of {name} is as old; the service goes on without the "
        f"agent. Is its pod there? kubectl -n storagepair-system get pods -o wide --field-selector spec.nodeName={name}"
    )


def false_conditions(status: NodeStatus) -> list[Condition]:
    """What a host complains about: the particular conditions, or the summary when it says what none of them does.

    A summary is False already while a part of the machine is on its way (Unknown): that is no complaint.
    """
    false = [condition for condition in status.conditions if condition.status == FALSE]
    particular = [condition for condition in false if condition.type != "Ready"]
    on_the_way = {condition.reason for condition in status.conditions if condition.status == UNKNOWN}
    return particular or [condition for condition in false if condition.reason not in on_the_way]


def _settled(old: PairStatus, generation: int) -> bool:
    """Whether the machines were ready for this very generation before: then a lag of the agents is routine."""
    condition = find(old.conditions, "NodesReady")
    return condition is not None and condition.status == TRUE and condition.observed_generation == generation


def _problems(
    name: str, hosts: Mapping[str, Observed | None], silent_since: str, settled: bool
) -> list[tuple[reasons.Reason, str]]:
    """What is wrong with a machine: reason and message."""
    host, peer = hosts[name], _peer(name, hosts)
    if host is None or host.node.status.observed_generation < 0:
        return [(reasons.WAITING_FOR_AGENT, "the node agent has not reported yet; does its pod run there?")]
    status = host.node.status
    if peer is not None and unseen(host, peer):
        seer = peer.node.metadata.name
        return [(reasons.NODE_NOT_SEEN, f"not seen by Heartbeat on {seer}; is the machine up, and are its links?")]
    complaints = [(reasons.NODE_NOT_READY, f"{c.type}: {c.message or c.reason}") for c in false_conditions(status)]
    if silent_since:
        return [*complaints, (reasons.AGENT_SILENT, silence(name, silent_since))]
    if complaints:
        return complaints
    if not settled and status.observed_generation < host.node.metadata.generation:
        return [(reasons.APPLYING, "the node agent is carrying out the newest document")]
    ready = find(status.conditions, "Ready")
    if ready is None or ready.status != TRUE:
        return [(reasons.APPLYING, ready.message if ready else "the node agent is still looking around")]
    return []


def _glance(name: str, hosts: Mapping[str, Observed | None], silent_since: str, roles: Roles) -> PairNodeStatus:
    host, peer = hosts[name], _peer(name, hosts)
    if host is None or host.node.status.observed_generation < 0:
        return PairNodeStatus(name=name)
    status = host.node.status
    if peer is not None and (leftover(host, peer) or unseen(host, peer)):
        disk = peer.node.status.replication.peer_disk_state
        return PairNodeStatus(name=name, ready=FALSE, disk_state=disk, agent_silent_since=silent_since)
    ready = find(status.conditions, "Ready")
    return PairNodeStatus(
        name=name,
        ready=ready.status if ready and not silent_since else UNKNOWN,
        role=_role(host, roles),
        disk_state=status.replication.disk_state,
        agent_silent_since=silent_since,
    )


def _role(host: Observed, roles: Roles) -> str:
    if roles.both:
        return "Unknown"
    if roles.active is host:
        return "Active"
    return "Standby" if _stands_by(host.node.status, roles.active) else "Unknown"


def _stands_by(status: NodeStatus, active: Observed | None) -> bool:
    """Whether a machine that does not serve can take over.

    One that still says Primary has not reported since it released the service, or since it came back from a power cut:
    then the machine that serves knows better.
    """
    if status.replication.role != "Primary" or active is None:
        return status.replication.role == "Secondary" and status.heartbeat.running
    seen = active.node.status
    return seen.replication.peer_role == "Secondary" and seen.heartbeat.peer == "active"


def _peer(name: str, hosts: Mapping[str, Observed | None]) -> Observed | None:
    others: Iterable[Observed | None] = (host for other, host in hosts.items() if other != name)
    return next(iter(others), None)
