"""What the agent tells the cluster: a StorageNode's status from one look at the host. Pure.

Nothing here may change by itself: a status is written only when it differs, and at rest it must not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from storagepair_crds import views

from storagepair_node_agent import convergence
from storagepair_node_agent.actions import Verdict
from storagepair_node_agent.snapshot import Desired, DrbdFacts, HostSnapshot, LunFacts, NetworkFacts, ServiceFacts
from storagepair_node_agent.subsystems import switchover

READY = "Ready"
_USED_STEP = 5


def status(
    desired: Desired,
    snapshot: HostSnapshot,
    verdicts: Mapping[str, Verdict],
    incidents: Sequence[views.Incident],
    previous: views.NodeStatus,
    *,
    now: str,
    agent_version: str,
) -> views.NodeStatus:
    """The whole status. `previous` is the one that stands, for the times of the conditions; `now` is RFC 3339."""
    conditions = [*_summary(desired, verdicts), *verdicts.items()]
    heartbeat = snapshot.heartbeat
    return views.NodeStatus(
        observed_generation=desired.generation,
        agent_version=agent_version,
        conditions=tuple(
            condition(name, verdict, desired.generation, previous.conditions, now) for name, verdict in conditions
        ),
        host=_host(snapshot),
        bonds=_bonds(desired, snapshot.network) if snapshot.network else (),
        replication=_replication(snapshot.drbd) if snapshot.drbd else views.ReplicationStatus(),
        filesystem=_filesystem(snapshot),
        heartbeat=views.HeartbeatStatus(
            running=heartbeat.running,
            peer=heartbeat.peer or "Unknown",
            authkeys=heartbeat.authkeys or "Unknown",
            links=tuple(views.HeartbeatLinkStatus(name=name, state=state) for name, state in sorted(heartbeat.links)),
        )
        if heartbeat
        else views.HeartbeatStatus(),
        service=_service(snapshot),
        targets=_targets(snapshot.service) if snapshot.service else (),
        luns=_luns(desired, snapshot.service) if snapshot.service else (),
        incidents=tuple(incidents),
        switchover=switchover.outcome(snapshot.switchover) if snapshot.switchover else previous.switchover,
        unmanaged=tuple(sorted(convergence.unmanaged(desired, snapshot.service))) if snapshot.service else (),
    )


def refused(
    observed: views.NodeStatus, message: str, generation: int, previous: views.NodeStatus, *, now: str
) -> views.NodeStatus:
    """What is observed, but Ready says why the newest document is not carried out."""
    verdict = Verdict(False, "InvalidDocument", f"{message}. Nothing was changed on the host.")
    ready = condition(READY, verdict, generation, previous.conditions, now)
    others = tuple(known for known in observed.conditions if known.type != READY)
    return msgspec.structs.replace(observed, conditions=(ready, *others))


def condition(
    name: str, verdict: Verdict, generation: int, before: Iterable[views.Condition], now: str
) -> views.Condition:
    """A verdict as a condition; its time moves only with its status."""
    word = "True" if verdict.ready else "Unknown" if verdict.waiting else "False"
    known = next((c for c in before if c.type == name), None)
    same = known is not None and known.status == word and known.last_transition_time
    return views.Condition(
        type=name,
        status=word,
        reason=verdict.reason,
        message=verdict.message,
        observed_generation=generation,
        last_transition_time=known.last_transition_time if known is not None and same else now,
    )


def merge_patch(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """The JSON merge patch (RFC 7386) from one document to another: what is gone becomes null, lists go whole."""
    patch: dict[str, object] = {key: None for key in before if key not in after}
    for key, value in after.items():
        known = before.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            if inner := merge_patch(known, value):
                patch[key] = inner
        elif key not in before or value != known:
            patch[key] = value
    return patch


def _summary(desired: Desired, verdicts: Mapping[str, Verdict]) -> list[tuple[str, Verdict]]:
    """Ready: all are. Else the first that needs a person, else the first that waits."""
    lacking = [verdict for verdict in verdicts.values() if not verdict.ready]
    if not lacking:
        return [(READY, Verdict(True, "AsDesired", f"{desired.node} is as its document wants it."))]
    worst = next((verdict for verdict in lacking if not verdict.waiting), lacking[0])
    # not ready is a fact even where nobody has to do anything: the summary is never Unknown
    return [(READY, Verdict(False, worst.reason, worst.message))]


def _host(snapshot: HostSnapshot) -> views.HostStatus:
    facts = snapshot.preflight
    if facts is None:
        return views.HostStatus()
    return views.HostStatus(
        kernel=facts.kernel,
        os=facts.os,
        drbd=facts.versions.get("drbd", ""),
        drbd_utils=facts.versions.get("drbd_utils", ""),
        heartbeat=facts.versions.get("heartbeat", ""),
        tgt=facts.versions.get("tgt", ""),
    )


def _bonds(desired: Desired, network: NetworkFacts) -> tuple[views.BondStatus, ...]:
    found = []
    for bond in desired.spec.bonds:
        existing = network.interface(bond.name)
        if existing is None or existing.kind != "bond":
            continue
        members = []
        for name in bond.members:
            nic = network.interface(name)
            link = "Unknown" if nic is None else "Up" if nic.carrier else "Down"
            members.append(views.BondMemberStatus(name=name, link=link))
        found.append(views.BondStatus(name=bond.name, active_member=existing.active_member, members=tuple(members)))
    return tuple(found)


def _replication(drbd: DrbdFacts) -> views.ReplicationStatus:
    return views.ReplicationStatus(
        metadata=str(drbd.metadata),
        role=drbd.role or "Unknown",
        disk_state=drbd.disk_state or "Unknown",
        peer_role=drbd.peer_role or "Unknown",
        peer_disk_state=drbd.peer_disk_state or "Unknown",
        connection=drbd.connection or "Unknown",
        synced_percent=drbd.synced_percent,
    )


def _filesystem(snapshot: HostSnapshot) -> views.FilesystemStatus:
    facts = snapshot.filesystem
    if facts is None:
        return views.FilesystemStatus()
    percent = round(100 * facts.used_bytes / facts.size_bytes / _USED_STEP) * _USED_STEP if facts.size_bytes else 0
    state = "Unknown"
    if facts.formatted_record:
        state = "Formatted"
    elif facts.signature == "" or (snapshot.drbd is not None and snapshot.drbd.metadata in ("Empty", "JustCreated")):
        state = "Absent"
    return views.FilesystemStatus(
        state=state, mounted=bool(facts.mounted_at), size_bytes=facts.size_bytes, used_percent=percent
    )


def _service(snapshot: HostSnapshot) -> views.ServiceStatus:
    facts = snapshot.service
    if facts is None:
        return views.ServiceStatus()
    return views.ServiceStatus(active=snapshot.active, virtual_ip=facts.virtual_ip, port_open=facts.port_open)


def _targets(service: ServiceFacts) -> tuple[views.TargetStatus, ...]:
    """The targets in tgtd, under the names of the export table; one that it doesn't know under its IQN."""
    names = {target.iqn: target.name for target in service.exported_targets}
    found = []
    for target in service.targets:
        who = sorted({(initiator, address) for _, _, initiator, address in target.sessions})
        sessions = tuple(views.SessionStatus(initiator_name=initiator, address=address) for initiator, address in who)
        found.append(views.TargetStatus(name=names.get(target.iqn, target.iqn), iqn=target.iqn, sessions=sessions))
    return tuple(sorted(found, key=lambda target: target.name))


