"""The statuses of LUNs and InitiatorACLs."""

from __future__ import annotations

import ipaddress
from datetime import datetime

from storagepair_crds.quantity import parse_quantity
from storagepair_crds.views import (
    LUN,
    InitiatorACL,
    InitiatorACLStatus,
    LUNStatus,
    NodeLUNStatus,
    SessionStatus,
)

from storagepair_operator import reasons
from storagepair_operator.plan.exports import targets_applied
from storagepair_operator.plan.model import Verdict
from storagepair_operator.plan.teardown import ABANDON
from storagepair_operator.roles import Roles
from storagepair_operator.snapshot import Observed
from storagepair_operator.summarize import conditions
from storagepair_operator.summarize.conditions import FALSE, TRUE, State, find


def lun_status(lun: LUN, verdict: Verdict, hosts: list[Observed], roles: Roles, now: datetime) -> LUNStatus:
    """What a LUN is. Its number and serial stay on record when no host speaks of it."""
    told = _told(lun.metadata.name, hosts, roles)
    state = _lun_state(lun, verdict, roles, told.get(_name(roles.active)))
    best = next(iter(told.values()), None)
    old = lun.status
    states = (state, conditions.accepted(verdict), *conditions.stalled(state, verdict))
    return LUNStatus(
        observed_generation=lun.metadata.generation,
        conditions=conditions.turn(old.conditions, states, lun.metadata.generation, now),
        number=best.number if best and best.number is not None else old.number,
        serial=(best.serial if best else "") or old.serial,
        size_bytes=best.size_bytes if best and best.size_bytes is not None else old.size_bytes,
    )


def acl_status(acl: InitiatorACL, verdict: Verdict, roles: Roles, now: datetime) -> InitiatorACLStatus:
    """What an InitiatorACL does."""
    generation = acl.metadata.generation
    state = _acl_state(acl, verdict, roles)
    states = (state, conditions.accepted(verdict), *conditions.stalled(state, verdict))
    return InitiatorACLStatus(
        observed_generation=generation,
        conditions=conditions.turn(acl.status.conditions, states, generation, now),
        sessions=len(_sessions(acl, roles.active)) if roles.active else 0,
    )


def _told(name: str, hosts: list[Observed], roles: Roles) -> dict[str, NodeLUNStatus]:
    """What each host says of a LUN, by host; the serving one first."""
    ordered = sorted(hosts, key=lambda host: host is not roles.active)
    return {
        host.node.metadata.name: status
        for host in ordered
        for status in host.node.status.luns
        if status.name == name and status.state != "Absent"
    }


def _lun_state(lun: LUN, verdict: Verdict, roles: Roles, told: NodeLUNStatus | None) -> State:
    if common := _common(lun, verdict, roles):
        return common
    active = _name(roles.active)
    if told is None:
        return State("Ready", FALSE, reasons.WAITING, f"{active} has not made it yet{_why(roles.active)}")
    if told.state == "Failed":
        return State("Ready", FALSE, reasons.FAILED, f"{active}: {told.message}")
    if told.state != "Serving" or (told.size_bytes or 0) < parse_quantity(lun.spec.size):
        return State("Ready", FALSE, reasons.WAITING, f"{active}: {told.message or 'it is not exported yet'}")
    message = f"{active} serves it as number {told.number} of target {lun.spec.target}"
    return State("Ready", TRUE, reasons.SERVING, message)


def _acl_state(acl: InitiatorACL, verdict: Verdict, roles: Roles) -> State:
    common = _common(acl, verdict, roles)
    if common or roles.active is None:
        return common or State("Ready", FALSE, reasons.NOT_SERVING, "no machine serves")
    active = _name(roles.active)
    entries = [e for t in roles.active.node.spec.targets if t.name == acl.spec.target for e in t.initiators]
    entry = next((entry for entry in entries if entry.acl == acl.metadata.name), None)
    listed = entry is not None and entry.state == "Present" and entry.addresses == acl.spec.addresses
    if listed and (targets_applied(roles.active) or _was_ready(acl)):
        return State("Ready", TRUE, reasons.SERVING, f"{active} admits {', '.join(acl.spec.addresses)}")
    return State("Ready", FALSE, reasons.WAITING, f"{active} has not applied it yet")


def _common(thing: LUN | InitiatorACL, verdict: Verdict, roles: Roles) -> State | None:
    if thing.metadata.deletion_timestamp:
        who = _name(roles.active) or "a serving machine"
        remedy = f"to let go of it at once, whatever is served: annotate it {ABANDON}=true"
        return State("Ready", FALSE, reasons.DELETING, f"waits until {who} has taken it away; {remedy}")
    if not verdict.accepted:
        return State("Ready", FALSE, verdict.reason, verdict.message)
    if roles.active is None:
        return State("Ready", FALSE, reasons.NOT_SERVING, f"no machine of {thing.spec.pair_ref.name} serves")
    return None


def _was_ready(acl: InitiatorACL) -> bool:
    """Applied once it stays applied: the agent's lag behind a document about something else says nothing."""
    ready = find(acl.status.conditions, "Ready")
    return ready is not None and ready.status == TRUE and ready.observed_generation == acl.metadata.generation


def _sessions(acl: InitiatorACL, active: Observed) -> list[SessionStatus]:
    networks = [ipaddress.ip_network(address, strict=False) for address in acl.spec.addresses]
    sessions = [s for t in active.node.status.targets if t.name == acl.spec.target for s in t.sessions]
    return [session for session in sessions if _admitted(session.address, networks)]


def _admitted(address: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in network for network in networks)
    except ValueError:
        return False


def _why(active: Observed | None) -> str:
    targets = find(active.node.status.conditions, "Targets") if active else None
    return f": {targets.message}" if targets is not None and targets.status == FALSE else ""


def _name(host: Observed | None) -> str:
    return host.node.metadata.name if host else ""
