"""Switchovers: each precondition, the way from phase to phase, and what no order of events may bring about."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_crds.views import NodeStatus, Switchover
from storagepair_operator import moments, reasons
from storagepair_operator.kinds import PAIRS, SWITCHOVERS
from storagepair_operator.plan import Plan, plan
from storagepair_operator.snapshot import Observed, Snapshot
from storagepair_operator.summarize import Summary, summarize
from unit.operator.builders import (
    KEY,
    NOW,
    SECRETS,
    bond,
    failover,
    incident,
    lone,
    outcome,
    pair,
    pair_spec,
    planned,
    running,
    snapshot,
    status,
    switchover,
    written,
)

FINAL = ("Succeeded", "Refused", "Failed")


def world(*requests: Switchover, active: NodeStatus | None = None, standby: NodeStatus | None = None) -> Snapshot:
    """A pair that serves on node1, with these requests."""
    return replace(running(active=active, standby=standby), switchovers=requests)


def changed(role: str, part: str, **more: Any) -> NodeStatus:
    """A machine's status with a part of it changed."""
    seen = status(role)
    return msgspec.structs.replace(seen, **{part: msgspec.structs.replace(getattr(seen, part), **more)})


def phase(view: Snapshot, name: str = "move", now: datetime = NOW) -> tuple[str, str]:
    move = at(view, now).moves[name]
    return move.phase, move.reason


def at(view: Snapshot, now: datetime) -> Plan:
    return plan(view, {}, SECRETS, now)


def told(view: Snapshot, now: datetime = NOW) -> Summary:
    return summarize(view, at(view, now), now)


def recorded(view: Snapshot, now: datetime = NOW) -> Snapshot:
    """The world after the operator has written the statuses of the requests."""
    written_ = told(view, now).switchovers
    requests = (
        msgspec.structs.replace(each, status=written_.get(each.metadata.name, each.status)) for each in view.switchovers
    )
    return replace(view, switchovers=tuple(requests))


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
        "the mirror on node1 is not connected (StorageNode node1, status.replication.connection is StandAlone)",
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
    assert at(view, NOW).wake == NOW + timedelta(seconds=10)
    assert phase(view, now=NOW + timedelta(seconds=9)) == ("Pending", reason)
    assert phase(view, now=NOW + timedelta(seconds=10)) == ("Refused", reason)
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


# ---------------------------------------------------------------------------- whatever happens in whatever order

_NAMES = ("a", "b", "c")
_ROLES = st.sampled_from(
    [
        ("Active", "Standby"),
        ("Active", "Standby"),
        ("Standby", "Active"),
        ("Standby", "Standby"),
        ("lost", "Standby"),
        ("silent", "lost"),
    ]
)


@st.composite
def happenings(draw: st.DrawFn) -> tuple[str, Any]:
    """One thing that happens in a world of a pair, its users, its hosts and its operator."""
    what = draw(
        st.sampled_from(
            ["ask", "ask", "delete", "report", "outcome", "record", "forget", "wait", "operator", "operator"]
        )
    )
    if what == "ask":
        return what, (
            draw(st.sampled_from(_NAMES)),
            draw(st.sampled_from(["node1", "node2", "node2", "node2", "node3"])),
        )
    if what == "report":
        return what, draw(_ROLES)
    if what == "outcome":
        return what, (draw(st.sampled_from(_NAMES)), draw(st.sampled_from(FINAL)))
    if what == "wait":
        return what, draw(st.sampled_from([1, 20, 200]))
    return what, draw(st.sampled_from(_NAMES))


