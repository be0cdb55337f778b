"""What a deletion means: read live, because the deletionTimestamp alone says nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from storagepair_operator import guard
from storagepair_operator.cluster import ApiError
from storagepair_operator.kinds import ACLS, LUNS, PAIRS
from storagepair_operator.snapshot import FINALIZER, Intent, Snapshot
from unit.operator.builders import acl, entry, lun, pair, pair_spec, running, snapshot, with_spec
from unit.operator.fakes import FakeCluster

CRDS = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
NAMESPACE = "GET /api/v1/namespaces/default"
LUN_CRD, ACL_CRD, PAIR_CRD = CRDS + LUNS.crd, CRDS + ACLS.crd, CRDS + PAIRS.crd
PAIR = f"GET {PAIRS.path('default', 'vmstore')}"
OLD = "2026-01-01T00:00:00Z"


def above(kind: str, created: str = OLD, deleted: bool = False) -> dict[str, Any]:
    metadata = {"name": "x", "creationTimestamp": created}
    return {"kind": kind, "metadata": metadata | ({"deletionTimestamp": OLD} if deleted else {})}


def cluster(**changes: object) -> FakeCluster:
    answers: dict[str, object] = {
        NAMESPACE: above("Namespace"),
        LUN_CRD: above("CustomResourceDefinition"),
        ACL_CRD: above("CustomResourceDefinition"),
        PAIR_CRD: above("CustomResourceDefinition"),
        PAIR: above("StoragePair"),
    }
    return FakeCluster(answers | changes)


def judged(server: FakeCluster, view: Snapshot) -> dict[str, Intent]:
    return asyncio.run(guard.judge(server, view))


GONE = lun(deleted=True)


def test_nothing_deleted_nothing_read() -> None:
    server = cluster()
    assert judged(server, running(lun(), acl())) == {}
    assert server.asked == []


def test_a_deletion_below_living_parents_is_meant() -> None:
    assert judged(cluster(), running(GONE)) == {GONE.metadata.uid: Intent.REMOVE}


@pytest.mark.parametrize("parent", [NAMESPACE, LUN_CRD, PAIR_CRD, PAIR])
@pytest.mark.parametrize("answer", [above("Namespace", deleted=True), ApiError(404, "NotFound", "gone")])
def test_a_deletion_below_what_goes_itself_means_forget(parent: str, answer: object) -> None:
    assert judged(cluster(**{parent: answer}), running(GONE)) == {GONE.metadata.uid: Intent.FORGET}


def test_each_kind_has_a_definition_of_its_own() -> None:
    leaving = acl(deleted=True)
    server = cluster(**{LUN_CRD: above("CustomResourceDefinition", deleted=True)})
    assert judged(server, running(GONE, leaving)) == {
        GONE.metadata.uid: Intent.FORGET,
        leaving.metadata.uid: Intent.REMOVE,
    }


def test_without_a_pair_it_means_forget_once_that_is_read_live() -> None:
    """A pair that is only gone from view is no reason."""
    absent = {PAIR: ApiError(404, "NotFound", "gone")}
    assert judged(cluster(**absent), snapshot(GONE, of=None)) == {GONE.metadata.uid: Intent.FORGET}
    assert judged(cluster(), snapshot(GONE, of=None)) == {GONE.metadata.uid: Intent.REMOVE}


@pytest.mark.parametrize("parent", [NAMESPACE, LUN_CRD])
def test_a_deletion_under_an_earlier_parent_of_the_name_waits_for_the_audit(parent: str) -> None:
    kind = "Namespace" if parent == NAMESPACE else "CustomResourceDefinition"
    assert judged(cluster(**{parent: above(kind, created="2026-03-02T00:00:00Z")}), running(GONE)) == {}


@pytest.mark.parametrize("parent", [PAIR, PAIR_CRD])
def test_a_pair_younger_than_its_lun_is_no_reason_to_wait(parent: str) -> None:
    """Nor is its kind: both may have been deleted and restored while the LUN stayed."""
    server = cluster(**{parent: above("StoragePair", created="2026-03-02T00:00:00Z")})
    assert judged(server, running(GONE)) == {GONE.metadata.uid: Intent.REMOVE}


def test_a_failing_read_decides_nothing() -> None:
    with pytest.raises(ApiError):
        judged(cluster(**{NAMESPACE: ApiError(500, "InternalError", "broken")}), running(GONE))


def test_what_is_decided_is_not_asked_again() -> None:
    server = cluster()
    view = snapshot(GONE, nodes=with_spec(running(lun()).nodes, luns=(entry(state="Absent"),)))
    assert judged(server, view) == {}
    assert server.asked == []


ENDING = pair(
    spec=msgspec.structs.replace(pair_spec(), deletion_policy="Teardown"),
    deletion_timestamp=OLD,
    finalizers=(FINALIZER,),
)


def test_the_deletion_of_a_pair_that_is_held_is_judged_by_what_is_above_it() -> None:
    """Its own deletionTimestamp is no reason to forget it."""
    view = snapshot(of=ENDING)
    uid = ENDING.metadata.uid
    going = above("StoragePair", deleted=True)
    assert judged(cluster(**{PAIR: going}), view) == {uid: Intent.REMOVE}
    for parent in (NAMESPACE, PAIR_CRD):
        server = cluster(**{PAIR: going, parent: above("x", deleted=True)})
        assert judged(server, view) == {uid: Intent.FORGET}


def test_nothing_is_asked_about_a_pair_that_nobody_holds_or_whose_end_has_begun() -> None:
    free = msgspec.structs.replace(ENDING, metadata=msgspec.structs.replace(ENDING.metadata, finalizers=()))
    begun = with_spec(running().nodes, service="Stopped")
    for view in (snapshot(of=free), snapshot(of=ENDING, nodes=begun)):
        server = cluster()
        assert judged(server, view) == {}
        assert server.asked == []
