"""What plan() answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from storagepair_crds.views import AuthkeysReference, NodeSpec

from storagepair_operator.reasons import Reason
from storagepair_operator.snapshot import Held


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a document is carried out, and why (not): the content of its condition Accepted."""

    accepted: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Move:
    """Where a Switchover is: the content of its status, without the times."""

    phase: str
    reason: Reason
    message: str
    failover: str = ""  # the Failover that records it, once there is one


@dataclass(frozen=True, slots=True)
class Plan:
    """All that shall be written for a pair's hosts. What isn't named here stays as it is."""

    pair: Verdict | None = None  # None when there is no such pair
    nodes: Mapping[str, NodeSpec] = field(default_factory=dict)  # empty unless the pair is accepted
    luns: Mapping[str, Verdict] = field(default_factory=dict)  # by name
    acls: Mapping[str, Verdict] = field(default_factory=dict)
    hold: tuple[Held, ...] = ()  # get the finalizer, before they reach a host
    release: tuple[Held, ...] = ()  # lose the finalizer: nothing of theirs is left to do
    authkeys: AuthkeysReference | None = None  # to be generated: neither host has any
    moves: Mapping[str, Move] = field(default_factory=dict)  # by the Switchover's name; what is over is left out
    wake: datetime | None = None  # when to look again although nothing happens
    kept: tuple[str, ...] = ()  # entries that serve on though their object is gone from view: "LUN datastore1"
    torn_down: bool = False  # its end is that of a teardown, and it is over
    ending: str = ""  # what the pair's deletion waits for; "" while it is not held up by us
