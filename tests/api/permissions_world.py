"""Everybody who asks an API server for something of storagepair's, each with a real token of his own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.operator_world import SYSTEM
from lab.apiclient import ApiClient, ApiError
from lab.controlplane import ControlPlane
from lab.kubectl import apply_crds, kubectl
from storagepair_node_agent import credentials
from storagepair_node_agent.credentials import Credentials
from storagepair_node_agent.nodetoken import NodeToken
from storagepair_node_agent.transport import Transport

MANIFESTS = Path(__file__).parents[2] / "manifests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
AGENT, OPERATOR = "storagepair-node-agent", "storagepair-operator"
NODES = ("node1", "node2")
_numbers = itertools.count()


@dataclass(frozen=True)
class World:
    """A control plane on which `kubectl apply -k manifests` was run, with two nodes and the agents' pods on them."""

    plane: ControlPlane

    @property
    def admin(self) -> ApiClient:
        return self.plane.client()

    @property
    def system(self) -> str:
        """The URL path of what is in storagepair's own namespace."""
        return f"/api/v1/namespaces/{SYSTEM}"

    def prepare(self) -> None:
        """As the README says; then the nodes, and a pod of the DaemonSet's account on each."""
        kubectl(self.plane.admin_kubeconfig, "apply", "--server-side", "--kustomize", str(MANIFESTS))
        apply_crds(self.plane.admin_kubeconfig)
        for node in NODES:
            self.admin.post("/api/v1/nodes", {"metadata": {"name": node}})
            spec = {"nodeName": node, "serviceAccountName": AGENT, "containers": [{"name": "agent", "image": "x"}]}
            self.admin.post(f"{self.system}/pods", {"metadata": {"name": f"agent-{node}"}, "spec": spec})

    def account(self, namespace: str, name: str) -> None:
        """Make a service account."""
        self.admin.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def kubeconfig(self, account: str, namespace: str = SYSTEM, *, pod_on: str | None = None) -> Path:
        """A fresh token of an account; of a pod's on some node, as its kubelet would get it, where one is named."""
        path = self.plane.folder / f"{account}-{next(_numbers)}.kubeconfig"
        if pod_on is None:
            return self.plane.service_account_kubeconfig(namespace, account, path)
        pod = self.admin.get(f"{self.system}/pods/agent-{pod_on}")["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
        answer = self.admin.post(f"{self.system}/serviceaccounts/{account}/token", request)
        self.plane.pki.write_kubeconfig(path, account, self.plane.url, {"token": answer["status"]["token"]}, namespace)
        return path

    def client(self, account: str, namespace: str = SYSTEM, *, pod_on: str | None = None) -> ApiClient:
        """A client with such a token."""
        return ApiClient(self.kubeconfig(account, namespace, pod_on=pod_on))

    def node_token(self, node: str, *, pod_on: str | None, account: str = AGENT) -> tuple[NodeToken, Transport]:
        """The agent's own way to a node's identity, from a pod on some node."""
        user = credentials.from_kubeconfig(self.kubeconfig(account, pod_on=pod_on))
        transport = Transport(user.server, user.tls)
        pod = Credentials(user.server, user.tls, token=user.token, namespace=SYSTEM)
        return NodeToken(pod, transport, node), transport


def refusal(client: ApiClient, method: str, path: str, body: object = None) -> str:
    """What the API server says against a request: a Forbidden's message, or "" when it lets it pass."""
    try:
        client.request(method, path, body)
    except ApiError as error:
        assert error.status in (403, 422), error
        return str(error)
    return ""


def rule(group: str, resource: str, *verbs: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """One rule of a role."""
    result: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
    return {**result, "resourceNames": list(names)} if names else result