class _World:
    """Plays happenings. Each write of the operator may be the last before a crash: statuses or documents are lost."""

    def __init__(self) -> None:
        self.now = NOW
        self.view = running()
        self.roles = ("Active", "Standby")
        self.count = 0
        self.over: dict[str, str] = {}

    def play(self, what: str, value: Any) -> None:
        getattr(self, f"_{what}")(value)
        self._check()

    def _ask(self, value: tuple[str, str]) -> None:
        name, to = value
        if any(each.metadata.name == name for each in self.view.switchovers):
            return
        self.count += 1
        made = switchover(name, to, created=moments.seconds(self.now))
        about = msgspec.structs.replace(made.metadata, uid=f"uid-{self.count}")
        self.view = replace(
            self.view, switchovers=(*self.view.switchovers, msgspec.structs.replace(made, metadata=about))
        )

    def _delete(self, name: str) -> None:
        left = tuple(each for each in self.view.switchovers if each.metadata.name != name)
        self.view = replace(self.view, switchovers=left)

    def _report(self, value: tuple[str, str]) -> None:
        self.roles = value
        known = {
            "Active": status("Active"),
            "Standby": status(),
            "lost": lone(status("Active")),
            "silent": NodeStatus(),
        }
        nodes = {}
        for (name, seen), role in zip(self.view.nodes.items(), value, strict=True):
            kept = seen.node.status.switchover
            told_ = msgspec.structs.replace(
                known[role],
                switchover=kept,
                observed_generation=-1 if role == "silent" else seen.node.metadata.generation,
            )
            nodes[name] = Observed(msgspec.structs.replace(seen.node, status=told_), moments.seconds(self.now))
        self.view = replace(self.view, nodes=nodes)

    def _outcome(self, value: tuple[str, str]) -> None:
        """A host that is asked says what came of it."""
        name, word = value
        nodes = dict(self.view.nodes)
        for host, seen in nodes.items():
            asked = seen.node.spec.switchover
            request = next((each for each in self.view.switchovers if each.metadata.name == name), None)
            if asked is not None and request is not None and asked.uid == request.metadata.uid:
                told_ = msgspec.structs.replace(seen.node.status, switchover=outcome(request, word))
                nodes[host] = Observed(msgspec.structs.replace(seen.node, status=told_), seen.reported)
        self.view = replace(self.view, nodes=nodes)

    def _record(self, name: str) -> None:
        if all(each.metadata.name != f"vmstore-{name}" for each in self.view.failovers):
            self.view = replace(self.view, failovers=(*self.view.failovers, failover(name, request=f"default/{name}")))

    def _forget(self, name: str) -> None:
        self.view = replace(
            self.view, failovers=tuple(each for each in self.view.failovers if each.metadata.name != f"vmstore-{name}")
        )

    def _wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def _operator(self, crash: str) -> None:
        """A reconcile; "a" and "b" stand for a crash after the documents, and for one before them."""
        done = at(self.view, self.now)
        statuses = summarize(self.view, done, self.now).switchovers
        if crash != "b":
            self._write(done)
        if crash != "a":
            self.view = replace(
                self.view,
                switchovers=tuple(
                    msgspec.structs.replace(each, status=statuses.get(each.metadata.name, each.status))
                    for each in self.view.switchovers
                ),
            )

    def _write(self, done: Plan) -> None:
        nodes = dict(self.view.nodes)
        for name, spec in done.nodes.items():
            seen = nodes[name]
            if seen.node.spec != spec:
                about = msgspec.structs.replace(seen.node.metadata, generation=seen.node.metadata.generation + 1)
                nodes[name] = Observed(msgspec.structs.replace(seen.node, spec=spec, metadata=about), seen.reported)
        self.view = replace(self.view, nodes=nodes)

    def _check(self) -> None:
        going = [each for each in self.view.switchovers if each.status.phase == "Running"]
        assert len(going) <= 1
        for each in self.view.switchovers:
            before = self.over.get(each.metadata.uid)
            assert before in (None, each.status.phase), "a final phase stays"
            if each.status.phase in FINAL:
                self.over[each.metadata.uid] = each.status.phase
        specs = at(self.view, self.now).nodes
        wanted = [(name, spec.switchover) for name, spec in specs.items() if spec.switchover is not None]
        assert len(wanted) <= 1
        for name, asked in wanted:
            assert [each.metadata.uid for each in going] == [asked.uid], "asked for only while it is Running"
            assert name != asked.to


@given(st.lists(happenings(), min_size=12, max_size=30))
@settings(max_examples=400, deadline=None)
def test_never_two_at_once_and_never_a_final_one_again(script: list[tuple[str, Any]]) -> None:
    world_ = _World()
    for what, value in script:
        world_.play(what, value)


@given(st.lists(happenings(), max_size=20))
@settings(max_examples=100, deadline=None)
def test_whatever_happened_it_comes_to_an_end(script: list[tuple[str, Any]]) -> None:
    """Left to itself everything is final within the time for an outcome, and nothing is asked of a host any more."""
    world_ = _World()
    for what, value in script:
        world_.play(what, value)
    for _ in range(2 * len(_NAMES) + 1):
        world_.play("wait", 200)
        world_.play("operator", "c")
    assert all(each.status.phase in FINAL for each in world_.view.switchovers)
    world_.play("operator", "c")
    assert all(seen.node.spec.switchover is None for seen in world_.view.nodes.values())
    assert at(world_.view, world_.now).wake is None


# ---------------------------------------------------------------------------- the history


def history(*records: Any, limit: int = 2, told_: tuple[str, ...] = (), silent: bool = False) -> list[str]:
    """The names of the records that would be deleted."""
    mine = pair(spec=msgspec.structs.replace(pair_spec(), failover_history_limit=limit))
    active = status("Active", incidents=tuple(incident(id_) for id_ in told_))
    nodes = written(snapshot(of=mine), (active, NodeStatus() if silent else status()))
    view = snapshot(of=mine, nodes=nodes, failovers=records)
    return [each.metadata.name.removeprefix("vmstore-") for each in told(view).trim]


def test_the_oldest_records_go() -> None:
    records = [failover(f"f{day}", days=day) for day in (3, 0, 4, 1, 2)]
    assert history(*records) == ["f4", "f3", "f2"]
    assert history(*records, limit=5) == []


def test_the_newest_and_the_unresolved_stay() -> None:
    records = [failover(f"f{day}", days=day, cause="Unknown") for day in (1, 2, 3, 8)]
    assert history(*records, limit=1) == ["f8"]
    assert history(failover("f0"), *records, limit=1) == ["f8"]
    assert history(failover("f9", days=9), limit=1) == []


def test_what_a_host_still_tells_of_stays_or_it_would_come_back() -> None:
    records = [failover(f"f{day}", days=day) for day in (1, 2, 3, 4)]
    assert history(*records, told_=("f4",)) == ["f3", "f2"]
    assert history(*records, silent=True) == [], "nobody knows what a host tells that has not reported yet"


def test_one_that_is_going_already_is_not_deleted_again() -> None:
    going = failover("f5", days=5, deletion_timestamp=moments.seconds(NOW))
    assert history(going, *(failover(f"f{day}", days=day) for day in (1, 2, 3))) == ["f3"]
