"""An API server that is slow, that throttles, that restarts, and a kind that goes and comes back: the agent's follower
asks again with growing pauses, makes no storm, and has the newest document in the end.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api.gate import Gate
from api.operator_world import SYSTEM
from api.planes import own_plane
from api.relay import Relay
from api.traffic import Traffic
from lab.apiclient import ApiError
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.kubectl import apply_crds, kubectl
from lab.waiting import SOON, wait_for
from storagepair_node_agent import credentials
from storagepair_node_agent.api import Api
from storagepair_node_agent.loop import Follower
from storagepair_node_agent.transport import Transport
from storagepair_operator import identities

ROOT = Path(__file__).parents[2]
NODES = "/apis/storagepair.dev/v1alpha1/storagenodes"
CRD = "storagenodes.storagepair.dev"
WINDOW_SECONDS = 10.0
FEW = 60
"""Requests of one agent within the window: it makes a handful. The storm after a restart was 264 on a busy machine."""

_numbers = itertools.count()


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    with own_plane(keeper, "agent-weather") as plane:
        # without the policies: here the test is the operator
        apply_crds(plane.admin_kubeconfig)
        kubectl(plane.admin_kubeconfig, "apply", f"--filename={ROOT / 'manifests' / 'namespace.yaml'}")
        yield plane


@dataclasses.dataclass(frozen=True)
class Node:
    """A StorageNode with its identity, and a follower of it behind a relay."""

    plane: ControlPlane
    name: str
    relay: Relay
    traffic: Traffic
    follower: Follower

    @property
    def path(self) -> str:
        return f"{NODES}/{self.name}"

    def create(self) -> str:
        """Its object, as the operator makes it; the UID."""
        return str(create(self.plane, self.name)["metadata"]["uid"])

    def change(self, deadtime: int) -> None:
        patch = {"spec": {"heartbeat": {"deadtimeSeconds": deadtime}}}
        self.plane.client().request("PATCH", self.path, patch)

    def sees(self, what: Callable[[dict[str, Any] | None], bool], words: str) -> None:
        wait_for(lambda: what(self.follower.latest), words, SOON)

    def sees_change(self, deadtime: int) -> None:
        self.change(deadtime)
        self.sees(lambda d: d is not None and d["spec"]["heartbeat"]["deadtimeSeconds"] == deadtime, "the change")

    def is_few(self) -> None:
        assert self.traffic.within(WINDOW_SECONDS) < FEW


def create(plane: ControlPlane, name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "tests" / "api" / "storagenode.yaml").read_text())
    document["metadata"]["name"] = name
    return dict(plane.client().post(NODES, document))


def follow(plane: ControlPlane, name: str, server: str, kubeconfig: Path) -> Follower:
    """The agent's own client and its thread, with the node's own token."""
    user = credentials.from_kubeconfig(
        plane.service_account_kubeconfig(SYSTEM, f"storagenode-{name}", kubeconfig, server=server)
    )
    follower = Follower(Api(Transport(user.server, user.tls), user, name), lambda: None)
    follower.start()
    return follower


@pytest.fixture
def node(plane: ControlPlane, tmp_path: Path) -> Iterator[Node]:
    name = f"w{next(_numbers)}"
    key = identities.NodeKey(name, create(plane, name)["metadata"]["uid"])
    parts = yaml.safe_dump_all([identities.wanted(part, key, SYSTEM) for part in identities.PARTS])
    kubectl(plane.admin_kubeconfig, "apply", "--filename=-", stdin=parts)
    relay, traffic = Relay(plane.port), Traffic(plane, f"storagenode-{name}")
    node = Node(plane, name, relay, traffic, follow(plane, name, relay.url, tmp_path / "kubeconfig"))
    node.sees(lambda document: document is not None, "the object")
    yield node
    relay.cut()  # nobody ends a follower
    try:
        plane.client().delete(node.path)
    except ApiError as error:
        assert error.status == 404


def test_slow_answers_make_it_slow_and_nothing_else(node: Node) -> None:
    node.relay.delay_seconds = 2.0
    node.sees_change(30)
    # no answer comes in time, not even that the connection stands
    node.relay.delay_seconds = 12.0
    node.relay.cut()
    node.relay.mend()
    node.change(31)
    node.is_few()
    node.relay.delay_seconds = 0.0
    node.sees_change(32)
    node.is_few()


def test_a_throttling_api_server_is_left_alone(plane: ControlPlane, node: Node, tmp_path: Path) -> None:
    """429 with Retry-After to everything, its watch too."""
    gate = Gate(plane)
    follower = follow(plane, node.name, gate.url, tmp_path / "gated")
    gated = dataclasses.replace(node, follower=follower)
    gated.sees(lambda document: document is not None, "the object")
    gate.throttle()
    gated.change(30)
    assert gate.within(WINDOW_SECONDS) < FEW
    assert follower.latest is not None
    assert follower.latest["spec"]["heartbeat"]["deadtimeSeconds"] == 5
    gate.busy = False
    gated.sees_change(31)
    assert gate.within(WINDOW_SECONDS) < FEW
    gate.shutdown()
    gate.throttle()  # nobody ends a follower


def test_a_restart_makes_no_storm_when_nothing_was_new_for_long(plane: ControlPlane, node: Node) -> None:
    """The object's own version is older than all that a fresh API server remembers: a watch from there is 410 Gone,
    and reading the object again gives the same old version."""
    for number in range(3):
        create(plane, f"{node.name}-other-{number}")
    plane.stop_apiserver()
    plane.start_apiserver()
    wait_for(lambda: node.traffic.count() > 0, "the follower to be back", SOON)
    node.is_few()
    node.sees_change(30)


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made-anew"])
def test_what_happened_behind_a_cut_is_seen(plane: ControlPlane, node: Node, again: bool) -> None:
    node.relay.cut()
    plane.client().delete(node.path)
    uid = node.create() if again else ""
    plane.stop_apiserver()
    plane.start_apiserver()
    node.relay.mend()
    node.sees(lambda document: (document or {"metadata": {"uid": ""}})["metadata"]["uid"] == uid, "what is true now")
    node.is_few()
    if again:
        node.sees_change(30)


def test_a_kind_that_goes_and_comes_back(plane: ControlPlane, node: Node) -> None:
    """The follower has no document then, and the host goes on with the one that it keeps."""
    kubectl(plane.admin_kubeconfig, "delete", "crd", CRD, "--timeout=180s")
    node.sees(lambda document: document is None, "the object to be gone")
    node.is_few()
    apply_crds(plane.admin_kubeconfig)
    node.is_few()
    uid = node.create()
    node.sees(lambda document: document is not None and document["metadata"]["uid"] == uid, "the new object")
    node.sees_change(30)
    node.is_few()
    assert node.traffic.count() > 5, "the meter counts"
