"""How much one account asks the API server for, by the API server's own count (of API priority and fairness)."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

from api.operator_world import SYSTEM
from lab.controlplane import ControlPlane

_API = "/apis/flowcontrol.apiserver.k8s.io/v1"
_numbers = itertools.count()


class Traffic:
    """The requests of one service account of ours, in a flow of their own: one Traffic for each account of a plane.

    A watch counts once, when it is opened.
    """

    def __init__(self, plane: ControlPlane, account: str) -> None:
        self._plane = plane
        self.name = f"traffic-{next(_numbers)}"
        queuing = {"queues": 1, "handSize": 1, "queueLengthLimit": 1000}  # nobody is refused here
        limited = {"nominalConcurrencyShares": 30, "limitResponse": {"type": "Queue", "queuing": queuing}}
        level = {"type": "Limited", "limited": limited}
        subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": SYSTEM, "name": account}}
        everything: dict[str, Any] = {
            "subjects": [subject],
            "resourceRules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
            ],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
        flow = {"priorityLevelConfiguration": {"name": self.name}, "matchingPrecedence": 50, "rules": [everything]}
        client = plane.client()
        client.post(f"{_API}/prioritylevelconfigurations", {"metadata": {"name": self.name}, "spec": level})
        client.post(f"{_API}/flowschemas", {"metadata": {"name": self.name}, "spec": flow})

    def count(self) -> int:
        """Requests since the API server started."""
        text = str(self._plane.client().get("/metrics"))
        metric = "apiserver_flowcontrol_dispatched_requests_total"
        pattern = rf'^{metric}\{{[^}}]*flow_schema="{self.name}"[^}}]*\}} (\S+)$'
        return sum(int(float(number)) for number in re.findall(pattern, text, re.MULTILINE))

    def within(self, seconds: float) -> int:
        """How many requests come in a window of time."""
        before = self.count()
        time.sleep(seconds)  # what is counted is what comes within it
        found = self.count() - before
        print(f"{found} requests in {seconds:g} s")
        return found
