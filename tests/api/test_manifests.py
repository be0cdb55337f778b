"""The kustomize base on a real API server: it applies, twice without a change, and grants what is needed, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api.planes import own_plane
from lab.apiclient import ApiClient
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.kubectl import KubectlError, apply_crds, kubectl
from lab.stack import AUDIT_SECONDS
from lab.waiting import SOON, wait_for

pytestmark = pytest.mark.patient

MANIFESTS = Path(__file__).parents[2] / "manifests"
LAB = Path(__file__).parents[1] / "lab" / "manifests"
SYSTEM = "storagepair-system"
OPERATOR, AGENT = "storagepair-operator", "storagepair-node-agent"
OURS, CRDS, EVENTS = "storagepair.dev", "apiextensions.k8s.io", "events.k8s.io"
RBAC = "rbac.authorization.k8s.io"

READ = "get list watch"
# of whom, verbs, group, resource (with subresource), namespace ("" for the whole cluster)
GRANTED = [
    *(
        (OPERATOR, READ, OURS, kind, "")
        for kind in ("storagepairs", "luns", "initiatoracls", "storagenodes", "failovers", "switchovers")
    ),
    *(
        (OPERATOR, "patch update", OURS, f"{kind}/status", "")
        for kind in ("storagepairs", "luns", "initiatoracls", "switchovers")
    ),
    (OPERATOR, "patch", OURS, "storagepairs", ""),
    (OPERATOR, "patch", OURS, "luns", ""),
    (OPERATOR, "patch", OURS, "initiatoracls", ""),
    (OPERATOR, "create update", OURS, "storagenodes", ""),
    (OPERATOR, "create delete", OURS, "failovers", ""),
    (OPERATOR, "create patch", EVENTS, "events", ""),
    (OPERATOR, READ, "", "namespaces", ""),
    (OPERATOR, READ, CRDS, "customresourcedefinitions", ""),
    (OPERATOR, "create get list update", "", "secrets", SYSTEM),
    (OPERATOR, "create get list update", "", "serviceaccounts", SYSTEM),
    (OPERATOR, "create get list update", RBAC, "roles", SYSTEM),
    (OPERATOR, "create get list update", RBAC, "rolebindings", SYSTEM),
    (OPERATOR, "create get list update", RBAC, "clusterroles", ""),
    (OPERATOR, "create get list update", RBAC, "clusterrolebindings", ""),
    # only to hand it out: policies/storagenodes.yaml keeps the operator from it
    (OPERATOR, "patch", OURS, "storagenodes/status", ""),
    (OPERATOR, "create get list patch update", "coordination.k8s.io", "leases", SYSTEM),
    (AGENT, "create", "", "serviceaccounts/token", SYSTEM),
]
REFUSED = [
    # nobody writes to what the user wrote, takes a record back, or ends a host's desired state
    (OPERATOR, "create update delete", OURS, "storagepairs", ""),
    (OPERATOR, "create update delete", OURS, "luns", ""),
    (OPERATOR, "create update delete", OURS, "initiatoracls", ""),
    (OPERATOR, "patch delete deletecollection", OURS, "storagenodes", ""),
    (OPERATOR, "update", OURS, "storagenodes/status", ""),
    (OPERATOR, "patch update deletecollection", OURS, "failovers", ""),
    (OPERATOR, "create patch update delete deletecollection", OURS, "switchovers", ""),
    (OPERATOR, "watch patch delete", "", "secrets", SYSTEM),
    (OPERATOR, "get create", "", "secrets", "default"),
    (OPERATOR, "create", "", "serviceaccounts/token", SYSTEM),
    (OPERATOR, "create", "", "serviceaccounts", "default"),
    (OPERATOR, "create update", RBAC, "roles", "default"),
    (OPERATOR, "escalate bind delete", RBAC, "clusterroles", ""),
    (OPERATOR, "delete", RBAC, "clusterrolebindings", ""),
    (OPERATOR, "list watch create update delete", "admissionregistration.k8s.io", "validatingadmissionpolicies", ""),
    (OPERATOR, "create", "coordination.k8s.io", "leases", "kube-system"),
    (OPERATOR, "create", "", "pods", SYSTEM),
    (OPERATOR, "update delete", CRDS, "customresourcedefinitions", ""),
    (AGENT, f"{READ} create patch update delete", OURS, "storagenodes", ""),
    (AGENT, "patch update", OURS, "storagenodes/status", ""),
    (AGENT, "create", "", "serviceaccounts/token", "default"),
    (AGENT, f"{READ} create", "", "serviceaccounts", SYSTEM),
    (AGENT, READ, OURS, "storagepairs", ""),
    (AGENT, "create", OURS, "failovers", ""),
    (AGENT, f"{READ} create", OURS, "switchovers", ""),
    (AGENT, "patch update", OURS, "switchovers/status", ""),
    (AGENT, f"{READ} create update", "", "secrets", SYSTEM),
    (AGENT, "get", "", "secrets", "default"),
    (AGENT, READ, "", "nodes", ""),
    (AGENT, "create", EVENTS, "events", ""),
]


@pytest.fixture(scope="module")
def control_plane(keeper: Keeper) -> Iterator[ControlPlane]:
    """Of its own: the base's admission policies are for the whole cluster."""
    with own_plane(keeper, "manifests") as plane:
        yield plane


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> ApiClient:
    # the base brings the CRDs too, but nobody waits for them there
    apply_crds(control_plane.admin_kubeconfig)
    apply(control_plane)
    client = control_plane.client()
    wait_for(lambda: allowed(client, GRANTED[-1]), "the role bindings to count", SOON)
    return client


