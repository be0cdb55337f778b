"""Least privilege, tried with the real tokens: what nobody may do, each with what he may beside it."""

from __future__ import annotations

import copy
import itertools
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from api.operator_world import API, SYSTEM, Pair, running
from api.permissions_world import AGENT, NODES, OPERATOR, RBAC, World, refusal, rule
from api.planes import own_plane
from lab.apiclient import ApiClient, ApiError
from lab.keeper import Keeper
from lab.waiting import SOON, wait_for
from storagepair_node_agent.api import Api
from storagepair_node_agent.api import ApiError as AgentError
from storagepair_node_agent.nodetoken import NoIdentity

pytestmark = pytest.mark.patient

STATUS = {"status": {"agentVersion": "test"}}


@pytest.fixture(scope="module")
def world(keeper: Keeper) -> Iterator[World]:
    with own_plane(keeper, "permissions") as plane:
        world = World(plane)
        world.prepare()
        yield world


@pytest.fixture(scope="module")
def pair(world: World) -> Iterator[Pair]:
    """A pair of both nodes, of which the operator has made what it makes."""
    pair = Pair(world.plane, "users", index=1)
    world.admin.post("/api/v1/namespaces", {"metadata": {"name": pair.namespace}})
    with running(world.plane):
        pair.apply(*pair.documents(nodes=NODES))
        for node in NODES:
            wait_for(partial(exists, world.admin, account(node)), f"the account of {node}", SOON)
        yield pair


def account(node: str) -> str:
    return f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/storagenode-{node}"


def node_path(node: str, subresource: str = "") -> str:
    return f"{API}/storagenodes/{node}{subresource}"


def exists(client: ApiClient, path: str) -> bool:
    try:
        client.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


@pytest.fixture(scope="module")
def node1(world: World, pair: Pair) -> ApiClient:
    """With the token of storagenode-node1, once its rights count."""
    client = world.client("storagenode-node1")
    wait_for(lambda: not refusal(client, "GET", node_path("node1")), "the rights of node1", SOON)
    return client


# ------------------------------------------------------------------------------------------- the agents' tokens


def test_an_agent_becomes_its_own_node(world: World, pair: Pair) -> None:
    token, transport = world.node_token("node1", pod_on="node1")
    api = Api(transport, token, "node1")
    wait_for(lambda: _document(api), "the StorageNode", SOON)
    answer = api.patch_status({"agentVersion": "test"})
    assert answer["status"]["agentVersion"] == "test"
    change = next(each for each in api.watch("0") if each is not None)
    assert change.document["metadata"]["name"] == "node1"


def _document(api: Api) -> object:
    try:
        return api.get()
    except AgentError as error:
        assert error.status == 403, error  # the binding is just being learnt
        return None


@pytest.mark.parametrize(
    ("node", "pod_on"), [("node2", "node1"), ("node1", "node2"), ("node1", None)], ids=["other", "swapped", "no-pod"]
)
def test_an_agent_gets_no_other_nodes_token(world: World, pair: Pair, node: str, pod_on: str | None) -> None:
    token, _ = world.node_token(node, pod_on=pod_on)
    with pytest.raises(NoIdentity, match="the token of the node that its pod runs on") as refused:
        token.headers()
    assert "403" in str(refused.value)
    assert (pod_on or "not a token of a pod") in str(refused.value)


def test_a_node_without_a_pair_has_no_identity_and_the_agent_says_what_it_waits_for(world: World) -> None:
    world.admin.post("/api/v1/nodes", {"metadata": {"name": "spare"}})
    spec = {"nodeName": "spare", "serviceAccountName": AGENT, "containers": [{"name": "agent", "image": "x"}]}
    world.admin.post(f"{world.system}/pods", {"metadata": {"name": "agent-spare"}, "spec": spec})
    token, _ = world.node_token("spare", pod_on="spare")
    with pytest.raises(NoIdentity, match=r"no service account storagenode-spare yet.*when a StoragePair names node"):
        token.headers()


