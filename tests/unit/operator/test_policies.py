"""Without the admission policies no pair is accepted, and nothing that serves is touched."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from typing import Any

import pytest
from storagepair_operator import policies
from storagepair_operator.cluster import ApiError
from storagepair_operator.policies import BINDING, NAMES, POLICY, USE
from unit.operator.builders import acl, lun, planned, running, snapshot
from unit.operator.fakes import FakeCluster, standing

WRONG = "the ValidatingAdmissionPolicy storagepair-use is missing. Apply it"


def missing(cluster: FakeCluster) -> str:
    return asyncio.run(policies.missing(cluster))  # type: ignore[arg-type]


def test_the_manifests_are_what_is_looked_for() -> None:
    assert missing(FakeCluster()) == ""
    assert {document["metadata"]["name"] for document in standing().values()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [POLICY, BINDING])
def test_each_that_is_gone_or_going_is_named_with_the_remedy(kind: str, name: str) -> None:
    request = f"GET {policies.path(kind, name)}"
    gone = FakeCluster({request: ApiError(404, "NotFound", "no")})
    assert missing(gone).startswith(f"the {kind} {name} is missing. Apply storagepair's manifests again")
    going = copy.deepcopy(standing()[request])
    going["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert "is missing" in missing(FakeCluster({request: going}))


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (POLICY, {"failurePolicy": "Ignore"}, "has not failurePolicy Fail"),
        (BINDING, {"validationActions": ["Warn", "Audit"]}, "does not deny"),
        (BINDING, {"policyName": "other"}, "binds another policy"),
        (BINDING, {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, "is limited"),
    ],
)
def test_one_that_would_let_things_pass_counts_as_missing(kind: str, change: dict[str, Any], words: str) -> None:
    request = f"GET {policies.path(kind, USE)}"
    weak = copy.deepcopy(standing()[request])
    weak["spec"].update(change)
    assert words in missing(FakeCluster({request: weak}))


def test_what_cannot_be_read_is_an_error_and_no_verdict() -> None:
    refused = FakeCluster({f"GET {policies.path(POLICY, USE)}": ApiError(403, "Forbidden", "no")})
    with pytest.raises(ApiError):
        missing(refused)


def test_an_unguarded_pair_gets_no_host_and_says_why() -> None:
    plan = planned(dataclasses.replace(snapshot(lun(), acl()), unguarded=WRONG))
    assert plan.pair is not None
    assert (plan.pair.accepted, plan.pair.reason, plan.pair.message) == (False, "PolicyMissing", WRONG)
    assert plan.nodes == {}


def test_hosts_that_serve_are_left_as_they_are() -> None:
    """No document is written, and none of what is on the hosts is let go of."""
    plan = planned(dataclasses.replace(running(lun(), acl()), unguarded=WRONG))
    assert (plan.nodes, plan.release, plan.authkeys) == ({}, (), None)
