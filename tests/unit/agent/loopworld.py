"""An agent's loop with an API server and a cycle that a test scripts."""

from __future__ import annotations

from storagepair_node_agent import loop
from storagepair_node_agent.actions import Verdict
from storagepair_node_agent.api import ApiError
from storagepair_node_agent.cycle import Pass
from storagepair_node_agent.host import Host
from unit.agent import agentbuilders as a
from unit.agent.test_report import merged

BAD = {"filesystem": {"type": "btrfs"}}
WORKING = Pass(a.snapshot(), {"Network": Verdict(False, "Making", "the bonds are being made", waiting=True)})


class FakeApi:
    """Keeps the object; `away` makes every call fail. Counts the writes."""

    clock_offset_seconds = true_offset = 0.0

    def __init__(self):
        self.document = None
        self.away = False
        self.writes = 0
        self.renewals = 0
        self.secret_reads = 0

    def get(self):
        self._check()
        self.clock_offset_seconds = self.true_offset
        return self.document

    def patch_status(self, patch):
        self._check()
        self.writes += 1
        self.document = merged(self.document, {"status": patch})
        return self.document

    def renew_lease(self):
        self._check()
        self.renewals += 1

    def authkey(self, reference):
        self._check()
        self.secret_reads += 1
        return "key"

    def _check(self):
        if self.away:
            raise ApiError("away")


class FakeCycle:
    """Remembers what it was given; all is well unless told otherwise."""

    def __init__(self):
        self.given = []
        self.on_the_way = []  # what it knows before each group of actions
        self.result = Pass(a.snapshot(), {"Network": Verdict(True, "Good", "good")})

    def run(self, desired, clock_offset_seconds, go_on):
        self.given.append(desired)
        self.offset = clock_offset_seconds
        self.went_on = [go_on(so_far) for so_far in self.on_the_way]
        return self.result


class World:
    def __init__(self, tmp_path):
        self.host = Host(tmp_path)
        self.api = FakeApi()
        self.start()

    def start(self):
        """The agent, as after a restart."""
        self.follower = loop.Follower(self.api, lambda: None)
        self.cycle = FakeCycle()
        self.loop = loop.Loop(self.host, "node1", self.api, self.follower, "1.0")
        self.loop._cycle = self.cycle

    def put(self, generation=1, **spec):
        document = a.document()
        document["metadata"] |= {"generation": generation, "uid": "u1", "resourceVersion": str(generation)}
        document["spec"] |= spec
        if self.api.document:
            document["status"] = self.api.document.get("status", {})
        self.api.document = document
        self.follower.offer(document)

    def turn(self):
        self.loop.turn()
        return self.api.document and self.api.document.get("status", {})

    def condition(self, name):
        return next(c for c in self.api.document["status"]["conditions"] if c["type"] == name)