def test_the_daemonsets_account_gets_nothing_else(world: World, pair: Pair) -> None:
    agent = world.client(AGENT, pod_on="node1")
    for name in ("storagepair-operator", AGENT, "storagenode-node2"):
        path = f"{world.system}/serviceaccounts/{name}/token"
        assert "the node that its pod runs on, which is node1" in refusal(agent, "POST", path, token_request(3600))
    path = f"{account('node1')}/token"
    assert not refusal(agent, "POST", path, token_request(3600))
    assert "an hour at most" in refusal(agent, "POST", path, token_request(7200))
    world.account(pair.namespace, "storagenode-node1")
    elsewhere = f"/api/v1/namespaces/{pair.namespace}/serviceaccounts/storagenode-node1/token"
    for method, path, body in (
        ("POST", elsewhere, token_request(3600)),
        ("GET", node_path("node1"), None),
        ("PATCH", node_path("node1", "/status"), STATUS),
        ("GET", f"{world.system}/secrets/storagenode-node1", None),
        ("GET", f"{world.system}/pods", None),
        ("GET", account("node1"), None),
    ):
        assert "forbidden" in refusal(agent, method, path, body), path


def token_request(seconds: int) -> dict[str, Any]:
    spec = {"expirationSeconds": seconds}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


# ------------------------------------------------------------------------------------------- a node's identity


