"""Our stack as users run it: kubelets, agents, operator. Kubelets stand still while a run is timed, as in tests/e2e."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import ClassVar

from lab import drill
from lab.drill import NAMESPACE
from lab.initiator import Initiator
from lab.pair import Pair
from lab.stack import Stack
from storagepair_node_agent import journal

from bench.failover_contender import READY, Roles
from bench.failover_model import DEADTIME_SECONDS, STOP, TAKEOVER

_RESTORED_SECONDS = 180.0
_RECORD_SECONDS = 180.0


class Storagepair:
    """The sample pair, Ready."""

    name: ClassVar[str] = "storagepair"

    def __init__(self, suite: str) -> None:
        self.stack = Stack.up(f"bench-{self.name}-{os.getpid()}", suite=suite, owner_pid=os.getpid())
        self.pair = Pair(self.stack, namespace=NAMESPACE)
        try:
            self.stack.kubectl("create", "namespace", NAMESPACE)
            self.pair.apply()
            self.pair.wait_ready()
            self._check_deadtime()
            self.stack.snapshot(READY)
        except BaseException:
            self.stack.down(keep_logs=True)
            raise

    @property
    def initiator(self) -> Initiator:
        return Initiator(self.stack.lab.initiator)

    def restore(self) -> Roles:
        self.stack.restore(READY)
        self.pair.wait_ready(seconds=_RESTORED_SECONDS)
        self.stack.freeze_kubelets()
        machines, active = self.stack.lab.machines, self.pair.active
        return Roles(machines[active], machines[drill.other(self.pair, active)])

    def switch_over(self, roles: Roles) -> None:
        document = {
            "apiVersion": "storagepair.dev/v1alpha1",
            "kind": "Switchover",
            "metadata": {"generateName": "bench-"},
            "spec": {"pairRef": {"name": self.pair.name}, "to": roles.taker.name},
        }
        self.stack.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document))

    def moments(self, roles: Roles, since: float) -> dict[str, float]:
        # the record comes when the host's story is complete
        (record,) = self.pair.wait_failovers(1, seconds=_RECORD_SECONDS)
        if (record["from"], record["to"]) != (roles.active.name, roles.taker.name):
            raise RuntimeError(f"the recorded move is not the one that was measured: {record}")
        found: dict[str, float] = {}
        start = datetime.fromisoformat(record["startTime"]).timestamp()
        for phase in record.get("phases", ()):
            if phase["name"] == "silent":
                found[STOP] = start + phase["milliseconds"] / 1e3
        for entry in journal.parse(roles.taker.read(journal.JOURNAL)):
            if entry.wall / 1e6 >= since and (entry.verb, entry.phase) == ("start", "begin"):
                found.setdefault(TAKEOVER, entry.wall / 1e6)
        return found

    def down(self) -> None:
        self.stack.down()

    def _check_deadtime(self) -> None:
        deadtime = self.pair.get("storagepairs", self.pair.name)["spec"]["heartbeat"]["deadtimeSeconds"]
        if deadtime != DEADTIME_SECONDS:
            raise RuntimeError(f"the sample pair's deadtime is {deadtime} s, the others' {DEADTIME_SECONDS} s")
