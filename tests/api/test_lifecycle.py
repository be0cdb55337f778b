"""The end of a pair, its way to a new cluster, and deletions that nobody can carry out, on a real API server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from api.operator_agents import Agents
from api.operator_world import API, Operator, Pair, prepare, running
from api.planes import own_plane
from lab.apiclient import ApiError
from lab.binaries import binaries
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.kubectl import KubectlError, apply_crds, kubectl
from lab.waiting import SOON, wait_for

pytestmark = pytest.mark.patient

ABANDON = "storagepair.dev/abandon"


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    """With controllers: it is the real namespace controller that deletes what is in a namespace."""
    binaries("kube-controller-manager", "kube-scheduler")
    with own_plane(keeper, "lifecycle", controllers=True) as plane:
        prepare(plane)
        yield plane


@pytest.fixture
def pair(plane: ControlPlane) -> Iterator[Pair]:
    pair = Pair(plane, f"life-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    yield pair
    pair.forget()


@pytest.fixture
def served(pair: Pair) -> Iterator[Agents]:
    """A pair that serves and shall be torn down when it is deleted, with its agents running."""
    pair.apply(*documents(pair))
    with Agents(pair) as agents:
        yield agents


@pytest.fixture
def operator(plane: ControlPlane) -> Iterator[Operator]:
    with running(plane) as operator:
        yield operator


def documents(pair: Pair) -> list[dict[str, Any]]:
    wanted = pair.documents()
    wanted[0]["spec"]["deletionPolicy"] = "Teardown"
    return wanted


def told(pair: Pair, reason: str) -> str:
    """The note of an event. It comes after what it tells of: the object may be gone before it is there."""

    def note() -> str:
        return next((str(event["note"]) for event in pair.events() if event["reason"] == reason), "")

    return wait_for(note, f"an event with the reason {reason}", SOON)


def test_a_torn_down_pair_ends_in_order_and_the_next_of_its_name_adopts_its_luns(
    pair: Pair, served: Agents, operator: Operator
) -> None:
    pair.wait_served()
    before = pair.get("luns", "datastore1")["status"]
    active, standby = pair.nodes
    pair.kubectl("delete", "storagepair", "vmstore", "--timeout=180s")
    assert served.ended[:2] == [(standby, "Stopped"), (active, "Stopped")]
    assert set(served.ended[2:]) == {(standby, "Removed"), (active, "Removed")}
    assert "the data stays on their disks" in told(pair, "TornDown")
    assert pair.specs()[0].luns, "nothing was taken out of the export table"
    wait_for(lambda: pair.says("Accepted", "luns", "datastore1")[1] == "PairNotFound", "the LUN to miss its pair", SOON)
    pair.apply(*documents(pair))
    pair.wait_served()
    after = pair.get("luns", "datastore1")["status"]
    assert (after["number"], after["serial"]) == (before["number"], before["serial"])
    assert {spec.service for spec in pair.specs()} == {"Run"}


def test_a_deletion_waits_for_a_silent_host_and_says_so_until_it_is_given_up(
    pair: Pair, served: Agents, operator: Operator
) -> None:
    pair.wait_served()
    standby = pair.nodes[1]
    served.silent.add(standby)
    pair.kubectl("delete", "storagepair", "vmstore", "--wait=false")
    wait_for(lambda: pair.says("Ready")[1] == "TearingDown", "the pair to say what it waits for", SOON)
    message = pair.condition("Ready")["message"]
    assert f"waits for {standby}" in message
    assert ABANDON in message
    assert pair.spec(0).service == "Run", "who serves goes on serving"
    pair.kubectl("annotate", "storagepair", "vmstore", f"{ABANDON}=true")
    pair.kubectl("wait", "--for=delete", "storagepair/vmstore", "--timeout=180s")
    assert served.ended == []
    assert pair.spec(0).service == "Run"
    assert told(pair, "Forgotten")


def test_a_teardown_that_the_operator_has_not_seen_yet_is_not_lost(pair: Pair, plane: ControlPlane) -> None:
    """`patch` and `delete` one after the other, as a person types them: the object would be gone before it was held."""
    seen = pair.documents()
    with running(plane), Agents(pair):
        pair.apply(*seen)
        pair.wait_served()
    pair.apply(*documents(pair))
    with pytest.raises(KubectlError, match="has not seen yet that this pair is to be torn down"):
        pair.kubectl("delete", "storagepair", "vmstore")
    with running(plane), Agents(pair) as agents:
        held = lambda: pair.get("storagepairs", "vmstore")["metadata"].get("finalizers")  # noqa: E731
        wait_for(held, "the operator to hold it", SOON)
        pair.kubectl("delete", "storagepair", "vmstore", "--timeout=180s")
        assert set(agents.ended[2:]) == {(node, "Removed") for node in pair.nodes}


@pytest.mark.parametrize("how", ["with its namespace", "as Retain", "as one that was refused"])
def test_a_pair_that_nobody_holds_can_always_be_deleted(pair: Pair, plane: ControlPlane, how: str) -> None:
    wanted, name = documents(pair), "vmstore"
    if how == "as one that was refused":
        with running(plane):
            pair.apply(*pair.documents())
            pair.wait("Accepted", "True")
            name = wanted[0]["metadata"]["name"] = "second"
            pair.apply(wanted[0])
            pair.wait("Accepted", "False", name=name)
    else:
        pair.apply(*wanted)
    if how == "as Retain":
        pair.apply(*pair.documents())
    gone = ("namespace", pair.namespace) if how == "with its namespace" else ("storagepair", name)
    pair.kubectl("delete", *gone, "--timeout=180s")


@pytest.mark.parametrize("loss", ["namespace", "crd"])
def test_without_its_namespace_or_kind_even_a_pair_with_teardown_is_only_forgotten(
    pair: Pair, served: Agents, operator: Operator, plane: ControlPlane, loss: str
) -> None:
    pair.wait_served()
    before = pair.specs()
    if loss == "namespace":
        kubectl(plane.admin_kubeconfig, "delete", "namespace", pair.namespace, "--timeout=180s")
        plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    else:
        kubectl(plane.admin_kubeconfig, "delete", "crd", "storagepairs.storagepair.dev", "--timeout=180s")
        apply_crds(plane.admin_kubeconfig)
        operator.wait_ready()
    assert pair.specs() == before
    assert served.ended == []
    pair.apply(*documents(pair))
    pair.wait_served()


def test_a_new_cluster_takes_a_serving_pair_over_whatever_the_order_of_its_documents(
    pair: Pair, served: Agents, plane: ControlPlane
) -> None:
    """LUN and ACL before their pair, no StorageNode, no key: as a pipeline fills a cluster that never saw the hosts."""
    with running(plane):
        pair.wait_served()
    before = pair.get("luns", "datastore1")["status"]
    _forget_all(pair)
    wanted, lun, acl = documents(pair)
    with running(plane):
        pair.apply(lun, acl)
        wait_for(lambda: pair.says("Ready", "luns", "datastore1")[1] == "PairNotFound", "the LUN to be refused", SOON)
        assert (set(served.luns), served.initiators) == ({"datastore1"}, {"esx"})
        pair.apply(wanted)
        pair.wait_served()
    after = pair.get("luns", "datastore1")["status"]
    assert (after["number"], after["serial"]) == (before["number"], before["serial"])
    assert {spec.service for spec in pair.specs()} == {"Run"}
    assert served.ended == []


def test_a_pruned_lun_that_comes_back_is_the_same_one(pair: Pair, served: Agents, operator: Operator) -> None:
    """Removed from Git by mistake, and put back: its number and serial lie with the file."""
    pair.wait_served()
    lun = pair.documents()[1]
    before = pair.get("luns", "datastore1")["status"]
    pair.kubectl("delete", "lun", "datastore1", "--timeout=180s")
    assert served.luns == {}
    pair.apply(lun)
    pair.wait("Ready", "True", "luns", "datastore1")
    assert pair.get("luns", "datastore1")["status"]["number"] == before["number"]


def test_a_lun_whose_deletion_nobody_confirms_can_be_let_go(pair: Pair, served: Agents, operator: Operator) -> None:
    pair.wait_served()
    served.silent.update(pair.nodes)
    pair.kubectl("delete", "lun", "datastore1", "--wait=false")
    wait_for(
        lambda: pair.says("Ready", "luns", "datastore1")[1] == "Deleting", "the LUN to say what it waits for", SOON
    )
    assert ABANDON in pair.condition("Ready", "luns", "datastore1")["message"]
    other = pair.documents()[1]
    other["metadata"]["name"] = "second"
    pair.apply(other)
    pair.wait("Accepted", "True", "luns", "second")  # so the operator has looked at the pair once more
    assert pair.exists("luns", "datastore1")
    pair.kubectl("annotate", "lun", "datastore1", f"{ABANDON}=true")
    pair.kubectl("wait", "--for=delete", "lun/datastore1", "--timeout=180s")
    served.silent.clear()
    wait_for(lambda: set(served.luns) == {"second"}, "the hosts to do what they were asked for all the same", SOON)


def _forget_all(pair: Pair) -> None:
    """Every object of the pair gone without a trace, the hosts' documents and keys too. The hosts serve on."""
    client = pair.client
    pair.forget()
    for name in pair.nodes:
        client.delete(f"{API}/storagenodes/{name}")
    for name in client.get("/api/v1/namespaces/storagepair-system/secrets")["items"]:
        if name["metadata"]["name"].startswith(f"{pair.namespace}."):
            client.delete(f"/api/v1/namespaces/storagepair-system/secrets/{name['metadata']['name']}")
    with pytest.raises(ApiError):
        client.get(f"{API}/storagenodes/{pair.nodes[0]}")