def apply(control_plane: ControlPlane) -> list[str]:
    """Apply the base as the README says, and return the objects' names."""
    arguments = ("apply", "--server-side", "--force-conflicts", "--kustomize", str(MANIFESTS), "--output=name")
    return kubectl(control_plane.admin_kubeconfig, *arguments).split()


def allowed(client: ApiClient, right: tuple[str, str, str, str, str]) -> bool:
    """Whether a service account has any of the verbs."""
    return any(answer for _, answer in answers(client, right))


def answers(client: ApiClient, right: tuple[str, str, str, str, str]) -> list[tuple[str, bool]]:
    account, verbs, group, resource, namespace = right
    resource, _, subresource = resource.partition("/")
    result = []
    for verb in verbs.split():
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{SYSTEM}:{account}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"],
                "resourceAttributes": {**attributes, "namespace": namespace},
            },
        }
        answer = client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        result.append((verb, bool(answer["status"]["allowed"])))
    return result


@pytest.mark.parametrize("right", GRANTED, ids=lambda right: f"{right[0]}-{right[3]}")
def test_granted(api: ApiClient, right: tuple[str, str, str, str, str]) -> None:
    assert all(answer for _, answer in answers(api, right)), answers(api, right)


@pytest.mark.parametrize("right", REFUSED, ids=lambda right: f"{right[0]}-{right[3]}")
def test_refused(api: ApiClient, right: tuple[str, str, str, str, str]) -> None:
    assert not any(answer for _, answer in answers(api, right)), answers(api, right)


