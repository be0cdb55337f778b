"""summarize(): what people are told. Pure: a snapshot and its plan in, statuses and records out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from storagepair_crds.views import InitiatorACLStatus, LUNStatus, PairStatus, StoragePair

from storagepair_operator.kinds import ACLS, LUNS, PAIRS
from storagepair_operator.plan.model import Plan
from storagepair_operator.roles import roles
from storagepair_operator.snapshot import Observed, Snapshot, own_nodes
from storagepair_operator.summarize import exports, records
from storagepair_operator.summarize.conditions import TRUE
from storagepair_operator.summarize.model import Event, Summary
from storagepair_operator.summarize.pair import pair_status
from storagepair_operator.summarize.switchovers import switchover_events, switchover_status

__all__ = ["Event", "Summary", "summarize"]


def summarize(snapshot: Snapshot, plan: Plan, now: datetime) -> Summary:
    """The statuses of a pair and of all that names it, and the records of what has happened since the last time."""
    hosts = own_nodes(snapshot)
    who = roles(hosts)
    luns = {
        lun.metadata.name: exports.lun_status(lun, plan.luns[lun.metadata.name], list(hosts), who, now)
        for lun in snapshot.luns
    }
    acls = {acl.metadata.name: exports.acl_status(acl, plan.acls[acl.metadata.name], who, now) for acl in snapshot.acls}
    requests = {r.metadata.name: r for r in snapshot.switchovers if r.metadata.name in plan.moves}
    moves = {name: switchover_status(request, plan.moves[name], now) for name, request in requests.items()}
    pair, verdict = snapshot.pair, plan.pair
    if pair is None or verdict is None:
        events = (*_turned(snapshot, None, luns, acls, now), *_asked(snapshot, plan, now))
        sentence = f"{snapshot.key}: there is no such pair"
        return Summary(None, luns, acls, moves, events=events, sentence=sentence)
    names: dict[str, Observed | None] = {node.name: None for node in pair.spec.nodes}
    names.update({host.node.metadata.name: host for host in hosts})
    status = pair_status(snapshot, pair, plan, verdict, names, who, now)
    failovers = tuple(records.new_failovers(snapshot, hosts))
    events = (
        *_asked(snapshot, plan, now),
        *(records.move_event(pair, failover) for failover in failovers),
        *_turned(snapshot, status, luns, acls, now),
        *records.agents_turned(pair, status, now),
        *_ended(pair, plan, now),
        *records.complaints(pair, hosts, now),
    )
    sentence = _sentence(snapshot, status, luns)
    trim = tuple(records.surplus(pair, snapshot.failovers, hosts, now))
    return Summary(status, luns, acls, moves, failovers, trim, events, sentence)


def _ended(pair: StoragePair, plan: Plan, now: datetime) -> Iterator[Event]:
    if plan.ending and pair.metadata.deletion_timestamp and pair in plan.release:
        yield records.end_event(pair, plan.ending, torn_down=plan.torn_down, now=now)


def _asked(snapshot: Snapshot, plan: Plan, now: datetime) -> Iterator[Event]:
    for request in snapshot.switchovers:
        if (move := plan.moves.get(request.metadata.name)) is not None:
            yield from switchover_events(request, snapshot.pair, move, now)


def _turned(
    snapshot: Snapshot,
    pair: PairStatus | None,
    luns: Mapping[str, LUNStatus],
    acls: Mapping[str, InitiatorACLStatus],
    now: datetime,
) -> Iterator[Event]:
    if snapshot.pair is not None and pair is not None:
        yield from records.turned(PAIRS, snapshot.pair.metadata, snapshot.pair.status, pair, now)
    for lun in snapshot.luns:
        yield from records.turned(LUNS, lun.metadata, lun.status, luns[lun.metadata.name], now)
    for acl in snapshot.acls:
        yield from records.turned(ACLS, acl.metadata, acl.status, acls[acl.metadata.name], now)


def _sentence(snapshot: Snapshot, status: PairStatus, luns: Mapping[str, LUNStatus]) -> str:
    ready = status.conditions[0]
    served = sum(1 for lun in luns.values() if lun.conditions[0].status == TRUE)
    return f"{snapshot.key}: {ready.reason}: {ready.message}; {served} of {len(luns)} LUNs served"
