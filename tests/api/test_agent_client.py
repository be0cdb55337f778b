"""The agent's own API client and its loop against a real API server, with the rights that the operator gives a node."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api.operator_world import SYSTEM
from lab.apiclient import ApiError as AdminError
from lab.controlplane import ControlPlane
from lab.kubectl import apply_crds, kubectl
from lab.waiting import SOON, wait_for
from storagepair_crds import views
from storagepair_node_agent import credentials, loop, report
from storagepair_node_agent.actions import Verdict
from storagepair_node_agent.api import Api, ApiError
from storagepair_node_agent.cycle import Pass
from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import HostSnapshot
from storagepair_node_agent.transport import Transport
from storagepair_operator import identities

ROOT = Path(__file__).parents[2]
NODES = "/apis/storagepair.dev/v1alpha1/storagenodes"


@pytest.fixture
def node(control_plane: ControlPlane) -> Iterator[str]:
    """A StorageNode of the test's own, with the node's identity beside it."""
    apply_crds(control_plane.admin_kubeconfig)
    kubectl(control_plane.admin_kubeconfig, "apply", f"--filename={ROOT / 'manifests' / 'namespace.yaml'}")
    document = yaml.safe_load((ROOT / "tests" / "api" / "storagenode.yaml").read_text())
    made = control_plane.client().post(NODES, document)
    key = identities.NodeKey("node1", made["metadata"]["uid"])
    parts = yaml.safe_dump_all([identities.wanted(part, key, SYSTEM) for part in identities.PARTS])
    kubectl(control_plane.admin_kubeconfig, "apply", "--filename=-", stdin=parts)
    yield str(document["metadata"]["name"])
    try:
        control_plane.client().delete(f"{NODES}/node1")
    except AdminError as error:
        assert error.status == 404


@pytest.fixture
def api(control_plane: ControlPlane, node: str, tmp_path: Path) -> Api:
    path = tmp_path / "kubeconfig"
    control_plane.service_account_kubeconfig(SYSTEM, f"storagenode-{node}", path)
    user = credentials.from_kubeconfig(path)
    api = Api(Transport(user.server, user.tls), user, node)
    wait_for(lambda: _reads(api), "the role bindings to count", SOON)
    return api


def _reads(api: Api) -> bool:
    try:
        return api.get() is not None
    except ApiError as error:
        assert error.status == 403, error
        return False


def test_get_watch_and_report(control_plane: ControlPlane, api: Api) -> None:
    began = time.monotonic()
    document = api.get()
    assert document is not None
    seen: list[object] = []

    def watch() -> None:
        with contextlib.suppress(ApiError):  # the stream ends with the API server, when all is tested
            seen.extend(change for change in api.watch(document["metadata"]["resourceVersion"]) if change)

    threading.Thread(target=watch, daemon=True).start()
    status = views.document(views.NodeStatus(observed_generation=1, service=views.ServiceStatus(active=True)))
    answer = api.patch_status(report.merge_patch(document["status"], status))
    assert answer["status"]["service"]["active"] is True
    # what is at its default again is left out of the document: the patch has to say so
    status = views.document(views.NodeStatus(observed_generation=1))
    answer = api.patch_status(report.merge_patch(answer["status"], status))
    assert answer["status"]["service"]["active"] is False
    wait_for(lambda: len(seen) >= 2, "both changes in the watch", SOON)
    assert api.clock_offset_seconds is not None
    # one clock: what differs is the Date's whole seconds and the answer's way
    assert -1 <= api.clock_offset_seconds <= 2 + time.monotonic() - began


def test_a_watch_from_the_past_is_gone_or_served(api: Api) -> None:
    with pytest.raises(ApiError) as error:
        next(iter(api.watch("1")))
    assert error.value.status in (410, 0)


def test_its_rights(control_plane: ControlPlane, api: Api) -> None:
    for name in ("storagenode-node1", "storagenode-node2"):
        secret = {"metadata": {"name": name}, "stringData": {"authkey": "ab" * 32}}
        control_plane.client().post(f"/api/v1/namespaces/{SYSTEM}/secrets", secret)
    assert api.authkey(views.AuthkeysReference(namespace=SYSTEM, name="storagenode-node1")) == "ab" * 32
    for namespace, name in ((SYSTEM, "storagenode-node2"), ("default", "storagenode-node1")):
        with pytest.raises(ApiError, match="403"):
            api.authkey(views.AuthkeysReference(namespace=namespace, name=name))


def test_the_loop_reports_once_and_survives_the_api_server(
    control_plane: ControlPlane, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host that is a folder: the status is written once, a change is seen, an outage is survived."""
    blind = HostSnapshot(None, None, None, None, None, None)
    turns: list[int] = []

    class Still:
        def __init__(self, host: Host) -> None:
            pass

        def run(self, desired: object, clock_offset_seconds: float | None, *_: object) -> Pass:
            turns.append(desired.generation)  # type: ignore[attr-defined]
            return Pass(blind, {"Network": Verdict(True, "Good", "good")})

    monkeypatch.setattr(loop, "Cycle", Still)
    follower = loop.Follower(api, lambda: None)
    this = loop.Loop(Host(tmp_path / "host"), "node1", api, follower, "test")
    follower.start()
    wait_for(lambda: follower.latest is not None, "the object", SOON)
    for _ in range(3):
        this.turn()
    version = control_plane.client().get(f"{NODES}/node1")["metadata"]["resourceVersion"]
    assert follower.latest is not None
    wait_for(lambda: follower.latest["metadata"]["resourceVersion"] == version, "the last write", SOON)  # type: ignore[index]
    for _ in range(3):
        this.turn()
    assert control_plane.client().get(f"{NODES}/node1")["metadata"]["resourceVersion"] == version

    control_plane.stop_apiserver()
    time.sleep(1)
    this.turn()
    control_plane.start_apiserver()
    patch = '{"spec": {"service": "Run"}}'
    kubectl(control_plane.admin_kubeconfig, "patch", "storagenode", "node1", "--type=merge", f"--patch={patch}")
    wait_for(lambda: follower.latest["metadata"]["generation"] == 2, "the change after the outage", SOON)  # type: ignore[index]
    this.turn()
    assert turns[-1] == 2
    wait_for(lambda: _delivered(control_plane, this), "the status after the outage", SOON)


def _delivered(control_plane: ControlPlane, this: loop.Loop) -> bool:
    this.turn()
    return bool(control_plane.client().get(f"{NODES}/node1")["status"]["observedGeneration"] == 2)
