"""Switchovers: each precondition, and the way from phase to phase."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from storagepair_crds.views import NodeStatus
from storagepair_operator import moments, reasons
from storagepair_operator.kinds import PAIRS, SWITCHOVERS
from storagepair_operator.snapshot import Snapshot
from unit.operator.builders import (
    KEY,
    NOW,
    bond,
    failover,
    lone,
    outcome,
    pair,
    pair_spec,
    planned,
    snapshot,
    status,
    switchover,
)
from unit.operator.switchoverworld import FINAL, at, changed, phase, recorded, told, world

# ---------------------------------------------------------------------------- preconditions

OLD = {"created": "2026-03-01T11:00:00Z"}  # nothing is on its way any more
AHEAD = "2026-03-01T12:00:01Z"
REFUSALS: list[tuple[str, Snapshot, str, str]] = [
    (
        "no pair",
        snapshot(of=None, switchovers=[switchover()]),
        reasons.PAIR_NOT_FOUND,
        "no StoragePair default/vmstore",
    ),
    (
        "the pair is being deleted",
        replace(world(switchover()), pair=pair(deletion_timestamp=AHEAD)),
        reasons.PAIR_NOT_FOUND,
        "is being deleted",
    ),
    ("not a node", world(switchover(to="node3")), reasons.NODE_NOT_IN_PAIR, "spec.to: node3 is no node of StoragePair"),
    (
        "too late",
        world(switchover(not_after="2026-03-01T11:59:59Z")),
        reasons.TOO_LATE,
        "spec.notAfter: it is 2026-03-01T12:00:00Z, later than 2026-03-01T11:59:59Z",
    ),
    (
        "a replay",
        replace(world(switchover()), failovers=(failover(request="default/move"),)),
        reasons.ALREADY_CARRIED_OUT,
        "Failover vmstore-node2-1 records that Switchover move was carried out before",
    ),
    (
        "another one is under way",
        world(switchover("first", phase="Running"), switchover()),
        reasons.MOVE_IN_PROGRESS,
        "Switchover first of StoragePair vmstore is under way",
    ),
    (
        "nobody serves",
        world(switchover(**OLD), active=status()),
        reasons.NOT_SERVING,
        "no node of StoragePair vmstore serves now",
    ),
    (
        "both are primary",
        world(switchover(**OLD), active=lone(status("Active")), standby=lone(status("Active"))),
        reasons.DUAL_PRIMARY,
        "resolve the split brain first",
    ),
    (
        "the wrong source",
        world(switchover(from_="node2")),
        reasons.NOT_ACTIVE,
        "spec.from: node2 does not serve, node1",
    ),
    ("there already", world(switchover(to="node1")), reasons.ALREADY_ACTIVE, "spec.to: node1 serves already"),
    (
        "a silent agent",
        world(switchover(**OLD), standby=NodeStatus()),
        reasons.WAITING_FOR_AGENT,
        "the node agent on node2 has not reported yet (StorageNode node2)",
    ),
    (
        "an agent that lags behind",
        world(switchover(**OLD), standby=status(observed_generation=0)),
        reasons.APPLYING,
        "the node agent on node2 has not carried out the newest document of StorageNode node2",
    ),
    (
        "Heartbeat does not run",
        world(switchover(), standby=changed("Standby", "heartbeat", running=False)),
        reasons.PEER_NOT_SEEN,
        "Heartbeat does not run on node2",
    ),
    (
        "Heartbeat does not see the peer",
        world(switchover(), active=changed("Active", "heartbeat", peer="up")),
        reasons.PEER_NOT_SEEN,
        "Heartbeat on node1 says that node2 is up (StorageNode node1, status.heartbeat.peer)",
    ),
    (
        "not connected",
        world(switchover(), active=changed("Active", "replication", connection="StandAlone")),
        reasons.NOT_CONNECTED,
        "the mirror on node1 is not connected to node2 (StorageNode node1, status.replication.connection is Stand",
    ),
    (
        "a resync",
        world(
            switchover(),
            active=changed("Active", "replication", connection="SyncSource", peer_disk_state="Inconsistent"),
        ),
        reasons.NOT_UP_TO_DATE,
        "(StorageNode node1, status.replication.peerDiskState is Inconsistent)",
    ),
    (
        "a detached disk",
        world(switchover(), standby=changed("Standby", "replication", disk_state="Diskless")),
        reasons.NOT_UP_TO_DATE,
        "(StorageNode node2, status.replication.diskState is Diskless)",
    ),
    (
        "a NIC without a link",
        world(
            switchover(),
            standby=status(bonds=(bond("bond0", "eth0", "eth1", down="eth1"), bond("bond1", "eth2", "eth3"))),
        ),
        reasons.LINK_DOWN,
        "eth1 of bond0 on node2 is Down (StorageNode node2, status.bonds)",
    ),
    (
        "a bond that is not there",
        world(switchover(), active=status("Active", bonds=(bond("bond0", "eth0", "eth1"),))),
        reasons.LINK_DOWN,
        "eth2 of bond1 on node1 is not there",
    ),
    (
        "a dead path of Heartbeat's",
        world(
            switchover(),
            standby=changed(
                "Standby",
                "heartbeat",
                links=tuple(
                    msgspec.structs.replace(link, state="dead") if link.name == "bond0" else link
                    for link in status().heartbeat.links
                ),
            ),
        ),
        reasons.LINK_DOWN,
        "Heartbeat on node2 hears nothing over bond0",
    ),
]


@pytest.mark.parametrize(("view", "reason", "message"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_a_refusal_names_what_is_in_the_way_and_changes_nothing(view: Snapshot, reason: str, message: str) -> None:
    done = planned(view)
    move = done.moves["move"]
    assert (move.phase, move.reason) == ("Refused", reason)
    assert message in move.message
    assert move.message.endswith(". Nothing was changed")
    assert dict(done.nodes) == dict(planned(replace(view, switchovers=view.switchovers[:-1])).nodes)
    told_ = told(view).switchovers["move"]
    assert (told_.start_time, told_.completion_time) == ("", "2026-03-01T12:00:00.000000Z")
    assert {c.type: c.status for c in told_.conditions} == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}


def test_an_unaccepted_pair_refuses() -> None:
    other = pair(KEY._replace(name="older"), pair_spec(), created="2026-01-01T00:00:00Z")
    view = snapshot(switchovers=[switchover()], others=[other])
    assert phase(view) == ("Refused", reasons.PAIR_NOT_ACCEPTED)
    assert "(NodeInOtherPair)" in planned(view).moves["move"].message


def test_preconditions_are_told_in_their_order() -> None:
    """Who gets one of them right hears of the next one, never of one that only follows from another."""
    everything = world(
        switchover(to="node3", from_="node2", not_after="2026-01-01T00:00:00Z"),
        active=lone(status("Active")),
        standby=NodeStatus(),
    )
    assert phase(everything)[1] == reasons.NODE_NOT_IN_PAIR
    fixed = replace(everything, switchovers=(switchover(from_="node2", not_after="2026-01-01T00:00:00Z"),))
    assert phase(fixed)[1] == reasons.TOO_LATE
    fixed = replace(everything, switchovers=(switchover(from_="node2"),))
    assert phase(fixed)[1] == reasons.NOT_ACTIVE


@pytest.mark.parametrize("limit", ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00.5+01:00", "9999-12-31T23:59:59-23:00"])
def test_a_limit_that_is_not_over_refuses_nothing(limit: str) -> None:
    assert phase(world(switchover(not_after=limit))) == ("Running", reasons.RUNNING)


@pytest.mark.parametrize(
    ("standby", "reason"),
    [(status(observed_generation=0), reasons.APPLYING), (NodeStatus(), reasons.WAITING_FOR_AGENT)],
)
def test_what_may_pass_by_itself_is_waited_for_a_moment(standby: NodeStatus, reason: str) -> None:
    """Right after a move the hosts' reports are on their way: there and back is no reason for a refusal."""
    view = world(switchover(), standby=standby)
    assert phase(view) == ("Pending", reason)
    assert at(view, NOW).wake == NOW + timedelta(seconds=60)
    assert phase(view, now=NOW + timedelta(seconds=59)) == ("Pending", reason)
    assert phase(view, now=NOW + timedelta(seconds=60)) == ("Refused", reason)
    assert phase(world(switchover())) == ("Running", reasons.RUNNING)


