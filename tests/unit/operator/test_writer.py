"""The writer: the difference and nothing else, in an order that guards the hosts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from storagepair_crds.views import HeartbeatStatus, NodeStatus
from storagepair_operator.cluster import ApiError
from storagepair_operator.kinds import ACLS, FAILOVERS, KINDS, LUNS, NODES, PAIRS, SWITCHOVERS
from storagepair_operator.plan.teardown import ABANDON
from storagepair_operator.snapshot import FINALIZER, Intent, Snapshot
from storagepair_operator.store import Store
from storagepair_operator.summarize import summarize
from storagepair_operator.writer import MayNotWrite, Writer, note_of
from unit.operator.builders import (
    EARLIER,
    KEY,
    NOW,
    acl,
    failover,
    incident,
    lun,
    pair,
    pair_spec,
    planned,
    running,
    served,
    snapshot,
    status,
    switchover,
    written,
)
from unit.operator.fakes import STRANGER, FakeCluster, as_document

SECRETS = "POST /api/v1/namespaces/storagepair-system/secrets"
EVENTS = "POST /apis/events.k8s.io/v1/namespaces/default/events"
NODE1 = f"PUT {NODES.path(name='node1')}"
CREATE_NODE = f"POST {NODES.path()}"
FAILOVER = f"POST {FAILOVERS.path('default')}"
LUN = f"PATCH {LUNS.path('default', 'datastore1')}"
ACL = f"PATCH {ACLS.path('default', 'esx')}"
PAIR = f"PATCH {PAIRS.path('default', 'vmstore')}"
PAIR_STATUS = f"PATCH {PAIRS.path('default', 'vmstore', 'status')}"
SERVES = status("Active", luns=(served(),))
EXISTS = ApiError(409, "AlreadyExists", "there is one")
KEYLESS = NodeStatus(heartbeat=HeartbeatStatus(authkeys="Absent"))


class Api:
    """A writer with an API server that takes all, unless told otherwise by request."""

    def __init__(self, **answers: object) -> None:
        self.cluster = FakeCluster(answers, writable=True)
        self.store = Store()
        self.store.whole.set()
        for kind in KINDS:
            self.store.deleted(kind, STRANGER)
        self.writer = Writer(self.cluster, self.store, "test", self.store.whole.is_set)

    def carry_out(self, view: Snapshot, intents: dict[str, Intent] | None = None) -> list[str]:
        plan = planned(view, intents)
        return asyncio.run(self.writer.carry_out(view, plan, summarize(view, plan, NOW)))

    def body(self, request: str) -> Any:
        return next(body for asked, body in self.cluster.asked if asked == request)


def settled(view: Snapshot) -> Snapshot:
    """The same world when the statuses are on record and everything is held."""
    told = summarize(view, planned(view), NOW)
    assert view.pair is not None
    assert told.pair is not None
    pair = msgspec.structs.replace(view.pair, status=told.pair)
    return Snapshot(
        key=view.key,
        pair=pair,
        luns=tuple(msgspec.structs.replace(each, status=told.luns[each.metadata.name]) for each in view.luns),
        acls=tuple(msgspec.structs.replace(each, status=told.acls[each.metadata.name]) for each in view.acls),
        nodes=view.nodes,
        pairs={view.key: pair},
        failovers=view.failovers,
    )


def test_at_rest_nothing_is_asked() -> None:
    api = Api()
    assert api.carry_out(settled(running(lun(), acl(), active=SERVES))) == []
    assert api.cluster.asked == []
    assert not api.writer.writes


def test_a_new_pair_is_held_written_and_told_in_this_order() -> None:
    api = Api()
    api.carry_out(snapshot(lun(held=False), acl(held=False)))
    status_of = "/status"
    assert api.cluster.requests == [LUN, ACL, CREATE_NODE, CREATE_NODE, PAIR_STATUS, LUN + status_of, ACL + status_of]
    assert api.writer.writes == {
        ("LUN", "finalizer"): 1,
        ("InitiatorACL", "finalizer"): 1,
        ("StorageNode", "create"): 2,
        ("StoragePair", "status"): 1,
        ("LUN", "status"): 1,
        ("InitiatorACL", "status"): 1,
    }
    assert api.body(LUN) == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "10"},
        {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]},
    ]


def test_what_could_not_be_held_does_not_reach_a_host() -> None:
    api = Api(**{LUN: ApiError(422, "Invalid", "the server rejected our request due to an error in our request")})
    with pytest.raises(ApiError) as error:
        api.carry_out(snapshot(lun(held=False)))
    assert error.value.conflict
    assert CREATE_NODE not in api.cluster.requests
    assert PAIR_STATUS not in api.cluster.requests


def test_a_document_is_replaced_whole_and_only_if_it_is_the_one_that_was_seen() -> None:
    view = running(active=SERVES)
    before = view.nodes["node1"]
    about = msgspec.structs.replace(before.node.metadata, annotations={"note": "mine"}, labels={"rack": "a"})
    nodes = {**view.nodes, "node1": msgspec.structs.replace(before.node, metadata=about)}
    seen = {name: type(before)(getattr(each, "node", each), before.reported) for name, each in nodes.items()}
    api = Api()
    api.carry_out(settled(snapshot(lun(), nodes=seen)))
    body = api.body(NODE1)
    assert body["metadata"] == {
        "name": "node1",
        "resourceVersion": "10",
        "annotations": {"note": "mine"},
        "labels": {"rack": "a"},
        "finalizers": [],
    }
    assert set(body) == {"apiVersion", "kind", "metadata", "spec"}
    assert [each["name"] for each in body["spec"]["luns"]] == ["datastore1"]


def test_a_failure_at_one_host_does_not_hinder_the_other() -> None:
    api = Api(**{NODE1: ApiError(409, "Conflict", "newer")})
    with pytest.raises(ApiError):
        api.carry_out(settled(snapshot(lun(), nodes=running(active=SERVES).nodes)))
    assert NODE1.replace("node1", "node2") in api.cluster.requests


def test_the_key_is_random_made_once_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = []
    for _ in range(2):
        api = Api()
        view = snapshot(nodes=written(snapshot(), (KEYLESS, KEYLESS)))
        api.carry_out(view)
        api.carry_out(view)
        assert api.cluster.requests.count(SECRETS) == 1
        body = api.body(SECRETS)
        assert body["metadata"] == {"name": "default.vmstore.heartbeat", "namespace": "storagepair-system"}
        keys.append(body["stringData"]["authkey"])
        assert set(body["stringData"]) == {"authkey"}
    assert all(len(key) == 64 and int(key, 16) for key in keys)
    assert keys[0] != keys[1]
    assert not any(key in caplog.text for key in keys)


def test_a_key_that_is_there_stays() -> None:
    api = Api(**{SECRETS: EXISTS})
    api.carry_out(snapshot(nodes=written(snapshot(), (KEYLESS, KEYLESS))))
    assert ("Secret", "create") not in api.writer.writes


def test_a_move_is_told_before_it_is_recorded() -> None:
    api = Api()
    view = settled(running(standby=status(), active=status("Active", incidents=(incident(),))))
    api.carry_out(view)
    assert api.cluster.requests == [EVENTS, FAILOVER]
    event = api.body(EVENTS)
    assert event["metadata"] == {"name": "vmstore-node2-1", "namespace": "default"}
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("StoragePair", "vmstore")
    record = api.body(FAILOVER)
    assert record["metadata"]["labels"] == {"storagepair.dev/pair": "vmstore"}
    assert (record["spec"]["from"], record["spec"]["to"], record["spec"]["milliseconds"]) == ("node1", "node2", 11200)


def test_an_event_that_failed_is_told_again_and_the_record_waits_for_it() -> None:
    api = Api(**{EVENTS: ApiError(500, "InternalError", "broken")})
    view = settled(running(active=status("Active", incidents=(incident(),))))
    with pytest.raises(ApiError):
        api.carry_out(view)
    assert api.cluster.requests == [EVENTS]


def test_what_is_there_already_is_fine() -> None:
    api = Api(**{EVENTS: EXISTS, FAILOVER: EXISTS})
    assert api.carry_out(settled(running(active=status("Active", incidents=(incident(),))))) == []


@pytest.mark.parametrize("status", [403, 422])
def test_an_event_that_is_refused_hinders_nothing(status: int) -> None:
    """In a namespace that is being deleted, or because an agent's reason is none."""
    api = Api(**{EVENTS: ApiError(status, "Invalid", "the Event x is invalid: reason")})
    api.carry_out(running(lun("lost", target="gone", held=False), active=SERVES))
    assert PAIR_STATUS in api.cluster.requests


