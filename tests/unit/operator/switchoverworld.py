"""A pair that serves, its Switchovers, and what the operator makes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from storagepair_crds.views import NodeStatus, Switchover
from storagepair_operator.plan import Plan, plan
from storagepair_operator.snapshot import Snapshot
from storagepair_operator.summarize import Summary, summarize
from unit.operator.builders import (
    NOW,
    SECRETS,
    running,
    status,
)

FINAL = ("Succeeded", "Refused", "Failed")


def world(*requests: Switchover, active: NodeStatus | None = None, standby: NodeStatus | None = None) -> Snapshot:
    """A pair that serves on node1, with these requests."""
    return replace(running(active=active, standby=standby), switchovers=requests)


def changed(role: str, part: str, **more: Any) -> NodeStatus:
    """A machine's status with a part of it changed."""
    seen = status(role)
    return msgspec.structs.replace(seen, **{part: msgspec.structs.replace(getattr(seen, part), **more)})


def phase(view: Snapshot, name: str = "move", now: datetime = NOW) -> tuple[str, str]:
    move = at(view, now).moves[name]
    return move.phase, move.reason


def at(view: Snapshot, now: datetime) -> Plan:
    return plan(view, {}, SECRETS, now)


def told(view: Snapshot, now: datetime = NOW) -> Summary:
    return summarize(view, at(view, now), now)


def recorded(view: Snapshot, now: datetime = NOW) -> Snapshot:
    """The world after the operator has written the statuses of the requests."""
    written_ = told(view, now).switchovers
    requests = (
        msgspec.structs.replace(each, status=written_.get(each.metadata.name, each.status)) for each in view.switchovers
    )
    return replace(view, switchovers=tuple(requests))
