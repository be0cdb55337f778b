"""Switchovers: Pending -> Running -> Succeeded | Failed, or Refused at once. Pure.

Level-based: a host's document asks for the move exactly while a Switchover *is on record* as Running and nothing has
ended it yet, so a crash between the two writes heals by itself. A final phase is final: nothing here looks at it again,
but for the name of the record, which the hosts deliver later.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from storagepair_crds.views import NodeSwitchover, Switchover, SwitchoverOutcome

from storagepair_operator import moments, reasons
from storagepair_operator.plan.model import Move, Verdict
from storagepair_operator.plan.preconditions import PASSING, Objection, objection
from storagepair_operator.roles import roles
from storagepair_operator.snapshot import Snapshot, own_nodes

PENDING, RUNNING, SUCCEEDED, REFUSED, FAILED = "Pending", "Running", "Succeeded", "Refused", "Failed"

OUTCOME = timedelta(seconds=180)
"""How long the host's outcome is waited for. Its script gives up after 150 s."""

BEGIN = timedelta(seconds=60)
"""How long after the request became Running a host may still begin. An agent that comes back later must not move a
service that everybody has given up on. More than the 30 s that the hosts' clocks may be off."""

GRACE = timedelta(seconds=60)
"""How long after its creation a request waits for reports that may just be on their way. An agent on a busy host was
seen to need 17 s for the document that only tells it of a record: its pair was Ready, and the next request refused."""


def judge(snapshot: Snapshot, verdict: Verdict | None, now: datetime) -> dict[str, Move]:
    """Where each Switchover of a pair is now, by name; those that are over and told are left out."""
    moves: dict[str, Move] = {}
    records = {failover.spec.request: failover.metadata.name for failover in snapshot.failovers}
    running = ""
    for request in _in_phase(snapshot, RUNNING):
        moves[request.metadata.name] = move = _under_way(
            request, snapshot, running, records.get(_name(request), ""), now
        )
        if move.phase == RUNNING:
            running = request.metadata.name
    waiting = False
    for request in _open(snapshot):
        move = Move(PENDING, reasons.PENDING, "another request of the pair is looked at first")
        if not waiting:
            known = records.get(_name(request), "")
            found = objection(request, snapshot, verdict, running=running, recorded=known, now=now)
            move = _considered(request, found, now)
        moves[request.metadata.name] = move
        waiting = waiting or move.phase == PENDING
        running = request.metadata.name if move.phase == RUNNING else running
    for request in snapshot.switchovers:
        name, status = records.get(_name(request), ""), request.status
        if status.phase in (SUCCEEDED, FAILED) and name and not status.failover:
            moves[request.metadata.name] = Move(status.phase, reasons.told(status.reason), status.message, name)
    return moves


def asked(snapshot: Snapshot, moves: Mapping[str, Move]) -> dict[str, NodeSwitchover]:
    """What the hosts' documents ask for, by node: at most one move, on the node that hands over."""
    for request in _in_phase(snapshot, RUNNING):
        if moves[request.metadata.name].phase == RUNNING and snapshot.pair is not None:
            begin = moments.parse(request.status.start_time) + BEGIN
            limit = min(begin, moments.parse(request.spec.not_after)) if request.spec.not_after else begin
            wanted = NodeSwitchover(
                name=_name(request), uid=request.metadata.uid, to=request.spec.to, not_after=moments.seconds(limit)
            )
            nodes = [node.name for node in snapshot.pair.spec.nodes]
            return {name: wanted for name in nodes if name != request.spec.to and request.spec.to in nodes}
    return {}


def wake(snapshot: Snapshot, moves: Mapping[str, Move]) -> datetime | None:
    """When these have to be looked at again although nothing happens; None for never."""
    limits = []
    for request in snapshot.switchovers:
        move = moves.get(request.metadata.name)
        if move is not None and move.phase == RUNNING and request.status.phase == RUNNING:
            limits.append(moments.parse(request.status.start_time) + OUTCOME)
        elif move is not None and move.phase == PENDING:
            limits.append(moments.parse(request.metadata.creation_timestamp) + GRACE)
    return min(limits, default=None)


