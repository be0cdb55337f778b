"""The status of a Switchover, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec
from storagepair_crds.views import Metadata, StoragePair, Switchover, SwitchoverStatus

from storagepair_operator import moments, reasons
from storagepair_operator.kinds import PAIRS, SWITCHOVERS, Kind
from storagepair_operator.plan.model import Move
from storagepair_operator.plan.switchovers import FAILED, REFUSED, RUNNING, SUCCEEDED
from storagepair_operator.summarize import conditions
from storagepair_operator.summarize.conditions import FALSE, TRUE, UNKNOWN, State
from storagepair_operator.summarize.model import Event
from storagepair_operator.summarize.records import event_name

TOLD = {
    RUNNING: ("Normal", reasons.SWITCHOVER_STARTED),
    SUCCEEDED: ("Normal", reasons.SWITCHOVER_SUCCEEDED),
    REFUSED: ("Warning", reasons.SWITCHOVER_REFUSED),
    FAILED: ("Warning", reasons.SWITCHOVER_FAILED),
}
"""The event of each phase that is told."""


def switchover_status(request: Switchover, move: Move, now: datetime) -> SwitchoverStatus:
    """What `kubectl get` and `describe` show of a Switchover. Of one that is over only the record's name may change."""
    old, generation = request.status, request.metadata.generation
    if old.phase == move.phase and move.phase in (SUCCEEDED, REFUSED, FAILED):
        return msgspec.structs.replace(old, failover=old.failover or move.failover)
    over = move.phase in (SUCCEEDED, REFUSED, FAILED)
    return SwitchoverStatus(
        observed_generation=generation,
        phase=move.phase,
        reason=move.reason,
        message=move.message,
        start_time=old.start_time or (moments.micro(now) if move.phase == RUNNING else ""),
        completion_time=moments.micro(now) if over else "",
        failover=old.failover or move.failover,
        conditions=conditions.turn(old.conditions, _states(move), generation, now),
    )


def switchover_events(request: Switchover, pair: StoragePair | None, move: Move, now: datetime) -> Iterator[Event]:
    """A turn of its phase, told on the Switchover and on its pair."""
    if move.phase == request.status.phase or move.phase not in TOLD:
        return
    about: list[tuple[Kind, Metadata, str]] = [(SWITCHOVERS, request.metadata, move.message)]
    if pair is not None:
        about.append((PAIRS, pair.metadata, f"Switchover {request.metadata.name}: {move.message}"))
    type_, reason = TOLD[move.phase]
    for kind, metadata, note in about:
        yield Event(
            name=event_name(metadata, request.metadata.uid, move.phase),
            kind=kind,
            about=metadata,
            type=type_,
            reason=reason,
            action="Switchover",
            note=note,
            time=moments.micro(now),
        )


def _states(move: Move) -> tuple[State, ...]:
    """As kstatus reads them: reconciling is in progress, stalled has failed, ready is current."""
    stalled, ready = move.phase in (REFUSED, FAILED), move.phase == SUCCEEDED
    words = {
        "Ready": TRUE if ready else FALSE if stalled else UNKNOWN,
        "Reconciling": FALSE if ready or stalled else TRUE,
        "Stalled": TRUE if stalled else FALSE,
    }
    return tuple(State(type_, word, move.reason, move.message) for type_, word in words.items())