def test_nothing_is_granted_by_wildcard() -> None:
    for path in MANIFESTS.glob("*rbac.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            for rule in document.get("rules", []):
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_applying_again_changes_nothing(control_plane: ControlPlane, api: ApiClient) -> None:
    def versions() -> dict[str, Any]:
        listed = kubectl(control_plane.admin_kubeconfig, "get", "--kustomize", str(MANIFESTS), "--output=json")
        items = yaml.safe_load(listed)["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}

    before = versions()
    assert len(apply(control_plane)) == len(before)
    assert versions() == before


def test_the_agent_runs_as_the_host_needs_it(api: ApiClient) -> None:
    daemon_set = api.get(f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/{AGENT}")["spec"]
    pod = daemon_set["template"]["spec"]
    (container,) = pod["containers"]
    assert daemon_set["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1
    # it has no readiness of its own: one that dies at its start would be rolled out to both machines within seconds
    assert daemon_set["minReadySeconds"] >= 10
    assert (pod["hostPID"], pod["hostNetwork"]) == (True, True)
    assert pod["serviceAccountName"] == AGENT
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["nodeSelector"] == {"storagepair.dev/storage-node": "true"}
    assert container["securityContext"] == {"privileged": True}
    # a memory limit would count mkfs and drbdmeta, and kill them
    assert "limits" not in container["resources"]


def test_the_sample_applies(control_plane: ControlPlane, api: ApiClient, namespace: str) -> None:
    arguments = ("apply", f"--filename={MANIFESTS / 'samples'}", f"--namespace={namespace}", "--output=name")
    made = kubectl(control_plane.admin_kubeconfig, *arguments).split()
    assert [name.partition(".")[0] for name in made] == ["storagepair", "lun", "initiatoracl"]


def rendered(control_plane: ControlPlane, folder: Path) -> list[dict[str, Any]]:
    """What kustomize makes of a folder."""
    return list(yaml.safe_load_all(kubectl(control_plane.admin_kubeconfig, "kustomize", str(folder))))


def differences(one: Any, other: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return {k: v for key in keys for k, v in differences(one.get(key), other.get(key), f"{path}.{key}").items()}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return {k: v for n, (a, b) in pairs for k, v in differences(a, b, f"{path}[{n}]").items()}
    return {} if one == other else {path: (one, other)}


def test_each_object_passes_a_server_side_dry_run(control_plane: ControlPlane, api: ApiClient) -> None:
    arguments = ("--server-side", "--force-conflicts", "--dry-run=server", "--output=name", "--filename=-")
    for document in rendered(control_plane, MANIFESTS):
        made = kubectl(control_plane.admin_kubeconfig, "apply", *arguments, stdin=yaml.safe_dump(document))
        assert made.strip().endswith(f"/{document['metadata']['name']}")


def test_the_lab_changes_only_images_and_the_audits_interval(control_plane: ControlPlane) -> None:
    base, lab = (rendered(control_plane, folder) for folder in (MANIFESTS, LAB / "cluster"))
    changed = {
        f"{one['kind']}{path}": values
        for one, other in zip(base, lab, strict=True)
        for path, values in differences(one, other).items()
    }
    container = ".spec.template.spec.containers[0]"
    assert changed == {
        f"DaemonSet{container}.image": ("storagepair.dev/node-agent:0.1.0", "storagepair.dev/node-agent:dev"),
        f"Deployment{container}.image": ("storagepair.dev/operator:0.1.0", "storagepair.dev/operator:dev"),
        f"Deployment{container}.args": (["run"], ["run", f"--audit-seconds={AUDIT_SECONDS}"]),
    }
    beside = rendered(control_plane, LAB / "beside")
    more = [differences(one, other) for one, other in zip(lab, beside, strict=True)]
    assert [each for each in more if each] == [{".spec.replicas": (1, 0)}]


def test_the_operator_may_run_where_pods_are_restricted(control_plane: ControlPlane, api: ApiClient) -> None:
    deployment = api.get(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{OPERATOR}")["spec"]
    pod = deployment["template"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    # the API server judges by the strictest of the Pod Security Standards, and refuses the same pod as root
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}}
    create = ("create", "--filename=-", "--output=name")
    kubectl(control_plane.admin_kubeconfig, *create, stdin=yaml.safe_dump(namespace))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OPERATOR, "namespace": "restricted"}}
    kubectl(control_plane.admin_kubeconfig, *create, stdin=yaml.safe_dump(account))
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": "restricted"}}
    dry = (*create, "--dry-run=server")
    made = kubectl(control_plane.admin_kubeconfig, *dry, stdin=yaml.safe_dump({**document, "spec": pod}))
    assert made.strip() == "pod/operator"
    root = {**pod, "securityContext": {**pod["securityContext"], "runAsNonRoot": False}}
    with pytest.raises(KubectlError, match="runAsNonRoot"):
        kubectl(control_plane.admin_kubeconfig, *dry, stdin=yaml.safe_dump({**document, "spec": root}))
