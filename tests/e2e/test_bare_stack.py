"""The stack itself: real kubelets, the agents' pods on them, and what becomes of both when power or state is lost."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest
from lab.kubectl import KubectlError, kubectl
from lab.stack import NAMESPACE, Stack
from lab.waiting import SOON, wait_for

SELECTOR = "app.kubernetes.io/name=storagepair-node-agent"
# an emulated machine boots, starts its kubelet and then the pod
BACK_SECONDS = 300


def identity(stack: Stack, node: str) -> tuple[str, int, str]:
    """What tells whether the agent's pod on `node` is still the same process: uid, restarts, start of the container."""
    pod = stack.agent_pod(node)
    assert pod is not None, f"no agent's pod on {node}"
    (container,) = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"], container["state"]["running"]["startedAt"]


@pytest.mark.looks_only
def test_the_agents_run_as_pods_of_the_daemonset_on_real_nodes(bare: Stack) -> None:
    nodes = bare.kubectl("get", "nodes", "--no-headers").splitlines()
    assert [line.split()[:2] for line in nodes] == [["node1", "Ready"], ["node2", "Ready"]]
    counts = "jsonpath={.status.numberReady} {.status.desiredNumberScheduled}"
    daemonset = ["get", "daemonset", "storagepair-node-agent", "-n", NAMESPACE]
    assert bare.kubectl(*daemonset, "-o", counts).split() == ["2", "2"]
    for node in ("node1", "node2"):
        assert f"on {node}, API server https://" in bare.agent_log(node), "kubectl logs"
        pod = bare.agent_pod(node)
        assert pod is not None
        inside = ["exec", "-n", NAMESPACE, pod["metadata"]["name"], "--"]
        host = ["nsenter", "--target", "1", "--mount", "--uts", "--net", "--"]
        assert bare.kubectl(*inside, *host, "uname", "-n").strip() == node
        assert bare.kubectl(*inside, *host, "systemctl", "is-active", "kubelet").strip() == "active"
        assert bare.kubectl(*inside, "cat", "/etc/debian_version").startswith("13"), "the image's own files"


@pytest.mark.looks_only
def test_a_kubelet_may_not_touch_the_other_node(bare: Stack, tmp_path: Path) -> None:
    mine = bare.plane.pki.kubeconfig("node1", bare.plane.url, tmp_path / "node1.kubeconfig")
    assert kubectl(mine, "get", "node", "node1", "-o", "name").strip() == "node/node1"
    secret = ["get", "secrets", "-n", NAMESPACE]
    for arguments in (
        ["label", "node", "node2", "is=mine"],
        ["get", "node", "node2"],
        ["delete", "node", "node2"],
        secret,
    ):
        with pytest.raises(KubectlError, match="orbidden"):
            kubectl(mine, *arguments)


@pytest.mark.drill
def test_a_pods_real_token_is_good_for_its_own_node_only(bare: Stack, tmp_path: Path) -> None:
    """As the kubelet has put it into the pod."""
    pod = bare.agent_pod("node1")
    assert pod is not None
    inside = ["exec", "-n", NAMESPACE, pod["metadata"]["name"], "--"]
    token = bare.kubectl(*inside, "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token").strip()
    path = tmp_path / "pod.kubeconfig"
    bare.plane.pki.write_kubeconfig(path, "pod", bare.plane.url, {"token": token}, NAMESPACE)
    for node in ("node1", "node2"):
        bare.kubectl("create", "serviceaccount", f"storagenode-{node}", "-n", NAMESPACE)
    assert kubectl(path, "create", "token", "storagenode-node1", "-n", NAMESPACE).strip()
    with pytest.raises(KubectlError, match="its pod runs on, which is node1"):
        kubectl(path, "create", "token", "storagenode-node2", "-n", NAMESPACE)
    with pytest.raises(KubectlError, match="orbidden"):
        kubectl(path, "get", "secrets", "-n", NAMESPACE)


@pytest.mark.drill
def test_operator_and_agent_can_be_restarted(bare: Stack) -> None:
    before = identity(bare, "node1")
    bare.restart_agent("node1")
    assert identity(bare, "node1")[0] != before[0]
    bare.restart_operator()
    assert "storagepair_operator_writes_total" in bare.operator_metrics()


@pytest.mark.drill
def test_frozen_kubelets_leave_the_pods_running(bare: Stack) -> None:
    before = [identity(bare, node.name) for node in bare.lab.nodes]
    bare.freeze_kubelets()
    states = [node.ssh("systemctl show -P FreezerState kubelet containerd").stdout.split() for node in bare.lab.nodes]
    assert states == [["frozen", "frozen"]] * 2
    bare.wait_agents()
    bare.thaw_kubelets()
    frozen_at = time.time()
    wait_for(lambda: all(_lease_renewed(bare, node.name, frozen_at) for node in bare.lab.nodes), "the kubelets", SOON)
    assert [identity(bare, node.name) for node in bare.lab.nodes] == before


@pytest.mark.drill
def test_after_a_power_cut_the_agents_pod_comes_back_by_itself(bare: Stack) -> None:
    uid, restarts, _ = identity(bare, "node2")
    bare.lab.node2.power_cut()
    bare.lab.node2.power_up()
    bare.lab.node2.wait_ssh()
    started = time.monotonic()
    bare.wait_agents(bare.lab.node2)
    print(f"the agent follows the API server {time.monotonic() - started:.1f} s after ssh worked")
    wait_for(lambda: identity(bare, "node2")[1] > restarts, "the pod's status to tell of the restart", BACK_SECONDS)
    assert identity(bare, "node2")[0] == uid, "the same pod, with a new container"


@pytest.mark.drill
def test_a_restored_pod_goes_on_as_if_nothing_had_happened(bare: Stack) -> None:
    before = [identity(bare, node.name) for node in bare.lab.nodes]
    bare.snapshot("here")
    bare.kubectl("create", "configmap", "future", "--namespace=default")
    bare.kubectl("delete", "pods", "--namespace", NAMESPACE, "--selector", SELECTOR, "--wait=false")
    started = time.monotonic()
    bare.restore("here")
    print(f"restored in {time.monotonic() - started:.1f} s")
    assert [identity(bare, node.name) for node in bare.lab.nodes] == before
    with pytest.raises(KubectlError, match="not found"):
        bare.kubectl("get", "configmap", "future", "--namespace=default")
    # the kubelets too: they renew their leases, and answer
    since = time.time()
    wait_for(lambda: all(_lease_renewed(bare, node.name, since) for node in bare.lab.nodes), "the kubelets", SOON)
    assert "API server https://" in bare.agent_log("node1")


def _lease_renewed(stack: Stack, node: str, since: float) -> bool:
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"
    renewed = stack.plane.client().get(path)["spec"]["renewTime"]
    return datetime.datetime.fromisoformat(renewed).timestamp() > since
