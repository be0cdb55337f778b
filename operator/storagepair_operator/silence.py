"""Whose agent is silent, by the renewals of the nodes' Leases as this operator saw them come. Pure.

Nobody compares the clocks of two machines: a renewal is a Lease that has changed since the last look, and silence is
time that passed here, between looks. What was not looked at counts for nothing: an API server that was away for us may
have been away for the agents too, so that everybody gets a whole term again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Lease(NamedTuple):
    """What an agent says by its Lease. `renewed` is "" when no agent ever has: an older version, or none yet."""

    uid: str
    renewed: str  # by the agent's own clock: for people, and to tell one renewal from another


@dataclass(frozen=True, slots=True)
class Track:
    """One agent, as of the last look. `silent` is None while it isn't known: nothing was seen to change yet."""

    lease: Lease
    silent: bool | None = None
    still_seconds: float = 0.0  # for how long the Lease was looked at without a change


@dataclass(frozen=True, slots=True)
class Watch:
    """All agents, by node. The first look is a start: whatever is in it may be old or new."""

    at: float | None = None  # of the last look (monotonic)
    tracks: Mapping[str, Track] = field(default_factory=dict)

    def look(self, leases: Mapping[str, Lease], now: float, limit_seconds: float) -> Watch:
        """What is known after one more look at the Leases of all nodes."""
        passed = 0.0 if self.at is None else now - self.at
        # after half a term without a look somebody who renews in time may not have been able to
        counted = passed if passed <= limit_seconds / 2 else None
        tracks = {node: _follow(self.tracks.get(node), lease, counted, limit_seconds) for node, lease in leases.items()}
        return Watch(now, tracks)

    def since(self) -> dict[str, str]:
        """By node since when its agent is silent, "" if it isn't; without those of whom that isn't known."""
        known = {node: track for node, track in self.tracks.items() if track.silent is not None}
        return {node: track.lease.renewed if track.silent else "" for node, track in known.items()}


def _follow(before: Track | None, lease: Lease, passed: float | None, limit_seconds: float) -> Track:
    if not lease.renewed:
        return Track(lease, silent=False)
    if before is None or before.lease.uid != lease.uid:
        return Track(lease)
    if before.lease != lease:
        return Track(lease, silent=False)
    still = 0.0 if passed is None else before.still_seconds + passed
    return Track(lease, True if still >= limit_seconds else before.silent, still)
