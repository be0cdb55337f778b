"""What must not take anything from a host: a deleted CRD or namespace, and a view that is not the whole truth."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
from api.operator_agents import Agents
from api.operator_world import Operator, Pair, prepare, running
from api.planes import own_plane
from api.relay import Relay
from lab.binaries import binaries
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.kubectl import apply_crds, kubectl
from lab.waiting import SOON, wait_for

LUNS_CRD = "luns.storagepair.dev"


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    """With controllers: it is the real namespace controller that deletes what is in a namespace."""
    binaries("kube-controller-manager", "kube-scheduler")
    with own_plane(keeper, "guards", controllers=True) as plane:
        prepare(plane)
        yield plane


@pytest.fixture
def pair(plane: ControlPlane) -> Iterator[Pair]:
    pair = Pair(plane, f"guard-{secrets.token_hex(3)}")
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    yield pair
    pair.forget()


@pytest.fixture
def served(pair: Pair) -> Iterator[Agents]:
    """A pair that serves, with its agents running."""
    pair.apply()
    with Agents(pair) as agents:
        yield agents


@pytest.fixture
def operator(plane: ControlPlane) -> Iterator[Operator]:
    with running(plane) as operator:
        yield operator


def test_a_deleted_namespace_takes_nothing_from_the_hosts(
    pair: Pair, served: Agents, operator: Operator, plane: ControlPlane
) -> None:
    pair.wait_served()
    before = pair.specs()
    kubectl(plane.admin_kubeconfig, "delete", "namespace", pair.namespace, "--timeout=180s")
    assert pair.specs() == before
    assert (set(served.luns), served.initiators) == ({"datastore1"}, {"esx"})
    # restored from Git, in the same order as ever: numbers and keys are what they were
    plane.client().post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    pair.apply()
    pair.wait_served()
    assert pair.spec().luns == before[0].luns
    assert pair.get("luns", "datastore1")["status"]["serial"] == "beaf1"


@pytest.mark.parametrize("crd", [LUNS_CRD, "storagepairs.storagepair.dev", "initiatoracls.storagepair.dev"])
def test_a_deleted_crd_takes_nothing_from_the_hosts(
    pair: Pair, served: Agents, operator: Operator, plane: ControlPlane, crd: str
) -> None:
    pair.wait_served()
    before = pair.specs()
    kubectl(plane.admin_kubeconfig, "delete", "crd", crd, "--timeout=180s")
    assert pair.specs() == before
    assert (set(served.luns), served.initiators) == ({"datastore1"}, {"esx"})
    wait_for(lambda: not operator.ready, "the operator to see that its view is not whole", SOON)
    apply_crds(plane.admin_kubeconfig)
    operator.wait_ready()
    assert pair.specs() == before
    pair.apply()
    pair.wait_served()
    assert [spec.luns for spec in pair.specs()] == [spec.luns for spec in before]
    assert (set(served.luns), served.initiators) == ({"datastore1"}, {"esx"})


def test_what_happened_behind_a_cut_is_seen_by_itself(pair: Pair, served: Agents, plane: ControlPlane) -> None:
    """An object deleted and one made while the operator was cut off, and the API server restarted meanwhile: its
    watches get 410 Gone and list again, and no list says what is missing in it."""
    relay = Relay(plane.port)
    with running(plane, server=relay.url) as operator:
        _, lun, acl = pair.documents()
        lun["metadata"]["name"] = "second"
        acl["metadata"]["name"] = "second"
        pair.apply(lun, acl)
        pair.wait_served()
        pair.wait("Ready", "True", "luns", "second")
        before = pair.spec()
        relay.cut()
        for plural in ("luns", "initiatoracls"):
            # gone without a trace: somebody took its finalizer off by hand
            item = pair.get(plural, "second")
            item["metadata"]["finalizers"] = []
            pair.client.request("PUT", pair.path(plural, "second"), item)
            pair.client.delete(pair.path(plural, "second"))
        lun["metadata"]["name"] = "third"
        pair.apply(lun)
        plane.stop_apiserver()
        plane.start_apiserver()
        wait_for(lambda: not operator.ready, "the operator to notice", SOON)
        relay.mend()
        pair.wait("Ready", "True", "luns", "third")
        wait_for(lambda: pair.get("storagepairs", "vmstore")["status"]["luns"] == 2, "the right number of LUNs", SOON)
        operator.wait_ready()
        log = operator.log.read_text()
        assert f"LUN {pair.namespace}/second" in log
        # the hosts keep what merely vanished, and the pair says so
        assert {lun.name: lun.state for lun in pair.spec().luns} == {
            "datastore1": "Present",
            "second": "Present",
            "third": "Present",
        }
        assert pair.spec().targets == before.targets
        message = pair.condition("Accepted")["message"]
        assert "kept though its object is gone: LUN second, InitiatorACL second" in message
        assert set(served.luns) == {"datastore1", "second", "third"}


def test_a_deletion_seen_after_a_cut_is_carried_out(pair: Pair, served: Agents, plane: ControlPlane) -> None:
    """The finalizer keeps a deletion that nobody saw."""
    relay = Relay(plane.port)
    with running(plane, server=relay.url):
        pair.wait_served()
        relay.cut()
        pair.kubectl("delete", "lun", "datastore1", "--wait=false")
        time.sleep(1)
        assert set(served.luns) == {"datastore1"}
        relay.mend()
        wait_for(lambda: not pair.exists("luns", "datastore1"), "the LUN to go", SOON)
        assert served.luns == {}


def test_nothing_is_written_while_the_lists_cannot_be_read(pair: Pair, served: Agents, plane: ControlPlane) -> None:
    """Watches that were opened in time go on; the audit fails, and the operator holds still."""
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/storagepair-operator"
    with running(plane, audit_seconds=1) as operator:
        pair.wait_served()
        rights = plane.client().get(role)
        less = [
            rule if "failovers" not in rule["resources"] else rule | {"resources": ["luns"]} for rule in rights["rules"]
        ]
        plane.client().request("PUT", role, rights | {"rules": less})
        try:
            wait_for(lambda: not operator.ready, "the audit to fail", SOON)
            mark = plane.audit.mark()
            _, lun, _ = pair.documents()
            lun["metadata"]["name"] = "second"
            pair.apply(lun)
            time.sleep(3)
            assert pair.written(mark) == []
        finally:
            current = plane.client().get(role)
            plane.client().request("PUT", role, current | {"rules": rights["rules"]})
        pair.wait("Ready", "True", "luns", "second")


def test_without_its_crds_an_operator_lets_go_and_waits(pair: Pair, served: Agents, plane: ControlPlane) -> None:
    """Uninstalled all at once, in the alphabet's order or any other: finalizers hold up nothing."""
    kinds = ("failovers", "initiatoracls", "luns", "storagepairs", "switchovers")
    names = [f"{kind}.storagepair.dev" for kind in kinds]
    with running(plane):
        pair.wait_served()
        before = pair.specs()
        kubectl(plane.admin_kubeconfig, "delete", "crd", *reversed(names), "--timeout=180s")
    fresh = Operator(plane).start(ready=False)
    fresh.wait_log("the lists can't be read")
    assert not fresh.ready
    assert pair.specs() == before
    apply_crds(plane.admin_kubeconfig)
    fresh.wait_ready()
    pair.apply()
    pair.wait_served()
    assert [spec.luns for spec in pair.specs()] == [spec.luns for spec in before]
    assert fresh.stop() == 0


def test_of_two_operators_one_acts_and_the_other_takes_over(plane: ControlPlane, pair: Pair, served: Agents) -> None:
    first = Operator(plane).start()
    wait_for(lambda: "leads" in first.log.read_text(), "the first one to lead", SOON)
    with running(plane) as second:
        pair.wait_served()
        assert first.writes > 0
        assert second.writes == 0
        first.crash()
        pair.kubectl("delete", "lun/datastore1", "--timeout=180s")
        assert served.luns == {}
        assert second.writes > 0
    items = [event for event in pair.events() if event["action"] == "Ready" and event["reason"] == "Ready"]
    assert len(items) == 1