def test_while_one_waits_the_next_one_does_too() -> None:
    view = world(switchover("a"), switchover("b"), standby=NodeStatus())
    assert phase(view, "a") == ("Pending", reasons.WAITING_FOR_AGENT)
    assert phase(view, "b") == ("Pending", reasons.PENDING)


# ---------------------------------------------------------------------------- from phase to phase


def test_the_host_is_asked_once_the_phase_is_on_record() -> None:
    view = world(switchover())
    assert phase(view) == ("Running", reasons.RUNNING)
    assert all(spec.switchover is None for spec in planned(view).nodes.values())
    begun = recorded(view)
    assert begun.switchovers[0].status.start_time == "2026-03-01T12:00:00.000000Z"
    specs = planned(begun).nodes
    asked = specs["node1"].switchover
    assert asked is not None
    assert (asked.name, asked.uid, asked.to) == ("default/move", "uid-of-default-move", "node2")
    assert specs["node2"].switchover is None
    assert recorded(begun) == begun, "and nothing more is written while it is under way"


@pytest.mark.parametrize(
    ("limit", "told_"),
    [
        ("", "2026-03-01T12:01:00Z"),
        ("2026-03-01T12:00:30Z", "2026-03-01T12:00:30Z"),
        ("2026-03-01T13:30:00Z", "2026-03-01T12:01:00Z"),
    ],
)
def test_a_host_that_comes_back_late_does_not_begin(limit: str, told_: str) -> None:
    asked = planned(world(switchover(phase="Running", not_after=limit))).nodes["node1"].switchover
    assert asked is not None
    assert asked.not_after == told_