def _luns(desired: Desired, service: ServiceFacts) -> tuple[views.NodeLUNStatus, ...]:
    """As the export table has them; what can't be exported, and why; and those whose absence the storage proves."""
    if not service.table_readable:
        return ()
    problems = convergence.wanted(desired, service).problems
    exported = {lun.name: lun for lun in service.luns}
    stored = {lun.name for lun in service.stored}
    found = [_lun(lun, service, problems.get(f"lun {lun.name}", "")) for lun in exported.values()]
    for lun in desired.spec.luns:
        problem = problems.get(f"lun {lun.name}", "")
        kept = lun.deletion_policy == "Delete" and lun.name in stored
        if lun.name in exported:
            continue
        if lun.state == "Absent" and not kept and not problem:
            found.append(views.NodeLUNStatus(name=lun.name, state="Absent"))
        elif problem:
            found.append(views.NodeLUNStatus(name=lun.name, state="Failed", message=problem))
    return tuple(sorted(found, key=lambda lun: lun.name))


def _lun(lun: LunFacts, service: ServiceFacts, problem: str) -> views.NodeLUNStatus:
    if lun.file_bytes is None:
        state, problem = "Failed", f"its backing file {lun.path} is missing"
    else:
        iqn = next((target.iqn for target in service.exported_targets if target.name == lun.target), "")
        serving = any(t.iqn == iqn and t.luns.get(lun.number) == lun.path for t in service.targets)
        state = "Serving" if serving else "Ready"
    return views.NodeLUNStatus(
        name=lun.name,
        state=state,
        number=lun.number,
        serial=lun.serial,
        size_bytes=lun.file_bytes,
        message=problem,
    )
