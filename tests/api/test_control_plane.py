"""The control plane that all other API and end-to-end tests stand on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api import planes
from lab.apiclient import ApiClient, ApiError, ApiUnreachable
from lab.binaries import ASSETS_VARIABLE, binaries, kubernetes_version
from lab.controlplane import ControlPlane, ControlPlaneError
from lab.keeper import Keeper
from lab.kubectl import apply_crds, kubectl
from lab.waiting import SOON, wait_for

NAMESPACES = "/api/v1/namespaces"


def names(plane: ControlPlane, path: str) -> set[str]:
    return {item["metadata"]["name"] for item in plane.client().get(path)["items"]}


def create_config_map(plane: ControlPlane, name: str) -> None:
    plane.client().post(f"{NAMESPACES}/default/configmaps", {"metadata": {"name": name}})


@pytest.fixture(scope="module")
def own_plane(keeper: Keeper) -> Iterator[ControlPlane]:
    """A second control plane beside the session's, for tests that stop it; each leaves it running."""
    with planes.own_plane(keeper, "own") as plane:
        yield plane


def test_it_is_ready_in_seconds_with_its_controllers(keeper: Keeper, tmp_path: Path) -> None:
    binaries("kube-controller-manager", "kube-scheduler")
    started = time.monotonic()
    plane = ControlPlane.start(keeper, tmp_path / "full", controllers=True)
    assert time.monotonic() - started < 60, "ten times what a quiet machine needs"
    assert plane.client().get("/version")["gitVersion"] == f"v{kubernetes_version()}"
    assert "default" in names(plane, f"{NAMESPACES}/default/serviceaccounts")
    create_config_map(plane, "owner")
    owner = plane.client().get(f"{NAMESPACES}/default/configmaps/owner")["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner}
    owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    plane.client().post(f"{NAMESPACES}/default/configmaps", owned)
    plane.client().delete(f"{NAMESPACES}/default/configmaps/owner")
    wait_for(lambda: "owned" not in names(plane, f"{NAMESPACES}/default/configmaps"), "garbage collection", SOON)
    plane.client().post(NAMESPACES, {"metadata": {"name": "passing"}})
    plane.client().delete(f"{NAMESPACES}/passing")
    wait_for(lambda: "passing" not in names(plane, NAMESPACES), "the namespace to go", SOON)
    plane.stop()
    assert not [name for name in keeper.running() if name.startswith(str(tmp_path))]


def test_an_unprivileged_token_is_refused(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    admin = control_plane.client()
    admin.post(f"{NAMESPACES}/{namespace}/serviceaccounts", {"metadata": {"name": "nobody"}})
    path = control_plane.service_account_kubeconfig(namespace, "nobody", tmp_path / "nobody.kubeconfig")
    nobody = ApiClient(path)
    config_maps = f"{NAMESPACES}/{namespace}/configmaps"
    with pytest.raises(ApiError, match="cannot list resource") as refused:
        nobody.get(config_maps)
    assert refused.value.status == 403
    # the view role itself is aggregated from this one by a controller, and none runs here
    role = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:aggregate-to-view",
    }
    binding = {
        "metadata": {"name": "nobody"},
        "roleRef": role,
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": namespace}],
    }
    admin.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)
    wait_for(lambda: _allowed(nobody, config_maps), "the role binding to count", SOON)
    with pytest.raises(ApiError, match="cannot list resource") as refused:
        nobody.get("/api/v1/secrets")
    assert refused.value.status == 403