@pytest.mark.parametrize("ended", FINAL)
def test_the_hosts_word_is_the_end(ended: str) -> None:
    request = switchover(phase="Running")
    view = world(request, active=status(switchover=outcome(request, ended, "Why")), standby=status("Active"))
    assert phase(view) == (ended, "Why")
    assert all(spec.switchover is None for spec in planned(view).nodes.values())
    assert {event.reason for event in told(view).events if event.action == "Switchover"} == {f"Switchover{ended}"}
    done = recorded(view)
    assert done.switchovers[0].status.completion_time == "2026-03-01T12:00:00.000000Z"
    assert planned(done).moves == {}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("", "node1 did not begin within 60 s; was its node agent away or busy, and is its clock right?"),
        ("2026-03-01T12:00:30Z", "the host's words"),
    ],
)
def test_a_limit_that_the_user_did_not_set_is_explained(limit: str, message: str) -> None:
    request = switchover(phase="Running", not_after=limit)
    said = msgspec.structs.replace(outcome(request, "Refused", "TooLate"), message="the host's words")
    view = world(request, active=status("Active", switchover=said))
    assert message in at(view, NOW + timedelta(seconds=70)).moves["move"].message


@pytest.mark.parametrize(("uid", "word"), [("another", "Succeeded"), ("uid-of-default-move", "Running")])
def test_another_ones_outcome_and_an_unfinished_one_end_nothing(uid: str, word: str) -> None:
    request = switchover(phase="Running")
    said = msgspec.structs.replace(outcome(request, word), uid=uid)
    assert phase(world(request, active=status("Active", switchover=said))) == ("Running", "Running")


