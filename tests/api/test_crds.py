"""Our CRDs on a real API server: what it accepts, refuses, fills in and prints.

Every CEL rule refuses something at least once (`test_every_rule_has_a_case`), and each refusal names the field and says
what is wrong with it. Requests are dry runs wherever nothing needs to stay.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from api.crd_cases import ACCEPTED, ACL, DOCUMENTS, FIXED, FREE, LUN, MOVE, PAIR, REFUSED, SNODE, UNREADABLE, Change
from lab.apiclient import ApiClient, ApiError
from lab.controlplane import ControlPlane
from lab.kubectl import apply_crds, kubectl
from storagepair_crds.schema import apply_defaults, definitions, openapi_schema, validate

pytestmark = pytest.mark.patient

NAMESPACE = "crds"
_counter = itertools.count()


def collection(kind: str) -> str:
    names, scope = definitions()[kind]["spec"]["names"], definitions()[kind]["spec"]["scope"]
    middle = f"namespaces/{NAMESPACE}/" if scope == "Namespaced" else ""
    return f"/apis/storagepair.dev/v1alpha1/{middle}{names['plural']}"


def changed(document: dict[str, Any], *changes: Change) -> dict[str, Any]:
    """A copy of a document with changes; a number in a path is an index, one past the end appends."""
    document = copy.deepcopy(document)
    for path, value in changes:
        *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place: Any = document
        for part in way:
            place = place[part]
        if value is ...:
            del place[last]
        elif isinstance(last, int) and last == len(place):
            place.append(copy.deepcopy(value))
        else:
            place[last] = copy.deepcopy(value)
    return document


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> ApiClient:
    apply_crds(control_plane.admin_kubeconfig)
    client = control_plane.client()
    client.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    return client


@pytest.fixture
def there(api: ApiClient) -> Iterator[Any]:
    """Creates an object under a name of its own; all are deleted at the end."""
    made = []

    def create(kind: str, *changes: Change) -> dict[str, Any]:
        document = changed(DOCUMENTS[kind], ("metadata.name", f"t{next(_counter)}"), *changes)
        made.append(f"{collection(kind)}/{document['metadata']['name']}")
        return dict(api.post(f"{collection(kind)}?fieldValidation=Strict", document))

    yield create
    for path in made:
        api.delete(path)


def dry_create(api: ApiClient, kind: str, *changes: Change) -> dict[str, Any]:
    path = f"{collection(kind)}?dryRun=All&fieldValidation=Strict"
    return dict(api.post(path, changed(DOCUMENTS[kind], *changes)))


def dry_update(api: ApiClient, document: dict[str, Any], *changes: Change) -> dict[str, Any]:
    path = f"{collection(document['kind'])}/{document['metadata']['name']}?dryRun=All&fieldValidation=Strict"
    return dict(api.request("PUT", path, changed(document, *changes)))


def assert_says(error: ApiError, field: str, message: str) -> None:
    said = str(error)
    assert error.status == 422, said
    assert f"{field}: " in said, said
    assert message in said, said
    # a rule that can't be evaluated says so in CEL's words
    assert "evaluating rule" not in said, said
    assert "no such key" not in said, said


# ------------------------------------------------------------------------------------------ creation


@pytest.mark.parametrize(("kind", "changes", "field", "message"), REFUSED)
def test_refused_at_creation(api: ApiClient, kind: str, changes: list[Change], field: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        dry_create(api, kind, *changes)
    assert_says(refused.value, field, message)


@pytest.mark.parametrize(("kind", "changes", "field", "message"), UNREADABLE)
def test_what_a_rule_cannot_read_is_refused(
    api: ApiClient, kind: str, changes: list[Change], field: str, message: str
) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        dry_create(api, kind, *changes)
    assert refused.value.status == 422
    assert f"{field}: " in str(refused.value)
    assert {problem.field for problem in validate(changed(DOCUMENTS[kind], *changes))} == {field}


@pytest.mark.parametrize(("kind", "changes"), ACCEPTED)
def test_accepted_at_creation(api: ApiClient, kind: str, changes: list[Change]) -> None:
    answer = dry_create(api, kind, *changes)
    # what the API server accepts and fills in, the offline schema accepts and fills in
    document = changed(DOCUMENTS[kind], *changes)
    assert validate(document) == ()
    assert apply_defaults(document)["spec"] == answer["spec"]
    assert validate(answer) == ()


def test_a_system_directory_is_refused_for_the_host_too(api: ApiClient) -> None:
    """Said by `not`, which offline validation knows too; the API server's words for it are clumsier than CEL's."""
    with pytest.raises(ApiError, match=r'"spec.filesystem.mountPath" must not validate the schema'):
        dry_create(api, SNODE, ("spec.filesystem.mountPath", "/etc"))


def test_an_unknown_field_is_refused_by_kubectl(api: ApiClient) -> None:
    """kubectl asks for strict field validation; without it the API server would drop the field silently."""
    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "spec.nodes\[0\].disc"'):
        dry_create(api, PAIR, ("spec.nodes.0.disc", "/dev/vdc"))


# ------------------------------------------------------------------------------------------ changes


@pytest.mark.parametrize(("kind", "first", "changes", "field", "message"), FIXED)
def test_refused_later(
    api: ApiClient, there: Any, kind: str, first: list[Change], changes: list[Change], field: str, message: str
) -> None:
    document = there(kind, *first)
    with pytest.raises(ApiError) as refused:
        dry_update(api, document, *changes)
    assert_says(refused.value, field, message)


@pytest.mark.parametrize(("kind", "first", "changes"), FREE)
def test_accepted_later(api: ApiClient, there: Any, kind: str, first: list[Change], changes: list[Change]) -> None:
    dry_update(api, there(kind, *first), *changes)


def test_a_minted_number_may_be_written_down(api: ApiClient, there: Any) -> None:
    """Who keeps documents in Git pins the number that the hosts gave, and no other."""
    lun = there(LUN)
    path = f"{collection(LUN)}/{lun['metadata']['name']}"
    lun = api.request("PUT", f"{path}/status", changed(lun, ("status", {"number": 3})))
    with pytest.raises(ApiError, match=r"already has \(status.number\)"):
        dry_update(api, lun, ("spec.number", 4))
    pinned = api.request("PUT", path, changed(lun, ("spec.number", 3)))
    api.request("PUT", f"{path}/status", changed(pinned, ("status", {"number": 3, "serial": "s"})))


def rules(kind: str) -> Iterator[str]:
    def below(schema: Any) -> Iterator[str]:
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
        for part in schema.get("properties", {}).values():
            yield from below(part)
        if "items" in schema:
            yield from below(schema["items"])

    return below(openapi_schema(kind))


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_every_rule_has_a_case(kind: str) -> None:
    said = [message for case, _, _, message in (*REFUSED, *UNREADABLE) if case == kind]
    said += [message for case, _, _, _, message in FIXED if case == kind]
    for rule in rules(kind):
        assert any(message in rule for message in said), f"no case is refused with: {rule}"


# ------------------------------------------------------------------------------------------ defaults, status, columns


def test_a_fresh_object_says_that_nobody_looked_at_it(api: ApiClient, there: Any) -> None:
    for kind in (PAIR, LUN, ACL, SNODE, MOVE):
        made = there(kind)
        fresh = api.get(f"{collection(kind)}/{made['metadata']['name']}")
        assert fresh["status"]["observedGeneration"] == -1
        assert fresh["status"] == apply_defaults(DOCUMENTS[kind])["status"]


def test_a_status_is_written_by_its_subresource_only(api: ApiClient, there: Any) -> None:
    pair = there(PAIR)
    path = f"{collection(PAIR)}/{pair['metadata']['name']}"
    answer = api.request("PUT", path, changed(pair, ("status.active", "node1")))
    assert "active" not in answer["status"]
    condition = {"type": "Ready", "status": "True", "reason": "Serving", "lastTransitionTime": "2026-01-31T12:34:56Z"}
    status = {"active": "node1", "conditions": [condition], "nodes": [{"name": "node1"}]}
    answer = api.request("PUT", f"{path}/status", changed(answer, ("status", status), ("spec.replication.port", 1)))
    assert answer["spec"] == pair["spec"]
    assert answer["metadata"]["generation"] == pair["metadata"]["generation"]
    assert answer["status"]["observedGeneration"] == -1
    assert answer["status"]["nodes"] == [
        {"name": "node1", "ready": "Unknown", "role": "Unknown", "diskState": "Unknown"}
    ]
    assert validate(answer) == ()


READY = [{"type": "Ready", "status": "True", "reason": "Fine", "message": "all is well"}]
COLUMNS: list[tuple[str, str, Any, str]] = [
    (
        PAIR,
        "NAME READY ACTIVE STANDBY REPLICATION VIP LUNS FAILOVERS AGE",
        {
            "active": "node1",
            "standby": "node2",
            "replication": "UpToDate",
            "luns": 1,
            "failovers": 2,
            "conditions": READY,
        },
        "True node1 node2 UpToDate 10.10.25.136/24 1 2",
    ),
    (
        LUN,
        "NAME PAIR NUMBER SIZE TARGET READY AGE",
        {"number": 1, "conditions": READY},
        "vmstore 1 64Mi default True",
    ),
    (
        ACL,
        "NAME PAIR TARGET ADDRESSES SESSIONS READY AGE",
        {"sessions": 3, "conditions": READY},
        'vmstore default ["10.10.25.0/24"] 3 True',
    ),
    (
        SNODE,
        "NAME PAIR ROLE DISK CONNECTION HEARTBEAT ACTIVE READY AGE",
        {
            "replication": {"role": "Primary", "diskState": "UpToDate", "connection": "Connected"},
            "heartbeat": {"running": True},
            "service": {"active": True},
            "conditions": READY,
        },
        "vmstore Primary UpToDate Connected true true True",
    ),
    (
        "Failover",
        "NAME PAIR CAUSE FROM TO MILLISECONDS PAUSE START AGE",
        None,
        "vmstore NodeLost node1 node2 9211 3100 2026-01-31T12:34:56.789012Z",
    ),
    (
        MOVE,
        "NAME PAIR TO PHASE REASON AGE",
        {"phase": "Succeeded", "reason": "Moved", "message": "all is well", "conditions": READY},
        "vmstore node2 Succeeded Moved",
    ),
]


@pytest.mark.parametrize(("kind", "header", "status", "row"), COLUMNS)
def test_kubectl_get(
    control_plane: ControlPlane, api: ApiClient, there: Any, kind: str, header: str, status: Any, row: str
) -> None:
    name = there(kind)["metadata"]["name"]
    if status is not None:
        path = f"{collection(kind)}/{name}"
        api.request("PUT", f"{path}/status", changed(api.get(path), ("status", status)))
    plural = definitions()[kind]["spec"]["names"]["plural"]
    lines = kubectl(control_plane.admin_kubeconfig, "get", plural, name, f"--namespace={NAMESPACE}").splitlines()
    assert lines[0].split() == header.split()
    assert lines[1].split()[:-1] == [name, *row.split()]
    wide = kubectl(control_plane.admin_kubeconfig, "get", plural, name, f"--namespace={NAMESPACE}", "--output=wide")
    assert status is None or ("MESSAGE" in wide and "all is well" in wide)


def test_names_for_short(control_plane: ControlPlane, there: Any) -> None:
    there(PAIR)
    there(LUN)
    # it reads anew what kubectl keeps about an API server: a category that isn't known there yet is no reason for it to
    kubectl(control_plane.admin_kubeconfig, "api-resources", "--api-group=storagepair.dev")
    arguments = ("get", "storagepair-all", f"--namespace={NAMESPACE}", "--output=name")
    listed = kubectl(control_plane.admin_kubeconfig, *arguments)
    assert "storagepair.storagepair.dev/" in listed
    assert "lun.storagepair.dev/" in listed
    kubectl(control_plane.admin_kubeconfig, "get", "sp,lun,iacl,snode,fo,so", f"--namespace={NAMESPACE}")


def test_a_generated_name_is_a_good_one(control_plane: ControlPlane, api: ApiClient) -> None:
    """`kubectl create -f` is a step of a runbook: every time it makes another request."""
    document = changed(DOCUMENTS[MOVE], ("metadata", {"generateName": "to-node2-"}))
    arguments = ("create", "--filename=-", f"--namespace={NAMESPACE}", "--output=name")
    made = {
        kubectl(control_plane.admin_kubeconfig, *arguments, stdin=yaml.safe_dump(document)).strip() for _ in range(2)
    }
    assert len(made) == 2
    for name in made:
        assert name.startswith("switchover.storagepair.dev/to-node2-")
        api.delete(f"{collection(MOVE)}/{name.partition('/')[2]}")
    longest = changed(document, ("metadata.generateName", "a" * 200))
    assert len(api.post(f"{collection(MOVE)}?dryRun=All", longest)["metadata"]["name"]) <= 63


def test_select_by_pair(api: ApiClient, there: Any) -> None:
    mine = there("Failover", ("spec.pairRef.name", "mine"))["metadata"]["name"]
    there("Failover")
    found = api.get(f"{collection('Failover')}?fieldSelector=spec.pairRef.name%3Dmine")["items"]
    assert [item["metadata"]["name"] for item in found] == [mine]