def test_releases_come_first_and_whatever_else_fails() -> None:
    gone = lun(deleted=True)
    api = Api(**{NODE1: ApiError(500, "InternalError", "broken")})
    with pytest.raises(ApiError):
        api.carry_out(snapshot(gone, acl(), nodes=running(lun()).nodes), {gone.metadata.uid: Intent.FORGET})
    assert api.cluster.requests[0] == LUN
    assert api.body(LUN)[1] == {"op": "add", "path": "/metadata/finalizers", "value": []}


def test_foreign_finalizers_stay() -> None:
    gone = lun(deleted=True)
    about = msgspec.structs.replace(gone.metadata, finalizers=("foreign.example/x", FINALIZER))
    gone = msgspec.structs.replace(gone, metadata=about)
    api = Api()
    api.carry_out(snapshot(gone, nodes=running(lun()).nodes), {gone.metadata.uid: Intent.FORGET})
    assert api.body(LUN)[1]["value"] == ["foreign.example/x"]


def test_nothing_is_written_from_a_view_that_is_not_proven() -> None:
    api = Api()
    api.store.whole.clear()
    with pytest.raises(MayNotWrite):
        api.carry_out(snapshot(lun()))
    assert api.cluster.asked == []


def test_what_was_written_is_in_view_at_once() -> None:
    told = as_document(LUNS, lun(), version=11)
    api = Api(**{LUN: told})
    api.carry_out(snapshot(lun(held=False)))
    assert [each.metadata.resource_version for each in api.store.snapshot(KEY).luns] == ["11"]