def test_a_host_that_dies_on_the_way_is_spoken_for_by_the_record() -> None:
    """The move was made, and who could have said so is gone."""
    request = switchover(phase="Running")
    view = world(request, active=status("Active"), standby=lone(status("Active")))
    assert phase(view)[0] == "Running"
    view = replace(view, failovers=(failover(request="default/move", cause="Planned"),))
    assert phase(view) == ("Succeeded", reasons.MOVED)
    assert recorded(view).switchovers[0].status.failover == "vmstore-node2-1"


def test_without_any_outcome_it_fails_in_time_and_says_where_to_look() -> None:
    view = world(switchover(phase="Running"))
    assert at(view, NOW).wake == NOW + timedelta(seconds=180)
    assert phase(view, now=NOW + timedelta(seconds=179))[0] == "Running"
    late = NOW + timedelta(seconds=180)
    assert phase(view, now=late) == ("Failed", reasons.NO_OUTCOME)
    message = at(view, late).moves["move"].message
    assert "node1 did not say within 180 s what came of it; node1 serves now" in message
    assert "the log of the node agent on node1" in message
    assert all(spec.switchover is None for spec in at(view, late).nodes.values())
    assert at(recorded(view, late), late).wake is None


def test_of_two_at_once_the_older_runs_and_the_younger_is_refused() -> None:
    view = world(switchover("a", created="2026-03-01T11:59:59Z"), switchover("b", to="node2"))
    assert phase(view, "a") == ("Running", reasons.RUNNING)
    assert phase(view, "b") == ("Refused", reasons.MOVE_IN_PROGRESS)


def test_a_refused_one_is_not_in_the_way_of_the_next() -> None:
    view = world(switchover("a", to="node1"), switchover("b"))
    assert (phase(view, "a")[0], phase(view, "b")[0]) == ("Refused", "Running")


def test_one_that_is_being_deleted_is_not_begun() -> None:
    request = switchover()
    gone = msgspec.structs.replace(
        request, metadata=msgspec.structs.replace(request.metadata, deletion_timestamp=moments.seconds(NOW))
    )
    assert planned(world(gone)).moves == {}


@pytest.mark.parametrize("ended", FINAL)
def test_a_final_one_is_never_looked_at_again(ended: str) -> None:
    view = world(switchover(phase=ended))
    done = planned(view)
    assert (done.moves, done.wake) == ({}, None)
    assert [event for event in told(view).events if event.action == "Switchover"] == []


def test_the_record_is_named_when_the_hosts_deliver_it() -> None:
    request = switchover(phase="Succeeded")
    view = replace(world(request), failovers=(failover(request="default/move"), failover("other")))
    (named,) = recorded(view).switchovers
    assert named.status == msgspec.structs.replace(request.status, failover="vmstore-node2-1")
    assert [event for event in told(view).events if event.action == "Switchover"] == []
    trimmed = replace(recorded(view), failovers=())
    assert recorded(trimmed) == trimmed


def test_phases_are_told_on_the_request_and_on_its_pair_once() -> None:
    view = world(switchover())
    events = [event for event in told(view).events if event.action == "Switchover"]
    assert {event.kind for event in events} == {SWITCHOVERS, PAIRS}
    assert {event.reason for event in events} == {reasons.SWITCHOVER_STARTED}
    assert len({event.name for event in events}) == 2
    assert [e.name for e in told(view, NOW + timedelta(seconds=5)).events if e.action == "Switchover"] == [
        event.name for event in events
    ]
    assert [event for event in told(recorded(view)).events if event.action == "Switchover"] == []


def test_a_refusal_without_a_pair_is_told_on_the_request() -> None:
    (event,) = told(snapshot(of=None, switchovers=[switchover()])).events
    assert (event.kind, event.about.name, event.type) == (SWITCHOVERS, "move", "Warning")
