"""A cluster's everyday life with operator and agents as pods, under the verifying writer: nothing of the service moves.

Both run as users run them: from manifests/, on the storage nodes' real kubelets, from images of our own making.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import drill
from lab.apiclient import ApiError, ApiUnreachable
from lab.drill import NAMESPACE
from lab.images import AGENT
from lab.initiator import Initiator
from lab.lab import LabGuest
from lab.pair import Pair
from lab.stack import NAMESPACE as SYSTEM
from lab.stack import STORAGE_LABEL, Stack
from lab.waiting import wait_for

# importing the operator's image takes an emulated machine minutes
pytestmark = pytest.mark.drill

CITIZEN = "citizen"
# of the condition Ready: true of a pair that serves, can fail over, and may be getting a new LUN; or whose agent is
# away, for on an emulated machine an agent's start may take longer than its silence is put up with
HARMLESS = {("True", "Ready"), ("False", "Applying"), ("Unknown", "AgentSilent")}
# an emulated machine starts a Python program in half a minute, beside others in more
POD_SECONDS = 600
# after so long without a word a kubelet counts as lost; a busy machine's is often silent for ten seconds
NODE_LOST_SECONDS = 60
# twice the memory that the manifests ask for, in MB: an idle pod with more would be a surprise on a full node
OPERATOR_MEGABYTES, AGENT_MEGABYTES = 2 * 96, 2 * 80


class Town:
    """A Ready pair in a cluster with both programs as pods."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.pair = Pair(stack, namespace=NAMESPACE)
        self.initiator = Initiator(stack.lab.initiator)
        self.active: LabGuest = stack.lab.machines[self.pair.active]
        self.standby: LabGuest = stack.lab.machines[drill.other(self.pair, self.active.name)]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What is done within is not felt: no write is lost or refused, nothing moves, and status says so all along."""
        writer = self.initiator.start_writer(drill.log_in(self.initiator), name="citizen")
        writer.wait_acked(20)
        with self._status_stays():
            yield
        writer.wait_acked(20)
        result = writer.result()
        assert (result.lost, result.errors) == (0, 0)
        print(f"longest gap {max((gap.seconds for gap in result.gaps), default=0):.1f} s")
        assert drill.serves(self.active)
        assert not drill.serves(self.standby)
        assert self.pair.failovers() == []

    @contextmanager
    def _status_stays(self) -> Iterator[None]:
        """The pair says at each moment that the active node serves, and that all is well or being applied."""
        over = threading.Event()
        seen: list[tuple[str, str, str]] = []

        def look() -> None:
            path = f"/apis/storagepair.dev/v1alpha1/namespaces/{NAMESPACE}/storagepairs/{self.pair.name}"
            while not over.wait(0.5):
                try:
                    status = self.stack.plane.client().get(path)["status"]
                except (ApiError, ApiUnreachable):
                    continue  # nothing was said
                ready = next(c for c in status["conditions"] if c["type"] == "Ready")
                reason = "" if (ready["status"], ready["reason"]) in HARMLESS else ready["reason"]
                seen.append((status.get("active", ""), reason, ready["message"] if reason else ""))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        assert set(seen) == {(self.active.name, "", "")}

    def agent(self, node: LabGuest) -> dict[str, Any]:
        """The agent's pod on `node`."""
        pod = self.stack.agent_pod(node.name)
        assert pod is not None, f"no agent on {node.name}"
        return pod

    def operator(self) -> dict[str, Any]:
        """The operator's pod."""
        pod = self.stack.operator_pod()
        assert pod is not None, "no pod of the operator"
        return pod

    def operator_moved(self, before: dict[str, Any]) -> dict[str, Any]:
        """The pod that acts instead of `before`."""
        uid = before["metadata"]["uid"]

        def another() -> bool:
            pod = self.stack.operator_pod()
            return pod is not None and pod["metadata"]["uid"] != uid

        wait_for(another, "another pod of the operator", POD_SECONDS, interval=1)
        self.stack.wait_operator_pod()
        return self.operator()

    def proves_that_it_acts(self, name: str) -> None:
        """A new LUN becomes Ready: operator, both agents and the API server between them do their work."""
        document = {
            "apiVersion": "storagepair.dev/v1alpha1",
            "kind": "LUN",
            "metadata": {"name": name},
            "spec": {"pairRef": {"name": self.pair.name}, "size": "8Mi"},
        }
        self.stack.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document))
        ready = lambda: self.pair.condition("Ready", "lun", name).get("status") == "True"  # noqa: E731
        wait_for(ready, f"the LUN {name} to be Ready", 180, interval=1)

    def node_ready(self, node: LabGuest) -> str:
        """What the Node object says: True, False, Unknown, or "" when there is none."""
        nodes = json.loads(self.stack.kubectl("get", "nodes", "-o", "json"))["items"]
        found = [each for each in nodes if each["metadata"]["name"] == node.name]
        return next((c["status"] for n in found for c in n["status"]["conditions"] if c["type"] == "Ready"), "")


