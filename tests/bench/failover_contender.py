"""What the bench asks of a stack, and what the peers have in common: bare machines, no Kubernetes (in their favour)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lab.initiator import Initiator
from lab.lab import Lab, LabGuest
from lab.waiting import WaitTimeout

from bench import failover_hosts as hosts
from bench import failover_logs as logs
from bench.failover_image import PEERS

READY = "ready"
_SETTLE_SECONDS = 400.0


@dataclass(frozen=True)
class Roles:
    """Who serves before a run, and who is to serve after it."""

    active: LabGuest
    taker: LabGuest


class Contender(Protocol):
    """A stack on a lab of its own."""

    name: ClassVar[str]

    @property
    def initiator(self) -> Initiator:
        """The lab's initiator."""

    def restore(self) -> Roles:
        """Bring the lab back to the state in which every run begins: serving, mirrored, nothing else to do."""

    def switch_over(self, roles: Roles) -> None:
        """Ask for a planned move to the taker, in the way that the stack's users do."""

    def moments(self, roles: Roles, since: float) -> dict[str, float]:
        """The marks of the run (`failover_model.MARKS`) that the stack logged, wall clock."""

    def down(self) -> None:
        """End the lab."""


class Peer:
    """A stack that is built by hand on two bare machines; its recipe is a subclass."""

    name: ClassVar[str]
    patterns: ClassVar[Mapping[str, str]]
    """For a mark the regular expression of the log line that tells it."""

    def __init__(self, suite: str) -> None:
        # it ends with this process, however that ends
        self.lab = Lab.up(f"bench-{self.name}-{os.getpid()}", suite=suite, more=PEERS, owner_pid=os.getpid())
        try:
            hosts.prepare(self.lab)
            self.build()
            self._settle()
            self.lab.snapshot(READY)
        except BaseException:
            self.down(keep_logs=True)
            raise

    @property
    def initiator(self) -> Initiator:
        return Initiator(self.lab.initiator)

    def build(self) -> None:
        """Configure the prepared hosts and start the service."""
        raise NotImplementedError

    def idle(self) -> bool:
        """Has the cluster manager nothing to do, so that it would take an order?"""
        raise NotImplementedError

    def switch_over(self, roles: Roles) -> None:
        raise NotImplementedError

    def restore(self) -> Roles:
        self.lab.restore(READY)
        return self._settle()

    def moments(self, roles: Roles, since: float) -> dict[str, float]:
        command = ["journalctl", "--output=short-unix", f"--since=@{since:.3f}"]
        journals = [node.ssh(command).stdout for node in self.lab.nodes if node.is_on()]
        return logs.moments(journals, self.patterns, since)

    def down(self, *, keep_logs: bool = False) -> None:
        self.lab.down(keep_logs=keep_logs)

    def _settle(self) -> Roles:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            serving = [node for node in self.lab.nodes if hosts.has_address(node)]
            trouble = self._trouble(serving)
            if not trouble:
                taker = next(node for node in self.lab.nodes if node is not serving[0])
                return Roles(serving[0], taker)
            if time.monotonic() > deadline:
                raise WaitTimeout(f"waited {_SETTLE_SECONDS:g} s for {self.name} to serve: {trouble}")
            time.sleep(1)

    def _trouble(self, serving: list[LabGuest]) -> str:
        """Why no run could begin now; "" when one could."""
        if len(serving) != 1:
            return f"{len(serving)} nodes have the virtual IP"
        if not hosts.has_target(serving[0]):
            return f"{serving[0].name} does not export the LUN"
        if not hosts.replicating(serving[0], "UpToDate/UpToDate"):
            return "the mirror is not connected and whole"
        return "" if self.idle() else "the cluster manager is busy"
