"""The status of a StoragePair."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from storagepair_crds.views import PairStatus, ReplicationStatus, StoragePair

from storagepair_operator import reasons
from storagepair_operator.plan.model import Plan, Verdict
from storagepair_operator.roles import Roles, connected, leftover
from storagepair_operator.snapshot import Observed, Snapshot
from storagepair_operator.summarize import conditions, machines
from storagepair_operator.summarize.conditions import FALSE, TRUE, UNKNOWN, State

Hosts = Mapping[str, Observed | None]


def pair_status(
    snapshot: Snapshot, pair: StoragePair, plan: Plan, verdict: Verdict, hosts: Hosts, roles: Roles, now: datetime
) -> PairStatus:
    """What `kubectl get` and `describe` show of a pair."""
    generation = pair.metadata.generation
    silent = machines.silent_agents(hosts, pair.status)
    ready_nodes = machines.nodes_ready(hosts, silent, pair.status, generation)
    phrase, replicated = _replicated(hosts, roles)
    serving = _serving(hosts, roles, ready_nodes, silent)
    ready = _ready(verdict, serving, ready_nodes, replicated, hosts, roles)
    if plan.ending and pair.metadata.deletion_timestamp:
        ready = State("Ready", FALSE, reasons.TEARING_DOWN, plan.ending)
    states = (
        ready,
        _accepted(verdict, plan),
        serving,
        replicated,
        ready_nodes,
        *conditions.stalled(ready, verdict),
    )
    glance = machines.at_a_glance(hosts, silent, roles)
    return PairStatus(
        observed_generation=generation,
        conditions=conditions.turn(pair.status.conditions, states, generation, now),
        active=next((node.name for node in glance if node.role == "Active"), ""),
        standby=next((node.name for node in glance if node.role == "Standby"), ""),
        replication=phrase,
        luns=len(snapshot.luns),
        failovers=len(snapshot.failovers),
        nodes=glance,
    )


def _accepted(verdict: Verdict, plan: Plan) -> State:
    state = conditions.accepted(verdict)
    if not plan.kept:
        return state
    return state._replace(message=f"{state.message}; kept though its object is gone: {', '.join(plan.kept)}")


def _serving(hosts: Hosts, roles: Roles, ready_nodes: State, silent: Mapping[str, str]) -> State:
    if roles.both:
        message = (
            f"{' and '.join(hosts)} both have the role Primary: their data diverges with every write. Stop the "
            "service on one of them now, then resolve the split brain"
        )
        return State("Serving", FALSE, reasons.DUAL_PRIMARY, message)
    if roles.active is not None:
        name = roles.active.node.metadata.name
        heard = f", as of {silent[name]}" if name in silent else ""
        return State("Serving", TRUE, reasons.SERVING, f"{name} serves{heard}")
    if roles.unconfirmed is not None:
        name = roles.unconfirmed.node.metadata.name
        message = f"{name} served when last heard of; the other machine does not see it and has not taken over yet"
        return State("Serving", UNKNOWN, reasons.UNCONFIRMED, message)
    if any(host is None or host.node.spec.service == "Prepare" for host in hosts.values()):
        why = "" if ready_nodes.status == TRUE else f": {ready_nodes.message}"
        return State("Serving", FALSE, reasons.PREPARING, f"the hosts are being prepared{why}")
    why = "" if ready_nodes.status == TRUE else f": {ready_nodes.message}"
    return State("Serving", FALSE, reasons.NOT_SERVING, f"no machine serves{why}")


def _replicated(hosts: Hosts, roles: Roles) -> tuple[str, State]:
    """The mirror in a phrase and as a condition, by the word of the machine that knows best."""
    seen = _witness(hosts, roles)
    if seen is None:
        return "", State("Replicated", UNKNOWN, reasons.NOT_REPORTED, "no machine has told of its mirror yet")
    phrase, reason = _phrase(seen.node.status.replication)
    status = TRUE if reason == reasons.REPLICATED else FALSE
    return phrase, State("Replicated", status, reason, _sentence(seen, phrase, reason))


def _witness(hosts: Hosts, roles: Roles) -> Observed | None:
    if roles.active is not None:
        return roles.active
    known = [host for host in hosts.values() if host is not None and host.node.status.observed_generation >= 0]
    if len(known) == 2 and leftover(known[0], known[1]):
        known.reverse()
    told = [host for host in known if host.node.status.replication.connection != "Unknown"]
    return told[0] if told else None


def _phrase(mirror: ReplicationStatus) -> tuple[str, reasons.Reason]:
    states = (mirror.disk_state, mirror.peer_disk_state)
    if mirror.connection == "StandAlone":
        return "StandAlone", reasons.STAND_ALONE
    if not connected(mirror):
        return "Disconnected", reasons.DISCONNECTED
    if states == ("UpToDate", "UpToDate"):
        return "UpToDate", reasons.REPLICATED
    if mirror.connection in ("SyncSource", "SyncTarget", "PausedSyncS", "PausedSyncT"):
        return f"Resyncing {mirror.synced_percent}%", reasons.RESYNCING
    return "/".join(states), reasons.NOT_UP_TO_DATE


def _sentence(seen: Observed, phrase: str, reason: reasons.Reason) -> str:
    name, mirror = seen.node.metadata.name, seen.node.status.replication
    if reason == reasons.REPLICATED:
        return "both copies are up to date"
    if reason == reasons.RESYNCING:
        return f"one copy is being brought up to date, {mirror.synced_percent} % are done"
    if reason == reasons.STAND_ALONE:
        return f"the mirror on {name} stands alone; on a split brain the documentation says how to choose the good copy"
    if reason == reasons.DISCONNECTED:
        return f"the mirror on {name} does not reach its other half ({mirror.connection})"
    return f"the mirror on {name} is {phrase} (its own copy/the other one)"


def _ready(
    verdict: Verdict, serving: State, ready_nodes: State, replicated: State, hosts: Hosts, roles: Roles
) -> State:
    if not verdict.accepted:
        still = f"; {serving.message} by the document before it" if serving.status == TRUE else ""
        return State("Ready", FALSE, verdict.reason, verdict.message + still)
    if serving.status != TRUE or roles.active is None:
        return State("Ready", FALSE, serving.reason, serving.message)
    active = roles.active.node.metadata.name
    wrong = [state.message for state in (ready_nodes, replicated) if state.status != TRUE]
    if wrong:
        message = f"{active} serves, but {'; '.join(wrong)}"
        if _only(reasons.AGENT_SILENT, ready_nodes, replicated):
            return State("Ready", UNKNOWN, reasons.AGENT_SILENT, message)
        reason = reasons.APPLYING if _only(reasons.APPLYING, ready_nodes, replicated) else reasons.DEGRADED
        return State("Ready", FALSE, reason, message)
    other = next((name for name in hosts if name != active), "nobody")
    return State("Ready", TRUE, reasons.READY, f"{active} serves, {other} can take over, both copies are up to date")


def _only(reason: reasons.Reason, ready_nodes: State, replicated: State) -> bool:
    return ready_nodes.reason == reason and replicated.status == TRUE
