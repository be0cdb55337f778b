"""What happened, for the record: Failover objects and events.

Names say what happened, so that writing one twice is impossible and a lost answer can be tried again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from storagepair_crds.views import (
    Condition,
    Failover,
    FailoverSpec,
    Incident,
    InitiatorACLStatus,
    LUNStatus,
    Metadata,
    PairNodeStatus,
    PairReference,
    PairStatus,
    StorageNode,
    StoragePair,
)

from storagepair_operator import moments, reasons
from storagepair_operator.kinds import PAIRS, Kind
from storagepair_operator.snapshot import Observed, Snapshot
from storagepair_operator.summarize.conditions import FALSE, TRUE, find
from storagepair_operator.summarize.machines import false_conditions, silence, unheard
from storagepair_operator.summarize.model import Event

PAIR_LABEL = "storagepair.dev/pair"

RECENT = timedelta(minutes=50)
"""The API server forgets events after an hour. Older news than this is not told: it may have been told already."""

UNRESOLVED = timedelta(days=7)
"""How long a move whose cause is not known is kept in any case: somebody has to look into it."""

_AT_ONCE = 50
"""How many records one reconcile deletes; a limit that was lowered is reached in several."""

SILENT = (reasons.PREPARING, reasons.APPLYING)
"""Why a pair does not serve yet, where nothing is wrong: no event tells of it."""


def new_failovers(snapshot: Snapshot, hosts: Iterable[Observed]) -> Iterator[Failover]:
    """The moves that the hosts' journals tell of and no Failover object records yet."""
    recorded = {failover.spec.incident for failover in snapshot.failovers}
    for host in hosts:
        for incident in host.node.status.incidents:
            if incident.id not in recorded:
                recorded.add(incident.id)
                yield _failover(snapshot, incident)


def surplus(
    pair: StoragePair, failovers: Iterable[Failover], hosts: Sequence[Observed], now: datetime
) -> list[Failover]:
    """The oldest records beyond the pair's `failoverHistoryLimit`: not the newest, and none that is unresolved.

    Only what no host tells of any more may go, or it would be recorded again. So both hosts' reports must be in view.
    """
    if len(hosts) < 2 or any(host.node.status.observed_generation < 0 for host in hosts):
        return []
    told = {incident.id for host in hosts for incident in host.node.status.incidents}
    kept = [failover for failover in failovers if not failover.metadata.deletion_timestamp]
    kept.sort(key=lambda failover: (moments.parse(failover.spec.start_time), failover.metadata.name))
    excess = len(kept) - pair.spec.failover_history_limit
    free = [f for f in kept[:-1] if f.spec.incident not in told and not _unresolved(f, now)]
    return free[: min(max(0, excess), _AT_ONCE)]


def _unresolved(failover: Failover, now: datetime) -> bool:
    return failover.spec.cause == "Unknown" and now - moments.parse(failover.spec.end_time) < UNRESOLVED


def move_event(pair: StoragePair, failover: Failover) -> Event:
    """The event of a move."""
    spec = failover.spec
    planned = spec.cause == "Planned"
    felt = spec.pause.milliseconds if spec.pause is not None else None
    why, look = _why(spec)
    note = (
        f"the service moved from {spec.from_ or 'an unknown machine'} to {spec.to} in {spec.milliseconds / 1000:.1f} s "
        f"({why}), {spec.start_time} to {spec.end_time}"
        f"{f'; initiators felt a pause of {felt / 1000:.1f} s' if felt is not None else ''}"
        f"{f'; look at {look}' if look else ''}"
    )
    return Event(
        name=failover.metadata.name,
        kind=PAIRS,
        about=pair.metadata,
        type="Normal" if planned else "Warning",
        reason=reasons.SWITCHOVER if planned else reasons.FAILOVER,
        action="Move",
        note=note,
        time=moments.micro(moments.parse(spec.end_time)),
    )


def _why(spec: FailoverSpec) -> tuple[str, str]:
    """The cause in words, and what to look at."""
    machine = spec.from_ or "the other machine"
    return {
        "Planned": (f"as Switchover {spec.request} asked" if spec.request else "as asked", ""),
        "NodeLost": (f"{machine} was lost", f"the power, console and links of {machine}"),
        "ServiceNetworkLost": (
            f"{machine} lost the service network",
            f"the NICs and cables of the service network on {machine}, and at its switches",
        ),
        "HeartbeatStopped": (f"Heartbeat ended on {machine}", f"`journalctl -u heartbeat` on {machine}"),
        "ResourceFailed": (
            f"the service failed on {machine}",
            f"the disk, the file system and tgtd on {machine}, and at /var/log/ha-log there",
        ),
        "OperatorError": (f"the service was taken away by hand on {machine}", f"what was done on {machine}"),
    }.get(spec.cause, ("the cause is not known", f"/var/log/ha-log on {machine} and on {spec.to}"))


def end_event(pair: StoragePair, why: str, *, torn_down: bool, now: datetime) -> Event:
    """The last event of a pair whose deletion was held up for its hosts."""
    reason = reasons.TORN_DOWN if torn_down else reasons.FORGOTTEN
    return Event(
        name=event_name(pair.metadata, reason),
        kind=PAIRS,
        about=pair.metadata,
        type="Normal",
        reason=reason,
        action="Delete",
        note=why,
        time=moments.micro(now),
    )


