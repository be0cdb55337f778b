"""Each storage node's own identity: a service account and the rights to that node's own objects, and to nothing else.

The agent gets the account's token (policies/node-token.yaml lets it have that of its own node only). All of it is owned
by the StorageNode, so that the garbage collector takes it away with that. Pure: a node in, documents out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from storagepair_crds.views import API_VERSION, GROUP

from storagepair_operator.kinds import PairKey

PREFIX = "storagenode-"
LABEL = "storagepair.dev/storage-node"
SOURCE = "storagepair.dev/pair"
"""The annotation of a node's Secret: of which pair the key in it is."""

_RBAC = "rbac.authorization.k8s.io"
_COORDINATION = "coordination.k8s.io"


class NodeKey(NamedTuple):
    """A StorageNode: another one of the same name is another node."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of the objects that a node's identity is made of."""

    kind: str
    prefix: str  # /api/v1 or /apis/GROUP/VERSION
    plural: str
    namespaced: bool
    own: tuple[str, ...] = ()  # the fields that are ours, beside labels and owner

    def path(self, namespace: str, name: str = "") -> str:
        """The URL path of all of them, or of one."""
        middle = f"namespaces/{namespace}/" if self.namespaced else ""
        return f"{self.prefix}/{middle}{self.plural}" + (f"/{name}" if name else "")


LEASE = Part("Lease", f"/apis/{_COORDINATION}/v1", "leases", True)  # what is in it is the agent's
ACCOUNT = Part("ServiceAccount", "/api/v1", "serviceaccounts", True, ("automountServiceAccountToken",))
SECRET = Part("Secret", "/api/v1", "secrets", True)
ROLE = Part("Role", f"/apis/{_RBAC}/v1", "roles", True, ("rules",))
ROLE_BINDING = Part("RoleBinding", f"/apis/{_RBAC}/v1", "rolebindings", True, ("roleRef", "subjects"))
CLUSTER_ROLE = Part("ClusterRole", f"/apis/{_RBAC}/v1", "clusterroles", False, ("rules",))
CLUSTER_BINDING = Part("ClusterRoleBinding", f"/apis/{_RBAC}/v1", "clusterrolebindings", False, ("roleRef", "subjects"))
# the account last: whoever gets a token of it has the rights already
PARTS = (ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_BINDING, LEASE, ACCOUNT)


def name_of(node: str) -> str:
    """The name of all objects of a node's identity."""
    return PREFIX + node


def wanted(part: Part, node: NodeKey, namespace: str) -> dict[str, Any]:
    """One part of a node's identity, as it shall be."""
    name = name_of(node.name)
    own: dict[str, Any] = {
        "ServiceAccount": {"automountServiceAccountToken": False},
        "Lease": {},
        # a merge patch renews a Lease and can't make one: the agent needs no more than that
        "Role": {"rules": [_rule("", "secrets", name, "get"), _rule(_COORDINATION, "leases", name, "patch")]},
        # a list or a watch has to name the node in its field selector
        "ClusterRole": {
            "rules": [
                _rule(GROUP, "storagenodes", node.name, "get", "list", "watch"),
                _rule(GROUP, "storagenodes/status", node.name, "patch"),
            ]
        },
        "RoleBinding": _binding("Role", name, namespace),
        "ClusterRoleBinding": _binding("ClusterRole", name, namespace),
    }
    return {**_head(part, node, namespace), **own[part.kind]}


def secret(node: NodeKey, namespace: str, pair: PairKey, data: Mapping[str, str]) -> dict[str, Any]:
    """A node's Secret with what is for that node; `data` is base64, of that pair."""
    document = _head(SECRET, node, namespace)
    document["metadata"]["annotations"] = {SOURCE: str(pair)}
    return {**document, "type": "Opaque", "data": dict(data)}


def same(part: Part, seen: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    """Whether an object is as it shall be, in all that is ours."""
    now, shall = seen["metadata"], want["metadata"]
    labels = now.get("labels") or {}
    if any(labels.get(key) != value for key, value in shall["labels"].items()):
        return False
    return now.get("ownerReferences") == shall["ownerReferences"] and all(seen.get(f) == want[f] for f in part.own)


def made_for(seen: Mapping[str, Any], node: NodeKey, pair: PairKey) -> bool:
    """Whether a node's Secret is this very node's, with that pair's key."""
    metadata = seen["metadata"]
    owners = [owner["uid"] for owner in metadata.get("ownerReferences") or ()]
    return owners == [node.uid] and (metadata.get("annotations") or {}).get(SOURCE) == str(pair)


def mended(seen: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """What is there, with all that is ours put right."""
    now, shall = seen["metadata"], want["metadata"]
    metadata = {
        **{key: now[key] for key in ("name", "namespace", "resourceVersion") if key in now},
        "labels": {**(now.get("labels") or {}), **shall["labels"]},
        "annotations": {**(now.get("annotations") or {}), **shall.get("annotations", {})},
        "ownerReferences": shall["ownerReferences"],
    }
    return {**seen, **want, "metadata": metadata}


def _head(part: Part, node: NodeKey, namespace: str) -> dict[str, Any]:
    owner = {"apiVersion": API_VERSION, "kind": "StorageNode", "name": node.name, "uid": node.uid}
    metadata: dict[str, Any] = {
        "name": name_of(node.name),
        "labels": {"app.kubernetes.io/part-of": "storagepair", LABEL: node.name},
        "ownerReferences": [owner],
    }
    if part.namespaced:
        metadata["namespace"] = namespace
    return {
        "apiVersion": part.prefix.rpartition("/apis/")[2].removeprefix("/api/"),
        "kind": part.kind,
        "metadata": metadata,
    }


def _rule(group: str, resource: str, name: str, *verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": list(verbs)}


def _binding(kind: str, name: str, namespace: str) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