# ---------------------------------------------------------------------------- requests and the history

MOVE = f"PATCH {SWITCHOVERS.path('default', 'move', 'status')}"


def test_a_phase_is_written_once_over_what_it_was_decided_from() -> None:
    api = Api()
    view = replace(settled(running(active=SERVES)), switchovers=(switchover(),))
    api.carry_out(view)
    uid, version, status_ = api.body(MOVE)
    assert (uid["value"], version["value"]) == ("uid-of-default-move", "10")
    assert {test["op"] for test in (uid, version)} == {"test"}
    assert status_["value"]["phase"] == "Running"
    assert NODE1 not in api.cluster.requests, "the host is asked when the phase is on record"
    assert api.cluster.requests.index(EVENTS) < api.cluster.requests.index(MOVE)


def test_what_is_on_record_as_running_reaches_the_host_and_is_not_written_again() -> None:
    api, view = Api(), settled(running(active=SERVES))
    asked = replace(view, switchovers=(switchover(),))
    begun = summarize(asked, planned(asked), NOW).switchovers["move"]
    api.carry_out(replace(view, switchovers=(msgspec.structs.replace(switchover(), status=begun),)))
    assert api.cluster.requests == [NODE1]
    assert api.body(NODE1)["spec"]["switchover"]["to"] == "node2"


TRIM = f"DELETE {FAILOVERS.path('default', 'vmstore-old')}"
DONE = {"kind": "Status", "metadata": {}, "status": "Success"}


def crowded() -> Snapshot:
    view = running(active=SERVES)
    assert view.pair is not None
    spec = msgspec.structs.replace(view.pair.spec, failover_history_limit=1)
    pair = msgspec.structs.replace(view.pair, spec=spec)
    records = (failover("old", days=3), failover("new"))
    return settled(replace(view, pair=pair, pairs={view.key: pair}, failovers=records))


def test_a_record_too_many_is_deleted_by_its_uid_and_forgotten() -> None:
    api = Api(**{TRIM: DONE})
    view = crowded()
    for record in view.failovers:
        api.store.put(FAILOVERS, as_document(FAILOVERS, record))
    assert api.carry_out(view) == ["Failover vmstore-old"]
    assert api.body(TRIM)["preconditions"] == {"uid": "uid-of-default-vmstore-old"}
    assert api.writer.writes == {("Failover", "delete"): 1}
    assert api.store.count(FAILOVERS) == 1


def test_a_record_that_somebody_holds_is_asked_for_once() -> None:
    held = failover("old", days=3, deletion_timestamp="2026-03-01T12:00:00Z")
    api = Api(**{TRIM: as_document(FAILOVERS, held, 11)})
    api.carry_out(crowded())
    assert api.store.count(FAILOVERS) == 1
    again = Api()
    again.carry_out(replace(crowded(), failovers=(held, failover("new"))))
    assert TRIM not in again.cluster.requests


def test_a_record_that_is_gone_or_another_one_by_now_stops_nothing_for_long() -> None:
    gone = Api(**{TRIM: ApiError(404, "NotFound", "no")})
    assert gone.carry_out(crowded()) == []
    other = Api(**{TRIM: ApiError(409, "Conflict", "Precondition failed: UID in precondition")})
    with pytest.raises(ApiError) as conflict:
        other.carry_out(crowded())
    assert conflict.value.conflict


def test_a_pair_with_teardown_is_held_before_its_hosts_hear_of_it_and_let_go_before_they_hear_of_its_end() -> None:
    api = Api()
    spec = msgspec.structs.replace(pair_spec(), deletion_policy="Teardown")
    api.carry_out(snapshot(of=pair(spec=spec)))
    assert api.cluster.requests.index(PAIR) < api.cluster.requests.index(CREATE_NODE)
    assert api.body(PAIR)[1]["value"] == [FINALIZER]
    api = Api()
    gone = pair(
        spec=spec, deletion_timestamp=EARLIER, finalizers=("theirs", FINALIZER), annotations={ABANDON: "node1,node2"}
    )
    view = running()
    done = api.carry_out(
        Snapshot(key=KEY, pair=gone, nodes=view.nodes, pairs={KEY: gone}), {gone.metadata.uid: Intent.REMOVE}
    )
    assert api.cluster.requests[0] == PAIR
    assert api.body(PAIR)[1]["value"] == ["theirs"]
    assert [each for each in done if each.startswith("StorageNode")] == [
        "StorageNode node1 (service)",
        "StorageNode node2 (service)",
    ]
    assert PAIR_STATUS not in api.cluster.requests


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("a" * 1024, 1024), ("a" * 1025, 1024), ("é" * 512, 1024), ("é" * 513, 1023), ("…" * 999, 1023)],
)
def test_a_note_is_as_long_as_the_api_server_takes_it(text: str, bytes_: int) -> None:
    """It counts bytes: a note of 1,024 characters with one `…` in it was refused, and the event lost."""
    note = note_of(text)
    assert len(note.encode()) == bytes_
    assert note == text or (note.endswith("…") and text.startswith(note[:-1]))