def test_a_node_reaches_what_is_its_own(world: World, pair: Pair, node1: ApiClient) -> None:
    assert not refusal(node1, "PATCH", node_path("node1", "/status"), STATUS)
    selector = "fieldSelector=metadata.name%3Dnode1"
    assert [item["metadata"]["name"] for item in node1.get(f"{API}/storagenodes?{selector}")["items"]] == ["node1"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", node_path("node2"), None),
        ("GET", f"{API}/storagenodes", None),
        ("GET", f"{API}/storagenodes?fieldSelector=metadata.name%3Dnode2", None),
        ("PATCH", node_path("node2", "/status"), STATUS),
        ("PATCH", node_path("node1"), {"spec": {"service": "Run"}}),
        ("DELETE", node_path("node1"), None),
        ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/storagenode-node2", None),
        ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/users.vmstore.heartbeat", None),
        ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets", None),
        ("PATCH", f"/api/v1/namespaces/{SYSTEM}/secrets/storagenode-node1", {"data": {}}),
        ("GET", "/api/v1/namespaces/users/secrets", None),
        ("GET", "/api/v1/namespaces/users/secrets/storagenode-node1", None),
        ("GET", "/api/v1/namespaces/users/pods", None),
        ("GET", f"{API}/namespaces/users/storagepairs", None),
        ("GET", "/api/v1/nodes", None),
        ("POST", f"{account('node1')}/token", token_request(3600)),
        ("POST", f"{account('node2')}/token", token_request(3600)),
        ("GET", f"{RBAC}/clusterroles/storagenode-node1", None),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
def test_a_node_reaches_nothing_else(node1: ApiClient, method: str, path: str, body: object) -> None:
    assert "forbidden" in refusal(node1, method, path, body)


def test_a_node_has_its_pairs_key_and_nobody_elses(world: World, pair: Pair, node1: ApiClient) -> None:
    for node in NODES:
        patch = {"status": {"heartbeat": {"authkeys": "Absent"}}}
        world.client(f"storagenode-{node}").request("PATCH", node_path(node, "/status"), patch)
    path = f"{world.system}/secrets/storagenode-node1"
    wait_for(lambda: exists(world.admin, path), "the node's Secret", SOON)
    mine = node1.get(path)["data"]
    assert mine == world.admin.get(f"{world.system}/secrets/{pair.namespace}.vmstore.heartbeat")["data"]
    assert mine == world.client("storagenode-node2").get(f"{world.system}/secrets/storagenode-node2")["data"]
    assert set(mine) == {"authkey"}


def test_what_is_changed_of_an_identity_is_mended(world: World, pair: Pair) -> None:
    """By the audit (2 s here): rights that were widened, and an account and a Secret that were deleted."""
    wide = rule("storagepair.dev", "storagenodes", "get", "list", "watch", "delete")
    path = f"{RBAC}/clusterroles/storagenode-node2"
    good = world.admin.get(path)["rules"]
    world.admin.request("PATCH", path, {"rules": [wide]})
    wait_for(lambda: world.admin.get(path)["rules"] == good, "the rules to be mended", SOON)
    world.admin.delete(account("node2"))
    wait_for(lambda: exists(world.admin, account("node2")), "the account to be back", SOON)
    owner = world.admin.get(account("node2"))["metadata"]["ownerReferences"][0]
    assert owner["uid"] == world.admin.get(node_path("node2"))["metadata"]["uid"]


# ------------------------------------------------------------------------------------------- StorageNodes


def test_nobody_but_the_operator_writes_a_storagenodes_spec(world: World, pair: Pair) -> None:
    admin = world.admin
    patch = {"spec": {"virtualIP": {"address": "10.10.25.199/24"}}}
    assert "written by storagepair's operator alone" in refusal(admin, "PATCH", node_path("node1"), patch)
    fresh = copy.deepcopy(admin.get(node_path("node1")))
    fresh["metadata"] = {"name": "mine"}
    assert "written by storagepair's operator alone" in refusal(admin, "POST", f"{API}/storagenodes", fresh)
    assert not refusal(admin, "PATCH", node_path("node1"), {"metadata": {"labels": {"shelf": "4"}}})


def test_nobody_but_the_node_writes_its_status(world: World, pair: Pair) -> None:
    for client in (world.admin, world.client(OPERATOR)):
        said = refusal(client, "PATCH", node_path("node1", "/status"), STATUS)
        assert "status is written by the agent of node1 alone" in said


# ------------------------------------------------------------------------------------------- who may name a host


@pytest.fixture
def user(world: World, pair: Pair) -> ApiClient:
    """May do everything in a namespace of his own, and has no right on any host."""
    name = f"user-{secrets.token_hex(3)}"
    world.admin.post("/api/v1/namespaces", {"metadata": {"name": name}})
    world.account(name, "alice")
    rules = [rule("storagepair.dev", "*", "*")]
    world.admin.post(f"{RBAC}/namespaces/{name}/roles", {"metadata": {"name": "alice"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "alice", "namespace": name}
    binding = {"metadata": {"name": "alice"}, "subjects": [subject]}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "alice"}
    world.admin.post(f"{RBAC}/namespaces/{name}/rolebindings", {**binding, "roleRef": reference})
    client = world.client("alice", name)
    client.home = f"{API}/namespaces/{name}/storagepairs"  # type: ignore[attr-defined]
    wait_for(lambda: not refusal(client, "GET", client.home), "the user's rights", SOON)  # type: ignore[attr-defined]
    return client


def grant_use(world: World, home: str, *nodes: str) -> None:
    namespace = home.split("/")[-2]
    rules = [rule("storagepair.dev", "storagenodes", "use", names=nodes)]
    world.admin.post(f"{RBAC}/clusterroles", {"metadata": {"name": f"use-{namespace}"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "alice", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"use-{namespace}"}
    binding = {"metadata": {"name": f"use-{namespace}"}, "subjects": [subject], "roleRef": reference}
    world.admin.post(f"{RBAC}/clusterrolebindings", binding)


def test_a_pair_needs_the_use_of_both_hosts(world: World, pair: Pair, user: ApiClient) -> None:
    home: str = user.home  # type: ignore[attr-defined]
    document = Pair(world.plane, "x").documents(nodes=("hosta", "hostb"))[0]
    said = refusal(user, "POST", home, document)
    assert "alice may not use StorageNode hosta: a cluster administrator has to grant the verb use on it" in said
    grant_use(world, home, "hosta")
    wait_for(lambda: "StorageNode hostb" in refusal(user, "POST", home, document), "one host to be granted", SOON)
    other = f"{home}/vmstore"
    namespace = home.split("/")[-2]
    name = f"use-{namespace}"
    both = [rule("storagepair.dev", "storagenodes", "use", names=("hosta", "hostb"))]
    world.admin.request("PATCH", f"{RBAC}/clusterroles/{name}", {"rules": both})
    wait_for(lambda: not refusal(user, "POST", home, document), "both hosts to be granted", SOON)
    # and without it nothing of the spec is changed any more, while all else is
    world.admin.delete(f"{RBAC}/clusterrolebindings/{name}")
    limits = itertools.count(10)  # a change each time: a value that it has already is none
    change = lambda: {"spec": {"failoverHistoryLimit": next(limits)}}  # noqa: E731
    wait_for(lambda: "may not use StorageNode hosta" in refusal(user, "PATCH", other, change()), "its end", SOON)
    assert not refusal(user, "PATCH", other, {"metadata": {"labels": {"team": "a"}}})
    assert not refusal(user, "DELETE", other)


# ------------------------------------------------------------------------------------------- the operator


def bad_binding(name: str, role: str, subject: str) -> dict[str, Any]:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    subjects = [{"kind": "ServiceAccount", "name": subject, "namespace": SYSTEM}]
    return {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects}


def test_the_operator_hands_out_nothing_but_the_nodes_identities(world: World, pair: Pair) -> None:
    operator = world.client(OPERATOR)
    cluster_roles, bindings = f"{RBAC}/clusterroles", f"{RBAC}/clusterrolebindings"
    status = rule("storagepair.dev", "storagenodes/status", "patch", names=("node3",))
    for path, body, words in (
        (cluster_roles, {"metadata": {"name": "storagenode-node3"}, "rules": [rule("", "pods", "get")]}, "forbidden"),
        (cluster_roles, {"metadata": {"name": "mine"}, "rules": [status]}, "nothing but the nodes' own"),
        (cluster_roles, {"metadata": {"name": "storagenode-node4"}, "rules": [status]}, "its own StorageNode"),
        (bindings, bad_binding("storagenode-node1", "cluster-admin", OPERATOR), "forbidden"),
        (bindings, bad_binding("mine", "storagenode-node1", OPERATOR), "nothing but the nodes' own"),
        (bindings, bad_binding("storagenode-node9", "storagenode-node1", "storagenode-node9"), "that node's own"),
        (bindings, bad_binding("storagenode-node1", "storagenode-node1", OPERATOR), "that node's own"),
        (f"{world.system}/serviceaccounts", {"metadata": {"name": "mine"}}, "nothing but the nodes' own"),
        (f"{world.system}/secrets", {"metadata": {"name": "mine"}}, "nothing but the nodes' own"),
        (f"{account('node1')}/token", token_request(3600), "forbidden"),
        ("/api/v1/namespaces/users/secrets", {"metadata": {"name": "storagenode-node1"}}, "forbidden"),
    ):
        assert words in refusal(operator, "POST", path, body), (path, body)
    role = world.admin.get(f"{cluster_roles}/system:basic-user")
    assert "nothing but the nodes' own" in refusal(operator, "PUT", f"{cluster_roles}/system:basic-user", role)
    key = world.admin.get(f"{world.system}/serviceaccounts/{AGENT}")
    assert "nothing but the nodes' own" in refusal(operator, "PUT", f"{world.system}/serviceaccounts/{AGENT}", key)
    for path in ("/api/v1/namespaces/users/secrets", "/api/v1/nodes", "/api/v1/pods"):
        assert "forbidden" in refusal(operator, "GET", path), path
    assert "forbidden" in refusal(operator, "DELETE", node_path("node1"))
    assert "forbidden" in refusal(operator, "DELETE", f"{cluster_roles}/storagenode-node1")


@pytest.mark.parametrize("policy", ["storagepair-use", "storagepair-node-token"])
@pytest.mark.parametrize("plural", ["validatingadmissionpolicies", "validatingadmissionpolicybindings"])
def test_without_a_policy_or_its_binding_no_pair_is_accepted(
    world: World, pair: Pair, policy: str, plural: str
) -> None:
    path = f"/apis/admissionregistration.k8s.io/v1/{plural}/{policy}"
    document = world.admin.get(path)
    before = [world.admin.get(node_path(node))["spec"] for node in NODES]
    world.admin.delete(path)
    try:
        wait_for(lambda: pair.says("Accepted") == ("False", "PolicyMissing"), "the pair to be refused", SOON)
        message = pair.condition("Accepted")["message"]
        assert policy in message
        assert "kubectl apply --server-side -k manifests" in message
        other = Pair(world.plane, pair.namespace)
        other.apply(*other.documents(name="second")[:1])
        wait_for(lambda: other.says("Accepted", name="second")[1] == "PolicyMissing", "the other one too", SOON)
        assert not exists(world.admin, node_path(other.nodes[0]))
    finally:
        metadata = {key: document["metadata"][key] for key in ("name", "labels")}
        world.admin.post(path.rpartition("/")[0], {"metadata": metadata, "spec": document["spec"]})
    pair.wait("Accepted", "True")
    other.wait("Accepted", "True", name="second")
    assert [world.admin.get(node_path(node))["spec"] for node in NODES] == before
    other.kubectl("delete", "storagepair", "second")