def _in_phase(snapshot: Snapshot, phase: str) -> list[Switchover]:
    return [request for request in snapshot.switchovers if request.status.phase == phase]


def _open(snapshot: Snapshot) -> list[Switchover]:
    """Those that wait to be looked at. One that is being deleted is not begun any more."""
    return [request for request in _in_phase(snapshot, PENDING) if not request.metadata.deletion_timestamp]


def _name(request: Switchover) -> str:
    return f"{request.metadata.namespace}/{request.metadata.name}"


def _considered(request: Switchover, found: Objection | None, now: datetime) -> Move:
    if found is None:
        return Move(RUNNING, reasons.RUNNING, f"the service is being handed over to {request.spec.to}")
    if found.reason in PASSING and now < moments.parse(request.metadata.creation_timestamp) + GRACE:
        return Move(PENDING, found.reason, found.message)
    return Move(REFUSED, found.reason, f"{found.message}. Nothing was changed")


def _under_way(request: Switchover, snapshot: Snapshot, running: str, name: str, now: datetime) -> Move:
    """What came of one that is on record as Running; `name` is the Failover's that names it, "" if there is none."""
    outcome = _outcome(request, snapshot, now)
    if outcome is not None:
        return Move(outcome.phase, reasons.told(outcome.reason or outcome.phase), outcome.message, name)
    active = roles(own_nodes(snapshot)).active
    if name and active is not None and active.node.metadata.name == request.spec.to:
        text = f"{request.spec.to} serves, as Failover {name} records; the host that was asked could not say so"
        return Move(SUCCEEDED, reasons.MOVED, text, name)
    if running:  # never by our own doing: somebody else has written a status
        return Move(FAILED, reasons.MOVE_IN_PROGRESS, f"Switchover {running} is under way, only one can be", name)
    if now >= moments.parse(request.status.start_time) + OUTCOME:
        return Move(FAILED, reasons.NO_OUTCOME, _no_outcome(request, snapshot), name)
    return Move(RUNNING, reasons.told(request.status.reason), request.status.message, name)


def _outcome(request: Switchover, snapshot: Snapshot, now: datetime) -> SwitchoverOutcome | None:
    """The host's own word on it, once that is final."""
    for host in own_nodes(snapshot):
        told = host.node.status.switchover
        if told is not None and told.uid == request.metadata.uid and told.phase in (SUCCEEDED, REFUSED, FAILED):
            message = told.message or told.reason
            if told.reason == reasons.TOO_LATE and not _over(request.spec.not_after, now):
                # the limit was ours, see BEGIN
                message = (
                    f"{host.node.metadata.name} did not begin within {BEGIN.seconds} s; was its node agent away or "
                    "busy, and is its clock right? Nothing was changed"
                )
            return msgspec.structs.replace(told, message=message)
    return None


def _over(limit: str, now: datetime) -> bool:
    return bool(limit) and now > moments.parse(limit)


def _no_outcome(request: Switchover, snapshot: Snapshot) -> str:
    pair = snapshot.pair
    names = [node.name for node in pair.spec.nodes if node.name != request.spec.to] if pair is not None else []
    source = names[0] if names else "the node that served"
    active = roles(own_nodes(snapshot)).active
    serves = f"{active.node.metadata.name} serves now" if active is not None else "no node is known to serve now"
    return (
        f"{source} did not say within {OUTCOME.seconds} s what came of it; {serves}. Look at the log of the node agent "
        f"on {source} (does its pod run?), at /var/lib/storagepair/journal.log and /var/log/ha-log there, and at the "
        f"events of StoragePair {request.spec.pair_ref.name}"
    )