def turned(
    kind: Kind,
    about: Metadata,
    old: PairStatus | LUNStatus | InitiatorACLStatus,
    new: PairStatus | LUNStatus | InitiatorACLStatus,
    now: datetime,
) -> Iterator[Event]:
    """An event for each condition that turned and that people want to hear of. Named by what it turned from."""
    for condition in new.conditions:
        before = find(old.conditions, condition.type)
        same = before is not None and (before.status, before.reason) == (condition.status, condition.reason)
        if same or not _worth_telling(kind, condition, before, new.conditions):
            continue
        origin = (before.status, before.reason, before.last_transition_time) if before else ()
        good = condition.status == TRUE
        yield Event(
            name=event_name(about, condition.type, condition.status, condition.reason, *origin),
            kind=kind,
            about=about,
            type="Normal" if good else "Warning",
            reason=reasons.told(condition.reason),
            action=condition.type,
            note=condition.message,
            time=moments.micro(now),
        )


def agents_turned(pair: StoragePair, new: PairStatus, now: datetime) -> Iterator[Event]:
    """An event for each machine whose agent fell silent, and for each that was and reports again. Named by the silence,
    so that it is told once however often the operator starts anew."""
    before = {node.name: node for node in pair.status.nodes}
    for node in new.nodes:
        old = before.get(node.name, PairNodeStatus(name=node.name))
        since = node.agent_silent_since
        if unheard(node) and not unheard(old):
            note = f"{node.name}: {silence(node.name, since)}"
            yield _agent_event(pair, node.name, since, "Warning", reasons.AGENT_SILENT, note, now)
        if unheard(old) and not since:
            note = f"{node.name}: its node agent reports again; it was silent since {old.agent_silent_since}"
            yield _agent_event(pair, node.name, old.agent_silent_since, "Normal", reasons.AGENT_REPORTS, note, now)


def _agent_event(
    pair: StoragePair, node: str, since: str, type_: str, reason: reasons.Reason, note: str, now: datetime
) -> Event:
    return Event(
        name=event_name(pair.metadata, node, reason, since),
        kind=PAIRS,
        about=pair.metadata,
        type=type_,
        reason=reason,
        action="Listen",
        note=note,
        time=moments.micro(now),
    )


def complaints(pair: StoragePair, hosts: Iterable[Observed], now: datetime) -> Iterator[Event]:
    """An event on the pair for each condition that an agent reports as false, while that is news."""
    for host in hosts:
        for condition in false_conditions(host.node.status):
            since = moments.parse(condition.last_transition_time)
            if now - since < RECENT:
                yield _complaint(pair, host.node, condition, now)


def _complaint(pair: StoragePair, node: StorageNode, condition: Condition, now: datetime) -> Event:
    what = (node.metadata.uid, condition.type, condition.reason, condition.last_transition_time)
    return Event(
        name=event_name(pair.metadata, *what),
        kind=PAIRS,
        about=pair.metadata,
        type="Warning",
        reason=reasons.told(condition.reason),
        action=condition.type,
        note=f"{node.metadata.name}: {condition.type}: {condition.message or condition.reason}",
        time=moments.micro(now),
    )


def _worth_telling(kind: Kind, condition: Condition, before: Condition | None, conditions: Iterable[Condition]) -> bool:
    if condition.type == "Accepted":
        return condition.status == FALSE
    if kind is not PAIRS:
        return False
    if condition.type == "Serving":
        started = before is not None and before.status != TRUE
        return condition.reason not in SILENT if condition.status != TRUE else started
    if condition.type == "Ready":
        return condition.reason in (reasons.READY, reasons.DEGRADED, reasons.TEARING_DOWN)
    return False


def _failover(snapshot: Snapshot, incident: Incident) -> Failover:
    key = snapshot.key
    return Failover(
        metadata=Metadata(
            name=_dns(f"{key.name}-{incident.id}"), namespace=key.namespace, labels={PAIR_LABEL: key.name}
        ),
        spec=FailoverSpec(
            pair_ref=PairReference(name=key.name),
            cause=incident.cause,
            from_=incident.from_,
            to=incident.to,
            start_time=incident.start_time,
            end_time=incident.end_time,
            milliseconds=incident.milliseconds,
            incident=incident.id,
            request=incident.request,
            message=incident.message,
            pause=incident.pause,
            phases=incident.phases,
        ),
    )


def _dns(text: str) -> str:
    """A name that the API server takes; another one for each text.

    >>> _dns("vmstore-node2-17"), _dns("vmstore-Node2_17")
    ('vmstore-node2-17', 'vmstore-node2-17-8e94bd90')
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:240].strip("-")
    return name if name == text else f"{name}-{_digest(text)[:8]}"


def event_name(about: Metadata, *parts: str) -> str:
    """A name that says what happened to an object, so that it is told once."""
    return f"{about.name}.{_digest(about.uid, *parts)[:16]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