@pytest.fixture(scope="module")
def town_session(ready_session: Stack) -> Stack:
    """The operator as a pod beside the agents', the pair Ready; snapshot `citizen`."""
    ready_session.restore("ready")
    Pair(ready_session, namespace=NAMESPACE).wait_ready(seconds=300)
    ready_session.move_operator_into_cluster()
    ready_session.snapshot(CITIZEN)
    return ready_session


@pytest.fixture()
def town(town_session: Stack) -> Town:
    town_session.restore(CITIZEN)
    Pair(town_session, namespace=NAMESPACE).wait_ready(seconds=300)
    return Town(town_session)


def test_both_run_as_pods_that_can_be_looked_into(town: Town) -> None:
    pods = {"operator": (town.operator(), OPERATOR_MEGABYTES), "agent": (town.agent(town.active), AGENT_MEGABYTES)}
    for container, (pod, megabytes) in pods.items():
        name = pod["metadata"]["name"]
        said = {"operator": "leads", "agent": "API server https://"}[container]
        assert said in town.stack.kubectl("logs", "-n", SYSTEM, name)
        inside = ["exec", "-n", SYSTEM, name, "--"]
        assert town.stack.kubectl(*inside, "cat", "/etc/debian_version").startswith("13"), "the image's own files"
        used = memory(town, pod)
        print(f"{container}: {used} MB")
        assert used < megabytes
    inside = ["exec", "-n", SYSTEM, town.operator()["metadata"]["name"], "--"]
    facts = "import os; print(os.getuid(), os.access('/', os.W_OK), os.access('/tmp', os.W_OK))"
    assert town.stack.kubectl(*inside, "python3", "-c", facts).split() == ["65532", "False", "False"]
    free = [
        int(node.ssh("awk '/MemAvailable/ {print $2}' /proc/meminfo").stdout) // 1024 for node in town.stack.lab.nodes
    ]
    print(f"MB available on the nodes: {free}")
    town.proves_that_it_acts("more")


def test_a_deleted_operator_is_replaced_and_nothing_is_felt(town: Town) -> None:
    with town.undisturbed():
        before = town.operator()
        town.stack.kubectl("delete", "pod", "-n", SYSTEM, before["metadata"]["name"])
        town.operator_moved(before)
        town.proves_that_it_acts("more")


def test_an_image_update_rolls_through_the_agents_one_at_a_time(town: Town) -> None:
    town.stack.load_image(AGENT, "next")
    before = {node.name: town.agent(node)["metadata"]["uid"] for node in town.stack.lab.nodes}
    down: list[set[str]] = []

    def rolled() -> bool:
        pods = [town.stack.agent_pod(node.name) for node in town.stack.lab.nodes]
        ready = {p["spec"]["nodeName"] for p in pods if p and condition(p, "Ready") == "True"}
        down.append({node.name for node in town.stack.lab.nodes} - ready)
        return all(p and p["metadata"]["uid"] != before[p["spec"]["nodeName"]] for p in pods) and not down[-1]

    with town.undisturbed():
        image = "agent=storagepair.dev/node-agent:next"
        town.stack.kubectl("set", "image", "-n", SYSTEM, "daemonset/storagepair-node-agent", image)
        wait_for(rolled, "both agents to be new and ready", POD_SECONDS, interval=0.3)
        town.stack.wait_agents()
        town.proves_that_it_acts("more")
    assert max(map(len, down)) == 1, "one at a time"
    assert set().union(*down) == {"node1", "node2"}, "both were seen on their way"
    # of the pod: the runtime calls two tags of one digest by either name
    images = {town.agent(node)["spec"]["containers"][0]["image"] for node in town.stack.lab.nodes}
    assert images == {"storagepair.dev/node-agent:next"}