def test_no_credentials_at_all_are_refused(control_plane: ControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "stranger.kubeconfig"
    control_plane.pki.write_kubeconfig(path, "stranger", control_plane.url, {"token": "guessed"})
    with pytest.raises(ApiError) as refused:
        ApiClient(path).get("/readyz")
    assert refused.value.status == 401


def test_a_node_sees_itself_only(control_plane: ControlPlane, tmp_path: Path) -> None:
    admin = control_plane.client()
    for name in ("node1", "node2"):
        admin.post("/api/v1/nodes", {"metadata": {"name": name}})
    config = yaml.safe_load(control_plane.kubeconfig_for_node("node1").read_text())
    assert config["clusters"][0]["cluster"]["server"] == f"https://10.0.2.2:{control_plane.port}"
    node1 = ApiClient(control_plane.pki.kubeconfig("node1", control_plane.url, tmp_path / "node1"))
    assert node1.get("/api/v1/nodes/node1")["metadata"]["name"] == "node1"
    with pytest.raises(ApiError, match="only its own Node object") as refused:
        node1.get("/api/v1/nodes/node2")
    assert refused.value.status == 403
    with pytest.raises(ControlPlaneError, match="node3 is not a node here"):
        control_plane.kubeconfig_for_node("node3")


def test_a_token_bound_to_a_node_carries_its_name(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    admin = control_plane.client()
    admin.post("/api/v1/nodes", {"metadata": {"name": "bound"}})
    admin.post(f"{NAMESPACES}/{namespace}/serviceaccounts", {"metadata": {"name": "agent"}})
    path = control_plane.service_account_kubeconfig(namespace, "agent", tmp_path / "agent", node="bound")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = ApiClient(path).post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    extra = answer["status"]["userInfo"]["extra"]
    assert extra["authentication.kubernetes.io/node-name"] == ["bound"]


def test_two_stand_side_by_side(control_plane: ControlPlane, own_plane: ControlPlane) -> None:
    assert control_plane.port != own_plane.port
    create_config_map(own_plane, "only-here")
    assert "only-here" in names(own_plane, f"{NAMESPACES}/default/configmaps")
    assert "only-here" not in names(control_plane, f"{NAMESPACES}/default/configmaps")
    stranger = own_plane.admin_kubeconfig.read_text().replace(str(own_plane.port), str(control_plane.port))
    path = own_plane.folder / "stranger.kubeconfig"
    path.write_text(stranger)
    with pytest.raises(ApiUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        ApiClient(path).get("/readyz")


def test_the_api_server_comes_back_where_it_was(own_plane: ControlPlane) -> None:
    create_config_map(own_plane, "kept")
    before = time.time()
    assert before <= own_plane.stop_apiserver() <= time.time()
    with pytest.raises(ApiUnreachable):
        own_plane.client().get("/readyz")
    own_plane.start_apiserver()
    assert "kept" in names(own_plane, f"{NAMESPACES}/default/configmaps")


def test_a_stopped_plane_starts_again_with_its_data(own_plane: ControlPlane, keeper: Keeper) -> None:
    create_config_map(own_plane, "kept-too")
    own_plane.stop()
    again = ControlPlane.start(keeper, own_plane.folder, controllers=False)
    assert again.url == own_plane.url
    assert "kept-too" in names(own_plane, f"{NAMESPACES}/default/configmaps")
    opened = ControlPlane.open(Keeper.connect(keeper.run_dir), own_plane.folder)
    assert "kept-too" in names(opened, f"{NAMESPACES}/default/configmaps")


def test_save_is_not_noticed_and_restore_goes_back(own_plane: ControlPlane, keeper: Keeper) -> None:
    create_config_map(own_plane, "before")
    processes = keeper.running()
    own_plane.save("tag")
    assert keeper.running() == processes
    create_config_map(own_plane, "after")
    for _ in range(2):
        own_plane.restore("tag")
        found = names(own_plane, f"{NAMESPACES}/default/configmaps")
        assert "before" in found
        assert "after" not in found
        create_config_map(own_plane, "after")
    with pytest.raises(ControlPlaneError, match="nothing was saved as 'other'"):
        own_plane.restore("other")


def test_a_save_under_load_keeps_what_was_acknowledged(own_plane: ControlPlane) -> None:
    for number in range(100):
        create_config_map(own_plane, f"before-{number}")
    own_plane.save("loaded")
    create_config_map(own_plane, "after-load")
    own_plane.restore("loaded")
    found = names(own_plane, f"{NAMESPACES}/default/configmaps")
    assert {f"before-{number}" for number in range(100)} <= found
    assert "after-load" not in found


def test_writes_are_counted_and_reads_are_not(control_plane: ControlPlane, namespace: str) -> None:
    mark = control_plane.audit.mark()
    path = f"{NAMESPACES}/{namespace}/configmaps"
    control_plane.client().post(path, {"metadata": {"name": "counted"}})
    control_plane.client().get(path)
    control_plane.client().delete(f"{path}/counted")

    def mine() -> list[tuple[str, str, str, int]]:
        writes = control_plane.audit.writes(mark)
        return [(w.user, w.verb, w.name, w.status) for w in writes if w.namespace == namespace]

    wait_for(lambda: len(mine()) >= 2, "the audit log", SOON)
    assert mine() == [("admin", "create", "counted", 201), ("admin", "delete", "counted", 200)]


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of its own needs root")
def test_only_the_api_server_knows_the_nodes_by_name(control_plane: ControlPlane, keeper: Keeper) -> None:
    pid = next(pid for name, pid in keeper.running().items() if name.endswith("session/kube-apiserver"))
    assert "127.0.0.11 node1\n" in Path(f"/proc/{pid}/root/etc/hosts").read_text()
    assert "127.0.0.11 node1\n" not in Path("/etc/hosts").read_text()


def test_a_failed_start_tells_why_and_leaves_nothing(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "kube-apiserver"
    fake.write_text("#!/bin/sh\necho the sky fell down\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
    with pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver ended.*the sky fell down"):
        ControlPlane.start(keeper, tmp_path / "failing", controllers=False)
    assert not [name for name in keeper.running() if name.startswith(str(tmp_path))]


def test_nothing_outlives_a_killed_keeper(tmp_path: Path, keeper: Keeper) -> None:
    own = Keeper.start(keeper.run_dir / "own", owner_pid=os.getpid())
    plane = ControlPlane.start(own, tmp_path / "doomed", controllers=False)
    pids = list(own.running().values())
    assert len(pids) == 2
    os.kill(own.pid, signal.SIGKILL)
    wait_for(lambda: not any(_alive(pid) for pid in pids), "both processes to end", SOON)
    with pytest.raises(ApiUnreachable):
        plane.client().get("/readyz")


def test_crds_are_served_when_apply_crds_returns(control_plane: ControlPlane, tmp_path: Path) -> None:
    versions = [{"name": "v1", "served": True, "storage": True}]
    versions[0]["schema"] = {"openAPIV3Schema": {"type": "object"}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.lab.example"},
        "spec": {
            "group": "lab.example",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": versions,
        },
    }
    (tmp_path / "things.yaml").write_text(yaml.safe_dump(crd))
    assert apply_crds(control_plane.admin_kubeconfig, tmp_path) == ["things.lab.example"]
    thing = {"apiVersion": "lab.example/v1", "kind": "Thing", "metadata": {"name": "one"}}
    kubectl(control_plane.admin_kubeconfig, "create", "-f", "-", stdin=yaml.safe_dump(thing))
    assert kubectl(control_plane.admin_kubeconfig, "get", "things", "-o=name") == "thing.lab.example/one\n"


def _allowed(client: ApiClient, path: str) -> bool:
    try:
        client.get(path)
    except ApiError as error:
        assert error.status == 403
        return False
    return True


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # a zombie has ended; who reaps orphans here is the machine's business
    return stat.rpartition(")")[2].split()[0] not in "ZX"
