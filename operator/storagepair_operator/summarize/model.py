"""What summarize() answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storagepair_crds.views import Failover, InitiatorACLStatus, LUNStatus, Metadata, PairStatus, SwitchoverStatus

from storagepair_operator.kinds import Kind
from storagepair_operator.reasons import Reason


@dataclass(frozen=True, slots=True)
class Event:
    """One event (events.k8s.io/v1) on an object. Its name says what happened, so that it appears exactly once."""

    name: str
    kind: Kind  # of the object that it is about
    about: Metadata
    type: str  # Normal | Warning
    reason: Reason
    action: str
    note: str
    time: str  # RFC 3339 with microseconds


@dataclass(frozen=True, slots=True)
class Summary:
    """All that shall be written for people to read. Statuses are by object name; None means: there is no pair."""

    pair: PairStatus | None = None
    luns: Mapping[str, LUNStatus] = field(default_factory=dict)
    acls: Mapping[str, InitiatorACLStatus] = field(default_factory=dict)
    switchovers: Mapping[str, SwitchoverStatus] = field(default_factory=dict)
    failovers: tuple[Failover, ...] = ()  # to be created
    trim: tuple[Failover, ...] = ()  # to be deleted: more than the history shall hold
    events: tuple[Event, ...] = ()
    sentence: str = ""