def test_a_drained_storage_node_goes_on_serving_and_the_operator_leaves_it(town: Town) -> None:
    before, agents = town.operator(), [identity(town.agent(node)) for node in town.stack.lab.nodes]
    node = before["spec"]["nodeName"]
    with town.undisturbed():
        town.stack.kubectl("drain", node, "--ignore-daemonsets", "--timeout=300s", timeout=330)
        assert town.operator_moved(before)["spec"]["nodeName"] != node
        town.proves_that_it_acts("more")
    assert [identity(town.agent(node)) for node in town.stack.lab.nodes] == agents
    town.stack.kubectl("uncordon", node)


def test_without_kubelet_and_with_a_new_containerd_the_agent_goes_on(town: Town) -> None:
    agents = [identity(town.agent(node)) for node in town.stack.lab.nodes]
    with town.undisturbed():
        for node in town.stack.lab.nodes:
            node.ssh(["systemctl", "restart", "containerd.service"])
        town.active.ssh(["systemctl", "stop", "kubelet.service"])
        town.stack.plane.expect_nodes_within(NODE_LOST_SECONDS)
        wait_for(lambda: town.node_ready(town.active) == "Unknown", "the node to count as lost", 300, interval=1)
        # the Node says that it is lost and its pods that they aren't ready, the pair that it serves: all are right
        town.proves_that_it_acts("more")
        town.active.ssh(["systemctl", "start", "kubelet.service"])
        wait_for(lambda: town.node_ready(town.active) == "True", "the node to be Ready again", 300, interval=1)
        ready = lambda: condition(town.agent(town.active), "Ready") == "True"  # noqa: E731
        wait_for(ready, "the agent's pod to be called ready again", 300, interval=1)
        town.stack.wait_operator_pod()
    assert [identity(town.agent(node)) for node in town.stack.lab.nodes] == agents, "the same containers"


def test_a_deleted_node_object_takes_the_agent_and_nothing_else(town: Town) -> None:
    before = town.agent(town.active)["metadata"]["uid"]
    with town.undisturbed():
        town.stack.kubectl("delete", "node", town.active.name)
        gone = lambda: town.stack.agent_pod(town.active.name) is None  # noqa: E731
        wait_for(gone, "the agent's pod to go with its node", POD_SECONDS, interval=1)
        assert town.stack.kubectl("get", "storagenode", town.active.name, "-o", "name").strip()
        town.pair.wait_condition("Ready", "Unknown", seconds=300)
        message = town.pair.condition("Ready")["message"]
        assert f"{town.active.name}: its node agent is silent since" in message
        # as a person would do it: a kubelet registers its node when it starts, and the label was the object's
        town.active.ssh(["systemctl", "restart", "kubelet.service"])
        wait_for(lambda: town.node_ready(town.active) == "True", "the node to register again", 300, interval=1)
        town.stack.kubectl("label", "node", town.active.name, STORAGE_LABEL)
        wait_for(lambda: not gone(), "a new agent's pod", POD_SECONDS, interval=1)
        town.stack.wait_agents()
        town.stack.wait_operator_pod()
        town.pair.wait_ready(seconds=300)
        town.proves_that_it_acts("more")
    assert town.agent(town.active)["metadata"]["uid"] != before


def condition(pod: dict[str, Any], type_: str) -> str:
    return str(next((c["status"] for c in pod["status"].get("conditions", []) if c["type"] == type_), ""))


def identity(pod: dict[str, Any]) -> tuple[str, int, str]:
    """What tells whether a pod is still the same process: uid, restarts, start of the container."""
    (container,) = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"], container["state"]["running"]["startedAt"]


def memory(town: Town, pod: dict[str, Any]) -> int:
    """The memory in MB that the kernel accounts to a pod, files it has read not counted."""
    node = town.stack.lab.machines[pod["spec"]["nodeName"]]
    uid = pod["metadata"]["uid"].replace("-", "_")
    found = node.ssh(f"cat $(find /sys/fs/cgroup -type d -name '*pod{uid}.slice')/memory.stat").stdout
    return int(next(line.split()[1] for line in found.splitlines() if line.startswith("anon "))) >> 20
