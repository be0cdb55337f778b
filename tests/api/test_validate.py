"""`storagepair validate` against the real API server: both accept and refuse the same documents.

The one difference is said by both sides: rules about changes need the object as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from api.crd_cases import ACCEPTED, DOCUMENTS, FIXED, REFUSED, Change
from api.test_crds import NAMESPACE, changed, collection
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lab.apiclient import ApiClient, ApiError
from lab.controlplane import ControlPlane
from lab.kubectl import apply_crds
from storagepair_cli.check import check
from storagepair_cli.model import Finding, Severity
from storagepair_cli.rules import unchecked
from storagepair_cli.source import parse

pytestmark = pytest.mark.patient

Json = Any


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> ApiClient:
    apply_crds(control_plane.admin_kubeconfig)
    client = control_plane.client()
    try:
        client.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    except ApiError as error:
        assert error.status == 409, error
    return client


def offline(document: Json) -> list[Finding]:
    """What is refused without a cluster, each document for itself; kubectl is strict about fields, so we are."""
    report = check(parse(json.dumps(document).encode(), "f"), namespace=NAMESPACE, strict=True, partial=True)
    assert len(report.checked) == 1
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]


def online(api: ApiClient, document: Json, kind: str) -> str:
    """What the API server says against a document, "" when it takes it."""
    try:
        api.post(f"{collection(kind)}?dryRun=All&fieldValidation=Strict", document)
    except ApiError as error:
        assert error.status in (400, 422), error
        return str(error)
    return ""


@pytest.mark.parametrize(("kind", "changes", "field", "message"), REFUSED)
def test_what_the_api_server_refuses_is_refused_offline(
    api: ApiClient, kind: str, changes: list[Change], field: str, message: str
) -> None:
    document = changed(DOCUMENTS[kind], *changes)
    assert message in online(api, document, kind)
    found = [finding for finding in offline(document) if finding.field == field]
    assert found, f"offline says nothing of {field}"
    # a rule speaks the same words in both places; only the schema's are the API server's own
    rules = [finding for finding in found if finding.rule == "cel"]
    assert not rules or any(message in finding.message for finding in rules)


@pytest.mark.parametrize(("kind", "changes"), ACCEPTED)
def test_what_the_api_server_accepts_is_accepted_offline(api: ApiClient, kind: str, changes: list[Change]) -> None:
    document = changed(DOCUMENTS[kind], *changes)
    assert online(api, document, kind) == ""
    assert offline(document) == []


def test_an_unknown_field_is_refused_by_both(api: ApiClient) -> None:
    document = changed(DOCUMENTS["StoragePair"], ("spec.nodes.0.disc", "/dev/vdc"))
    assert 'unknown field "spec.nodes[0].disc"' in online(api, document, "StoragePair")
    assert [(finding.rule, finding.field) for finding in offline(document)] == [
        ("schema/unknown-field", "spec.nodes[0].disc")
    ]


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_what_cannot_be_judged_offline_is_listed(kind: str) -> None:
    """Every refusal of a change that the API server makes is one of the rules that offline lists as not checked."""
    listed = [rule.message for rule in unchecked(kind)]
    for case, _, _, _, message in FIXED:
        if case == kind:
            assert any(message in rule for rule in listed), f"not listed: {message}"
    print(f"{kind}: not checked offline: {', '.join(rule.field for rule in unchecked(kind)) or 'nothing'}")


def places(value: Json, path: str = "spec") -> Iterator[str]:
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, f"{path}.{key}")
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from places(part, f"{path}.{index}")


PLACES = [(kind, place) for kind, document in DOCUMENTS.items() for place in places(document["spec"])]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5000) | st.sampled_from([2**31, 2**63 - 1, 65535, 3260]),
    st.just(1.5),
    st.text(max_size=6),
    st.sampled_from(
        [
            "bond0",
            "bond1",
            "bond2",
            "eth0",
            "eth2",
            "node1",
            "node2",
            "NODE",
            "default",
            "lo",
            "all",
            "/dev/vdb",
            "/dev/../x",
            "/storage",
            "/",
            "/etc",
            "64Mi",
            "1.5Gi",
            "100Ti",
            "1e9",
            "0",
            "-1",
            "4Ki",
            "5000k",
            "10.10.25.131/24",
            "10.10.25.0/24",
            "10.10.25.136",
            "192.168.1.131/24",
            "10.0.0.1/30",
            "0.0.0.0/0",
            "fd00::1/64",
            "255.255.255.255/32",
            "10.10.25.131/31",
            "iqn.2011-03.org.weithenn:iscsi.storage",
            "iqn.2001-04.com",
            "Retain",
            "Delete",
            "ext4",
            "Enabled",
            "Run",
            "Prepare",
            "2026-01-31T12:34:56Z",
            "2026-01-31",
            "NodeLost",
        ]
    ),
    st.sampled_from([..., [], {}, ["a"], {"a": 1}]),
)


# two things that the API server lets through and we don't: a list where a text with a format (a time) is wanted, and a
# whole number written as a fraction (1e3) where an integer is
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=2))
def test_generated_documents_get_the_same_verdict(api: ApiClient, changes: list[tuple[tuple[str, str], Json]]) -> None:
    kind = changes[0][0][0]
    document = DOCUMENTS[kind]
    for (case, place), value in changes:
        if case == kind:
            try:
                document = changed(document, (place, value))
            except (LookupError, TypeError, ValueError):
                continue  # the earlier change took the place away
    assume(not any(isinstance(value, list) and place.endswith("Time") for (_, place), value in changes))
    said, found = online(api, document, kind), offline(document)
    assert bool(said) == bool(found), f"the API server: {said or 'accepted'}; offline: {found or 'accepted'}"
